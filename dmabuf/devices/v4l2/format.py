"""The formats of a V4L2 queue, and the images that they describe."""

from __future__ import annotations

import errno
import math
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from dmabuf._checked import whole
from dmabuf._record import record
from dmabuf.buffer import Buffer
from dmabuf.devices.v4l2 import _ioctl
from dmabuf.devices.v4l2.colorimetry import (
    Colorspace,
    Field,
    Quantization,
    TransferFunction,
    YCbCrEncoding,
    color_encoding,
    color_range,
)
from dmabuf.errors import RefusedError, os_error
from dmabuf.image import (
    ColorEncoding,
    ColorRange,
    Image,
    PixelFormat,
    fourcc,
    from_v4l2,
    pixel_format,
)

if TYPE_CHECKING:
    from fractions import Fraction

_LARGEST = 0xFFFFFFFF


@record
class FormatInfo(NamedTuple):
    """A pixel format that a queue supports, as `Queue.formats()` returns it.

        for offered in camera.formats():
            print(offered.fourcc, offered.description)

    `Queue.set_format()` takes its `format` or its `fourcc`.
    """

    format: PixelFormat | None
    """The pixel format; None if it is not in dmabuf's table, as compressed formats."""
    fourcc: str
    """The V4L2 code, such as "YUYV" or "NM12"."""
    description: str
    """The driver's description, for people."""
    compressed: bool
    """True if the data is compressed, so that frames differ in size."""
    emulated: bool
    """True if software, not the device, produces the format."""


@record
class FrameSize(NamedTuple):
    """A frame size that a format supports, or a range of sizes, in pixels.

        for size in camera.frame_sizes("YUYV"):
            print(size.max_width, size.max_height)

    `Queue.frame_sizes()` lists them.
    """

    min_width: int
    """The smallest width in pixels."""
    max_width: int
    """The largest width in pixels; the same as the smallest for a single size."""
    step_width: int
    """The difference between one width and the next, in pixels."""
    min_height: int
    """The smallest height in pixels."""
    max_height: int
    """The largest height in pixels; the same as the smallest for a single size."""
    step_height: int
    """The difference between one height and the next, in pixels."""


@record
class FrameRate(NamedTuple):
    """A frame rate that a format and size support, or a range of rates, in frames per second.

        for rate in camera.frame_rates("YUYV", 640, 360):
            print(rate.max_rate)

    `Queue.frame_rates()` lists them.
    """

    min_rate: float
    """The lowest rate in frames per second."""
    max_rate: float
    """The highest rate in frames per second; the same as the lowest for a single rate."""


@record
class Format(NamedTuple):
    """The format of a queue's frames, as the driver reports it.

        format = camera.set_format("XRGB8888", 640, 360)
        buffers = [dmabuf.allocate(format.sizeimage[0]) for _ in range(4)]

    `Queue.format()` and `Queue.set_format()` return it.
    """

    format: PixelFormat | None
    """The pixel format; None if it is not in dmabuf's table."""
    fourcc: str
    """The V4L2 code. It also says whether each plane has its own buffer: "NV12" (one buffer),
    "NM12" (two)."""
    width: int
    """The number of pixels in a row."""
    height: int
    """The number of rows in a frame."""
    sizeimage: tuple[int, ...]
    """The number of bytes that each buffer of a frame needs. Most formats have one buffer per
    frame."""
    bytesperline: tuple[int, ...]
    """The stride: the bytes from one row to the next, for the first plane in each buffer."""
    field: Field
    """The order of the lines; NONE for progressive frames."""
    colorspace: Colorspace
    """The colorspace, which defines the colours of the primaries."""
    ycbcr_enc: YCbCrEncoding
    """The encoding of R'G'B' as Y'CbCr; DEFAULT if the colorspace decides."""
    quantization: Quantization
    """The numeric range of the samples; DEFAULT if the colorspace decides."""
    xfer_func: TransferFunction
    """The transfer function, from light to numbers; DEFAULT if the colorspace decides."""

    @property
    def color_encoding(self) -> ColorEncoding | None:
        """The encoding of R'G'B' as Y'CbCr, with DEFAULT resolved; None for formats without Y'CbCr.

        BT.2020 with constant luminance, which no matrix can convert, is reported as BT2020.
        """
        if self.format is not None and self.format.model != "YUV":
            return None
        return color_encoding(self.colorspace, self.ycbcr_enc)

    @property
    def color_range(self) -> ColorRange | None:
        """The numeric range of the samples, with DEFAULT resolved; None if it is unknown.

        For grey and Bayer formats it is None unless the driver reports it. Most of them use all
        numbers.
        """
        model = "YUV" if self.format is None else self.format.model
        return color_range(self.colorspace, self.ycbcr_enc, self.quantization, model)

    def image(self, buffers: Sequence[Buffer], offsets: Sequence[int]) -> Image:
        """Return the image on a frame's buffers.

        `offsets` is where its data begins in each, in bytes.

        ValueError if the pixel format is not in dmabuf's table.
        """
        if self.format is None:
            raise ValueError(
                f"{self.fourcc} is not in dmabuf's table of pixel formats: use frame.data, or"
                " frame.buffers and frame.bytes_used, instead of frame.image"
            )
        size = self.width, self.height
        strides: int | tuple[int, ...] = self.bytesperline
        if len(buffers) == 1:
            strides = self.bytesperline[0]
            sizes = self.format.sizes(*size, strides)
            offsets = list(accumulate(sizes[:-1], initial=offsets[0]))
        return Image(
            buffers,
            self.format,
            *size,
            strides=strides,
            offsets=offsets,
            color_encoding=self.color_encoding,
            color_range=self.color_range,
        )


