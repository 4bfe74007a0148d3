"""The formats of a V4L2 queue, negotiated with its driver, and the pictures that they describe."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from dmabuf._record import record
from dmabuf.devices.v4l2 import _ioctl
from dmabuf.errors import RefusedError, os_error
from dmabuf.image import Image, PixelFormat, from_v4l2, pixel_format

if TYPE_CHECKING:
    from dmabuf.buffer import Buffer


@record
class FormatInfo(NamedTuple):
    """A pixel format that a queue offers."""

    format: PixelFormat | None
    """The pixel format; None if it is not in dmabuf's table, as compressed ones are."""
    fourcc: str
    """V4L2's code of it: "YUYV", "NM12"."""
    description: str
    """The driver's words."""
    compressed: bool
    """Whether frames differ in size."""
    emulated: bool
    """Whether software converts it, and not the device."""


@record
class FrameSize(NamedTuple):
    """A size of frames that goes with a format, or a range of sizes; in pixels."""

    min_width: int
    max_width: int
    step_width: int
    min_height: int
    max_height: int
    step_height: int


@record
class Format(NamedTuple):
    """What a queue's frames are, as the driver has it."""

    format: PixelFormat | None
    """The pixel format; None if it is not in dmabuf's table."""
    fourcc: str
    """V4L2's code of it, which also says whether planes have a buffer each: "NV12", "NM12"."""
    width: int
    """Pixels in a row."""
    height: int
    """Rows."""
    sizeimage: tuple[int, ...]
    """The bytes that each buffer of a frame needs; most frames have one buffer."""
    bytesperline: tuple[int, ...]
    """The bytes from one row to the next, of the first plane in each buffer."""
    field: int
    """V4L2_FIELD: 1 if frames are progressive."""
    colorspace: int
    """V4L2_COLORSPACE; the next three are 0 where this one decides."""
    ycbcr_enc: int
    """V4L2_YCBCR_ENC."""
    quantization: int
    """V4L2_QUANTIZATION."""
    xfer_func: int
    """V4L2_XFER_FUNC."""

    def image(self, buffers: Sequence[Buffer], offsets: Sequence[int]) -> Image:
        """Return the picture on a frame's buffers; its data begins at these bytes of them.

        ValueError if the pixel format is not in dmabuf's table.
        """
        if self.format is None:
            what = f"{self.fourcc} is not in dmabuf's table of pixel formats: there is no Image of"
            raise ValueError(f"{what} it; use the frame's buffers and bytes_used")
        size = self.width, self.height
        strides: int | tuple[int, ...] = self.bytesperline
        if len(buffers) == 1:
            strides = self.bytesperline[0]
            sizes = self.format.sizes(*size, strides)
            offsets = list(accumulate(sizes[:-1], initial=offsets[0]))
        return Image(buffers, self.format, *size, strides=strides, offsets=offsets)


def offered(fd: int, kind: int) -> list[FormatInfo]:
    """Return the formats of a queue."""
    return [
        FormatInfo(
            _known(about.pixelformat),
            _text(about.pixelformat),
            about.description,
            bool(about.flags & _ioctl.V4L2_FMT_FLAG_COMPRESSED),
            bool(about.flags & _ioctl.V4L2_FMT_FLAG_EMULATED),
        )
        for about in _ioctl.enum_fmt(fd, kind)
    ]


def sizes(fd: int, kind: int, spec: str | int | PixelFormat) -> list[FrameSize]:
    """Return the sizes of a format; none if the driver doesn't list them."""
    return [FrameSize(*size) for size in _ioctl.enum_framesizes(fd, _code(fd, kind, spec))]


def current(fd: int, kind: int) -> Format:
    """Return a queue's format."""
    return _format(_ioctl.g_fmt(fd, kind))


def negotiated(
    fd: int, kind: int, spec: str | int | PixelFormat, width: int, height: int
) -> Format:
    """Set a queue's format and return what the driver made of it: the size may be another."""
    code = _code(fd, kind, spec)
    found = _ioctl.s_fmt(fd, kind, code, width, height)
    if found.pixelformat != code:
        instead = f"the driver made {_text(found.pixelformat)} of it"
        raise os_error(errno.EINVAL, f"format {_text(code)} at {width}x{height}: {instead}")
    return _format(found)


def _code(fd: int, kind: int, spec: str | int | PixelFormat) -> int:
    """Return the V4L2 code by which a queue offers a format; RefusedError if it doesn't.

    All planes in one buffer are preferred to a buffer each, which a code alone can ask for.
    """
    wanted = _codes(spec)
    there = [about.pixelformat for about in _ioctl.enum_fmt(fd, kind)]
    for code in wanted:
        if code in there:
            return code
    names = ", ".join(map(_text, there))
    text = f"the device has no format {spec}; it has {names}"
    raise RefusedError(errno.EINVAL, text)


def _codes(spec: str | int | PixelFormat) -> list[int]:
    if isinstance(spec, int) and not isinstance(spec, bool):
        return [spec]
    if not isinstance(spec, str | PixelFormat):
        raise TypeError(f"a format is a name, a PixelFormat or V4L2's code, not {spec!r}")
    if isinstance(spec, str) and len(spec) == 4 and spec.isascii():
        code = int.from_bytes(spec.encode(), "little")
        known = _known(code)
        # NM12 stands for itself, and so does what is not in the table, such as MJPG.
        if known is None or code == known.v4l2_planar:
            return [code]
    found = pixel_format(spec)
    return [code for code in (found.v4l2, found.v4l2_planar) if code is not None]


def _format(found: _ioctl.PixFormat) -> Format:
    sizeimage, bytesperline = zip(*found.planes, strict=True)
    return Format(
        _known(found.pixelformat),
        _text(found.pixelformat),
        found.width,
        found.height,
        sizeimage,
        bytesperline,
        found.field,
        found.colorspace,
        found.ycbcr_enc,
        found.quantization,
        found.xfer_func,
    )


def _known(code: int) -> PixelFormat | None:
    try:
        return from_v4l2(code)
    except ValueError:
        return None


def _text(code: int) -> str:
    """Return a code as V4L2's tools show it: big-endian ones, with the high bit set, end in -BE."""
    text = (code & 0x7FFFFFFF).to_bytes(4, "little").decode("latin-1").rstrip()
    return f"{text}-BE" if code >> 31 else text
