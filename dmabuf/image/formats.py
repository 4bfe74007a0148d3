"""Pixel formats: the one table of what DRM and V4L2 call them, and how they lie in memory.

Names are DRM's, and read as it does: XRGB8888 is a little-endian word with blue in its low bits, so
the bytes B, G, R, X; RGB888 is B, G, R. Where DRM has no name (Bayer, packed grey) they are V4L2's.

The two share most four-character codes, but not their meaning: "RG16" is RGB565 to DRM and SRGGB16
to V4L2, "BA12" is BGRA4444 and SGRBG12. So a code out of an ioctl goes to `from_drm` or
`from_v4l2`, and `pixel_format` refuses these two.

Follows include/uapi/drm/drm_fourcc.h, include/uapi/linux/videodev2.h and
Documentation/userspace-api/media/v4l/pixfmt*.rst.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from dmabuf._record import record


def fourcc(text: str) -> int:
    """Return a four-character code as DRM and V4L2 encode it; shorter ones end in spaces."""
    if len(text) > 4 or not text.isascii() or not text:
        raise ValueError(f"a fourcc is one to four ASCII characters, not {text!r}")
    return int.from_bytes(text.ljust(4).encode(), "little")


def fourcc_text(code: int) -> str:
    """Return a code as a driver's log shows it: 'NV12', or hexadecimal if it is no text."""
    try:
        text = operator.index(code).to_bytes(4, "little").decode("ascii")
    except (OverflowError, UnicodeDecodeError):
        return f"{code:#010x}"
    return repr(text) if text.isprintable() else f"{code:#010x}"