def list_formats(fd: int, kind: int) -> list[FormatInfo]:
    """Return the formats of a queue."""
    return [
        FormatInfo(
            _pixel_format(about.pixelformat),
            _code_text(about.pixelformat),
            about.description,
            bool(about.flags & _ioctl.V4L2_FMT_FLAG_COMPRESSED),
            bool(about.flags & _ioctl.V4L2_FMT_FLAG_EMULATED),
        )
        for about in _ioctl.enum_fmt(fd, kind)
    ]


def list_sizes(fd: int, kind: int, spec: str | int | PixelFormat) -> list[FrameSize]:
    """Return the sizes of a format; none if the driver doesn't list them."""
    return [FrameSize(*size) for size in _ioctl.enum_framesizes(fd, _code(fd, kind, spec))]


def list_rates(
    fd: int, kind: int, spec: str | int | PixelFormat, width: int, height: int
) -> list[FrameRate]:
    """Return the frame rates of a format and size; none if the driver doesn't list them."""
    code = _code(fd, kind, spec)
    times = _ioctl.enum_frameintervals(fd, code, *_checked_size(width, height))
    return [FrameRate(_rate(longest), _rate(shortest)) for shortest, longest in times]


def _rate(time: tuple[int, int]) -> float:
    numerator, denominator = time
    return denominator / numerator if numerator else 0.0


def read_format(fd: int, kind: int) -> Format:
    """Return a queue's format."""
    return _format(_ioctl.g_fmt(fd, kind))


def require_unchanged(expected: Format, fd: int, kind: int, path: str) -> None:
    """Raise RefusedError if a queue's frames are not any more what they are expected to be."""
    found = read_format(fd, kind)
    if _layout(found) != _layout(expected):
        what = f"{path} has {_layout(found)} now, and the stream is for {_layout(expected)}"
        remedy = "a set_format() or another program has changed it; set it, and make a new stream"
        raise RefusedError(errno.EINVAL, f"{what}: {remedy}")


def _layout(format: Format) -> str:
    """Return what decides where the pixels are."""
    sizes = " + ".join(map(str, format.sizeimage))
    strides = ", ".join(map(str, format.bytesperline))
    size = f"{format.width}x{format.height}"
    return f"{format.fourcc} {size} ({sizes} bytes, {strides} a row, {format.field.name})"


def set_format(
    fd: int, kind: int, spec: str | int | PixelFormat, width: int, height: int
) -> Format:
    """Set a queue's format, and return what the driver made of it."""
    width, height = _checked_size(width, height)
    code = _code(fd, kind, spec)
    found = _ioctl.s_fmt(fd, kind, code, width, height)
    if found.pixelformat != code:
        instead = f"the driver made {_code_text(found.pixelformat)} of it"
        raise os_error(errno.EINVAL, f"format {_code_text(code)} at {width}x{height}: {instead}")
    return _format(found)


def _checked_size(width: int, height: int) -> tuple[int, int]:
    """Return a size that a driver can be asked for; 0 makes it choose the least."""
    size = whole(width, "width"), whole(height, "height")
    if min(size) < 0 or max(size) > _LARGEST:
        raise ValueError(f"a frame has 0 to {_LARGEST} columns and rows, not {width}x{height}")
    return size


def time_per_frame(rate: float) -> Fraction:
    """Return the seconds from one frame to the next, as a fraction that a driver can be asked for.

    ValueError if it can't: of 32 bits each are its two numbers.
    """
    from fractions import Fraction

    try:
        exact = Fraction(float(rate)) if math.isfinite(rate) else Fraction(0)
    except OverflowError:  # a whole number beyond all floats
        exact = Fraction(0)
    except TypeError:
        kind = type(rate).__name__
        raise TypeError(f"a frame rate is a number of frames per second, not {kind}") from None
    if not Fraction(1, _LARGEST) <= exact <= _LARGEST:
        raise ValueError(
            f"a frame rate is a number of frames per second above 0, at most {_LARGEST}, not {rate}"
        )
    ratio = max(exact, 1 / exact)
    ratio = ratio.limit_denominator(min(1001, int(_LARGEST / ratio)))
    return 1 / ratio if exact > 1 else ratio


def _code(fd: int, kind: int, spec: str | int | PixelFormat) -> int:
    """Return the V4L2 code by which a queue offers a format. RefusedError if it doesn't.

    A format with all planes in one buffer is preferred to one with one buffer per plane.
    """
    wanted = _codes(spec)
    there = [about.pixelformat for about in _ioctl.enum_fmt(fd, kind)]
    for code in wanted:
        if code in there:
            return code
    names = ", ".join(map(_code_text, there))
    raise RefusedError(errno.EINVAL, f"the device has no format {spec}; it has {names}")


def _codes(spec: str | int | PixelFormat) -> list[int]:
    """Return the V4L2 codes that a format may be offered by, the preferred one first."""
    if isinstance(spec, int) and not isinstance(spec, bool):
        return [spec]
    if not isinstance(spec, str | PixelFormat):
        raise TypeError(f"a format is a name, a PixelFormat or V4L2's code, not {spec!r}")
    exact = _text_code(spec) if isinstance(spec, str) else None
    if exact is not None and (known := _pixel_format(exact)) and exact == known.v4l2_planar:
        return [exact]  # NM12 stands for itself
    try:
        found = pixel_format(spec)
    except ValueError:
        if exact is None:
            raise
        return [exact]  # what is not in the table, such as MJPG, and what DRM reads otherwise
    return [code for code in (exact, found.v4l2, found.v4l2_planar) if code is not None]


def _text_code(text: str) -> int | None:
    """Return the code that a text is, as `_code_text` writes it; None if it can't be one."""
    big_endian = text.endswith("-BE")
    try:
        return fourcc(text.removesuffix("-BE")) | big_endian << 31
    except ValueError:
        return None


def _format(found: _ioctl.PixFormat) -> Format:
    sizeimage, bytesperline = zip(*found.planes, strict=True)
    return Format(
        _pixel_format(found.pixelformat),
        _code_text(found.pixelformat),
        found.width,
        found.height,
        sizeimage,
        bytesperline,
        Field(found.field),
        Colorspace(found.colorspace),
        YCbCrEncoding(found.ycbcr_enc),
        Quantization(found.quantization),
        TransferFunction(found.xfer_func),
    )


def _pixel_format(code: int) -> PixelFormat | None:
    try:
        return from_v4l2(code)
    except ValueError:
        return None


def _code_text(code: int) -> str:
    """Return a code as V4L2's tools show it: big-endian ones, with the high bit set, end in -BE."""
    text = (code & 0x7FFFFFFF).to_bytes(4, "little").decode("latin-1").rstrip()
    return f"{text}-BE" if code >> 31 else text