@record
class PlaneLayout(NamedTuple):
    """How one plane lies in memory, in groups: the least run of whole bytes that repeats in a row.

    As an array it is (rows, columns), or (rows, columns, channels) if there are several.
    """

    dtype: str = "u1"
    """Of the array's elements, little-endian."""
    channels: int = 1
    """Elements of the array's last axis."""
    across: int = 1
    """Pixels that a group covers in a row."""
    down: int = 1
    """Rows of pixels that a row of the plane covers."""
    columns: int = 1
    """Columns of the array in a group."""

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return int(self.dtype[-1])

    @property
    def group(self) -> int:
        """Bytes of a group."""
        return self.columns * self.channels * self.itemsize

    def shape(self, width: int, height: int) -> tuple[int, ...]:
        """Return the array's shape for an image of so many pixels; odd sizes round up."""
        rows, columns = -(-height // self.down), -(-width // self.across) * self.columns
        return (rows, columns) if self.channels == 1 else (rows, columns, self.channels)

    def row(self, width: int) -> int:
        """Return the bytes of a row, which are the least stride."""
        return -(-width // self.across) * self.group


@record
class Component(NamedTuple):
    """Where the values of one component are: red, luma, or a sensor's raw ones."""

    bits: int = 8
    shift: int = 0
    """The lowest bit's place in its element."""
    plane: int = 0
    channel: int = 0
    first: int = 0
    """The column of the first value, and from there each `step`."""
    step: int = 1


@record
class PixelFormat(NamedTuple):
    """One format: its names, its planes and where in them its components are.

    Compare and look them up by identity or by `name`; see `pixel_format`.
    """

    name: str
    """DRM's name without DRM_FORMAT_; V4L2's without V4L2_PIX_FMT_ where DRM has none."""
    drm: int | None
    """DRM's code; None if DRM has no such format."""
    v4l2: int | None
    """V4L2's code, all planes in one buffer."""
    v4l2_planar: int | None
    """V4L2's code with a buffer for each plane (NM12 for NV12)."""
    planes: tuple[PlaneLayout, ...]
    model: str
    """What the components are: "RGB", "YUV", "Y", or the first two rows of a Bayer mosaic."""
    components: tuple[Component, ...]
    """Of the model's letters, in its order; one for all of a Bayer mosaic."""

    def strides(self, width: int, stride: int | None = None) -> tuple[int, ...]:
        """Return the bytes from row to row of each plane: the least, without `stride`.

        `stride` is the first plane's, those of the others follow by sub-sampling: what V4L2 means
        by `bytesperline` where all planes are in one buffer.
        """
        if stride is None:
            return tuple(layout.row(width) for layout in self.planes)
        luma = self.planes[0]
        return tuple(
            -(-stride * layout.group * luma.across // (layout.across * luma.group))
            for layout in self.planes
        )

    def sizes(
        self, width: int, height: int, strides: int | Sequence[int] | None = None
    ) -> tuple[int, ...]:
        """Return the bytes of each plane, whole rows of `strides`; for a buffer a plane."""
        if not isinstance(strides, Sequence):
            strides = self.strides(width, strides)
        if len(strides) != len(self.planes):
            raise ValueError(f"{self} has {len(self.planes)} planes, not {len(strides)} strides")
        rows = (layout.shape(width, height)[0] for layout in self.planes)
        return tuple(map(operator.mul, rows, strides))

    def size(self, width: int, height: int, strides: int | Sequence[int] | None = None) -> int:
        """Return the bytes of a buffer that holds all planes, one after the other."""
        return sum(self.sizes(width, height, strides))

    def __repr__(self) -> str:
        return f"<PixelFormat {self.name}>"

    def __str__(self) -> str:
        return self.name


def pixel_format(spec: str | int | PixelFormat) -> PixelFormat:
    """Return a format by its name ("NV12", "I420"), or by a code of DRM's or V4L2's, text or int.

    ValueError if there is none, or if the two mean different formats by the code.
    """
    if isinstance(spec, PixelFormat):
        return spec
    if isinstance(spec, str):
        named = FORMATS.get(_ALIASES.get(spec, spec))
        if named is not None:
            return named
        code = fourcc(spec) if 0 < len(spec) <= 4 and spec.isascii() else -1
    else:
        code = operator.index(spec)
    drm, v4l2 = _BY_DRM.get(code), _BY_V4L2.get(code)
    if drm is not None and v4l2 is not None and drm is not v4l2:
        what = f"{fourcc_text(code)} is {drm} to DRM and {v4l2} to V4L2"
        raise ValueError(f"{what}; say which, by name, from_drm() or from_v4l2()")
    found = drm or v4l2
    if found is None:
        shown = repr(spec) if isinstance(spec, str) else fourcc_text(code)
        what = "give a name as DRM's (XRGB8888, NV12), or a code of DRM's or V4L2's"
        raise ValueError(f"no pixel format {shown} is known; {what}")
    return found


def from_drm(code: int) -> PixelFormat:
    """Return the format of a DRM code; ValueError if it is not in the table."""
    return _known(_BY_DRM, code, "DRM")


def from_v4l2(code: int) -> PixelFormat:
    """Return the format of a V4L2 code; ValueError if it is not in the table.

    Several codes can be one format: its planes in a buffer each (NM12 for NV12), and those that
    V4L2 has deprecated (BGR4 for XRGB8888, RGB4 for BGRX8888).
    """
    return _known(_BY_V4L2, code, "V4L2")


def _known(table: dict[int, PixelFormat], code: int, api: str) -> PixelFormat:
    found = table.get(operator.index(code))
    if found is None:
        raise ValueError(f"{api}'s pixel format {fourcc_text(code)} is not known")
    return found


def _format(
    name: str,
    codes: tuple[str | None, str | None, str | None],
    planes: tuple[PlaneLayout, ...],
    model: str,
    components: tuple[Component, ...],
) -> PixelFormat:
    drm, v4l2, planar = (fourcc(text) if text else None for text in codes)
    return PixelFormat(name, drm, v4l2, planar, planes, model, components)


def _rgb(order: str, bits: tuple[int, ...], drm: str, v4l2: str | None) -> PixelFormat:
    """Describe packed RGB by its components from the high bits to the low, as DRM names it."""
    low = dict(zip(order, (sum(bits[place + 1 :]) for place in range(len(bits))), strict=True))
    width = dict(zip(order, bits, strict=True))
    if set(bits) in ({8}, {16}):  # an element each
        layout = PlaneLayout("u1" if bits[0] == 8 else "<u2", len(bits))
        components = tuple(Component(bits[0], channel=low[c] // bits[0]) for c in "RGB")
    else:
        layout = PlaneLayout(f"<u{sum(bits) // 8}")
        components = tuple(Component(width[c], low[c]) for c in "RGB")
    name = order + "".join(map(str, bits))
    return _format(name, (drm, v4l2, None), (layout,), "RGB", components)


def _yuyv(order: str) -> PixelFormat:
    """Describe two pixels in four bytes: an array of (luma, chroma) pairs, or the reverse."""
    luma, blue, red = (order.index(letter) for letter in "YUV")
    components = (
        Component(channel=luma % 2),
        *(Component(channel=place % 2, first=place // 2, step=2) for place in (blue, red)),
    )
    layout = PlaneLayout(channels=2, across=2, columns=2)
    return _format(order, (order, order, None), (layout,), "YUV", components)


def _semi_planar(
    name: str, across: int, down: int, planar: str | None = None, *, bits: int = 8
) -> PixelFormat:
    """Describe a plane of luma and one of interleaved chroma; NV21, 61 and 42 have red first."""
    dtype, shift = ("u1", 0) if bits == 8 else ("<u2", 16 - bits)
    planes = PlaneLayout(dtype), PlaneLayout(dtype, channels=2, across=across, down=down)
    red = name in ("NV21", "NV61", "NV42")
    components = (
        Component(bits, shift),
        Component(bits, shift, plane=1, channel=int(red)),
        Component(bits, shift, plane=1, channel=int(not red)),
    )
    return _format(name, (name, name, planar), planes, "YUV", components)


def _planar(
    name: str, drm: str, v4l2: str | None, planar: str, across: int, down: int
) -> PixelFormat:
    chroma = PlaneLayout(across=across, down=down)
    blue, red = (1, 2) if name.startswith("YUV") else (2, 1)
    components = Component(), Component(plane=blue), Component(plane=red)
    codes = (drm, v4l2, planar)
    return _format(name, codes, (PlaneLayout(), chroma, chroma), "YUV", components)


def _raw(name: str, drm: str | None, v4l2: str, model: str, bits: int) -> PixelFormat:
    """Describe one value a pixel: grey or Bayer, in a byte, a word or (P) packed as MIPI CSI-2."""
    if name.endswith("P"):
        across = {10: 4, 12: 2}[bits]
        layout = PlaneLayout(across=across, columns=across * bits // 8)
    else:
        layout = PlaneLayout("u1" if bits == 8 else "<u2")
    return _format(name, (drm, v4l2, None), (layout,), model, (Component(bits),))


def _bayer(bits: int, packed: str, codes: Mapping[str, str]) -> Iterator[PixelFormat]:
    for order, v4l2 in codes.items():
        yield _raw(f"S{order}{bits}{packed}", None, v4l2, order, bits)


def _table() -> Iterator[PixelFormat]:
    yield _rgb("RGB", (5, 6, 5), "RG16", "RGBP")
    yield _rgb("BGR", (5, 6, 5), "BG16", None)
    yield _rgb("RGB", (8, 8, 8), "RG24", "BGR3")
    yield _rgb("BGR", (8, 8, 8), "BG24", "RGB3")
    for order in ("XRGB", "XBGR", "RGBX", "BGRX", "ARGB", "ABGR", "RGBA", "BGRA"):
        code = order[0] + order[1] if order[0] in "XA" else order[0] + order[3]
        last = order[0] not in "XA"
        ten = f"{code}30"
        yield _rgb(order, (4, 4, 4, 4), f"{code}12", "GA12" if order == "BGRA" else f"{code}12")
        yield _rgb(order, (5, 5, 5, 1) if last else (1, 5, 5, 5), f"{code}15", f"{code}15")
        yield _rgb(order, (8, 8, 8, 8), f"{code}24", f"{code}24")
        v4l2 = ten if ten in ("RX30", "RA30", "AR30") else None
        yield _rgb(order, (10, 10, 10, 2) if last else (2, 10, 10, 10), ten, v4l2)
        if not last:
            yield _rgb(order, (16, 16, 16, 16), f"{code}48", None)
    for order in ("YUYV", "YVYU", "UYVY", "VYUY"):
        yield _yuyv(order)
    yield _semi_planar("NV12", 2, 2, "NM12")
    yield _semi_planar("NV21", 2, 2, "NM21")
    yield _semi_planar("NV16", 2, 1, "NM16")
    yield _semi_planar("NV61", 2, 1, "NM61")
    yield _semi_planar("NV24", 1, 1)
    yield _semi_planar("NV42", 1, 1)
    yield _semi_planar("P010", 2, 2, bits=10)
    yield _planar("YUV420", "YU12", "YU12", "YM12", 2, 2)
    yield _planar("YVU420", "YV12", "YV12", "YM21", 2, 2)
    yield _planar("YUV422", "YU16", "422P", "YM16", 2, 1)
    yield _planar("YVU422", "YV16", None, "YM61", 2, 1)
    yield _planar("YUV444", "YU24", None, "YM24", 1, 1)
    yield _planar("YVU444", "YV24", None, "YM42", 1, 1)
    yield _raw("R8", "R8", "GREY", "Y", 8)
    for bits in (10, 12, 16):
        yield _raw(f"R{bits}", f"R{bits}", f"Y{bits}", "Y", bits)
    yield _raw("Y14", None, "Y14", "Y", 14)
    yield _raw("Y10P", None, "Y10P", "Y", 10)
    yield _raw("Y12P", None, "Y12P", "Y", 12)
    yield from _bayer(8, "", {"BGGR": "BA81", "GBRG": "GBRG", "GRBG": "GRBG", "RGGB": "RGGB"})
    yield from _bayer(10, "", {"BGGR": "BG10", "GBRG": "GB10", "GRBG": "BA10", "RGGB": "RG10"})
    yield from _bayer(12, "", {"BGGR": "BG12", "GBRG": "GB12", "GRBG": "BA12", "RGGB": "RG12"})
    yield from _bayer(14, "", {"BGGR": "BG14", "GBRG": "GB14", "GRBG": "GR14", "RGGB": "RG14"})
    yield from _bayer(16, "", {"BGGR": "BYR2", "GBRG": "GB16", "GRBG": "GR16", "RGGB": "RG16"})
    yield from _bayer(10, "P", {"BGGR": "pBAA", "GBRG": "pGAA", "GRBG": "pgAA", "RGGB": "pRAA"})
    yield from _bayer(12, "P", {"BGGR": "pBCC", "GBRG": "pGCC", "GRBG": "pgCC", "RGGB": "pRCC"})


FORMATS: Mapping[str, PixelFormat] = MappingProxyType({entry.name: entry for entry in _table()})
"""Every format by its name."""

_ALIASES = {"I420": "YUV420"}  # as GStreamer, FFmpeg and Windows have it
_DEPRECATED = {"BGR4": "XRGB8888", "RGB4": "BGRX8888", "R444": "XRGB4444", "RGBO": "XRGB1555"}

_BY_DRM = {entry.drm: entry for entry in FORMATS.values() if entry.drm is not None}
_BY_V4L2 = {
    code: entry
    for entry in FORMATS.values()
    for code in (entry.v4l2, entry.v4l2_planar)
    if code is not None
} | {fourcc(code): FORMATS[name] for code, name in _DEPRECATED.items()}
