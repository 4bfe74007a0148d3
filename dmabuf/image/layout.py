"""The memory layout of pixel formats: planes, components and four-character codes."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, SupportsIndex

from dmabuf._checked import whole, wholes
from dmabuf._record import record


def fourcc(text: str) -> int:
    """Return a four-character code as DRM and V4L2 encode it.

    A shorter text is padded with spaces. ValueError unless `text` is one to four ASCII characters.
    """
    if not isinstance(text, str):
        raise TypeError(f"a fourcc must be text, not {type(text).__name__}")
    if len(text) > 4 or not text.isascii() or not text:
        raise ValueError(f"a fourcc must be one to four ASCII characters, not {text!r}")
    return int.from_bytes(text.ljust(4).encode(), "little")


def fourcc_text(code: int) -> str:
    """Return a code as text, as drivers log it: 'NV12', or hexadecimal if not printable."""
    try:
        text = operator.index(code).to_bytes(4, "little").decode("ascii")
    except (OverflowError, UnicodeDecodeError):
        return f"{code:#010x}"
    return repr(text) if text.isprintable() else f"{code:#010x}"


def checked_pixels(width: SupportsIndex, height: SupportsIndex) -> tuple[int, int]:
    """Return an image's size as ints; TypeError or ValueError if it can't be one."""
    try:
        size = operator.index(width), operator.index(height)
    except TypeError:
        what = f"width and height must be whole numbers of pixels, not {width!r} and {height!r}"
        raise TypeError(what) from None
    if min(size) < 1:
        raise ValueError(f"an image must have at least one pixel, not {size[0]}x{size[1]}")
    return size


class Packing(Enum):
    """How values that do not fill whole bytes lie in a plane. The plane's array has the bytes.

        if layout.packing is not dmabuf.image.Packing.NONE:
            print("to_rgb() unpacks it")

    The member's value is the number of bytes after which the pattern repeats, if that is fixed.
    """

    NONE = 0
    """Each element of the array holds its own values."""
    MIPI = 1
    """First the high 8 bits of each value of a group, then all low bits, as MIPI CSI-2 defines."""
    WORDS_OF_3 = 3
    """Words of 3 bytes, filled from the low bits: two values of 12 bits."""
    WORDS_OF_4 = 4
    """Words of 4 bytes, filled from the low bits: three values of 10 bits, then 2 unused bits."""
    WORDS_OF_5 = 5
    """Words of 5 bytes, filled from the low bits: four values of 10 bits."""


@record
class PlaneLayout(NamedTuple):
    """The memory layout of one plane, in groups: a group is the shortest run of bytes that repeats.

        luma, chroma = dmabuf.image.FORMATS["NV12"].planes
        chroma.shape(640, 480)  # (240, 320, 2)
        chroma.row(640)  # 640 bytes

    The array of a plane is (rows, columns), or (rows, columns, channels) if it has several
    channels.
    """

    dtype: str = "u1"
    """The numpy type of the array's elements: little-endian, except for Y16_BE."""
    channels: int = 1
    """The length of the array's last axis; 1 if the array has only two axes."""
    across: int = 1
    """The number of pixels in a row that one group covers."""
    down: int = 1
    """The number of pixel rows that one row of the plane covers."""
    columns: int = 1
    """The number of array columns in one group."""
    packing: Packing = Packing.NONE
    """How values that do not fill whole bytes lie in it."""

    @property
    def itemsize(self) -> int:
        """The size of an element in bytes."""
        return int(self.dtype[-1])

    @property
    def group(self) -> int:
        """The size of a group in bytes."""
        return self.columns * self.channels * self.itemsize

    def values(self, bits: int) -> int:
        """Return the number of values of `bits` bits in a row of one group, per channel."""
        if self.packing is Packing.NONE:
            return self.columns
        word = self.columns if self.packing is Packing.MIPI else self.packing.value
        return self.columns // word * (word * 8 // bits)

    def shape(self, width: int, height: int) -> tuple[int, ...]:
        """Return the array's shape for an image size in pixels. Odd sizes round up."""
        rows, columns = -(-height // self.down), -(-width // self.across) * self.columns
        return (rows, columns) if self.channels == 1 else (rows, columns, self.channels)

    def row(self, width: int) -> int:
        """Return the size of a row of `width` pixels in bytes, the smallest stride."""
        return -(-width // self.across) * self.group


@record
class Component(NamedTuple):
    """Where the values of one component are, such as red, luma, or the raw values of a sensor.

        dmabuf.image.FORMATS["RGB565"].components[0]  # red: bits=5, shift=11

    An element of the plane's array holds the value `element >> shift & (1 << bits) - 1`. If the
    values are packed, `first` and `step` count values instead of columns.
    """

    bits: int = 8
    """The number of bits of a value."""
    shift: int = 0
    """The position of the value's lowest bit in its element."""
    plane: int = 0
    """The index of the plane."""
    channel: int = 0
    """The index in the array's last axis; 0 if the array has only two axes."""
    first: int = 0
    """The column of the first value."""
    step: int = 1
    """The distance from one value to the next, in columns."""


@record
class PixelFormat(NamedTuple):
    """A pixel format: its names, its planes, and the place of its components.

        nv12 = dmabuf.image.pixel_format("NV12")
        nv12.size(640, 480)  # 460800 bytes in one buffer
        nv12.sizes(640, 480)  # (307200, 153600), for a buffer per plane

    `pixel_format`, `from_drm` and `from_v4l2` look one up. `FORMATS` has all of them by name.
    """

    name: str
    """The DRM name without DRM_FORMAT_; without one, the V4L2 name without V4L2_PIX_FMT_."""
    drm: int | None
    """The DRM code; None if DRM has no such format."""
    v4l2: int | None
    """The V4L2 code for all planes in one buffer; None if V4L2 has no such format."""
    v4l2_planar: int | None
    """The V4L2 code for one buffer per plane (NM12 for NV12); None if there is none."""
    planes: tuple[PlaneLayout, ...]
    """The memory layout of each plane."""
    model: str
    """The components: "RGB", "YUV", "Y", or the first two rows of a Bayer mosaic, such as "RGGB".

    "C" stands for indices into a palette that is not in the buffer, and "" for an opaque format.
    """
    components: tuple[Component, ...]
    """The place of each component, in the order of `model`; a Bayer mosaic has one for all."""

    @property
    def opaque(self) -> bool:
        """True if only devices can read the pixels: the format is tiled or compressed."""
        return not self.components

    @property
    def subsampling(self) -> tuple[int, int]:
        """The number of pixels across and down for one chroma value; (1, 1) without chroma."""
        if self.model != "YUV":
            return 1, 1
        chroma = self.components[1]
        layout = self.planes[chroma.plane]
        return layout.across * chroma.step // layout.values(chroma.bits), layout.down

    def strides(self, width: int, stride: int | None = None) -> tuple[int, ...]:
        """Return the stride of each plane in bytes: the smallest ones, or those that fit `stride`.

        `stride` is that of the first plane. The others follow by sub-sampling, as with V4L2's
        `bytesperline` for all planes in one buffer.
        """
        width, _ = checked_pixels(width, 1)
        if stride is None:
            return tuple(layout.row(width) for layout in self.planes)
        stride = whole(stride, "a stride")
        luma = self.planes[0]
        return tuple(
            -(-stride * layout.group * luma.across // (layout.across * luma.group))
            for layout in self.planes
        )

    def aligned_strides(self, width: int, align: int) -> tuple[int, ...]:
        """Return the smallest stride of each plane that is a multiple of `align` bytes.

        If `align` is above 1, the strides follow from that of the first plane, as in `strides()`. A
        device that takes a single number (V4L2's `bytesperline`) can use them too. ValueError if
        `align` is below 1.
        """
        align = whole(align, "an alignment of rows")
        if align < 1:
            raise ValueError(f"rows must be aligned to 1 byte or more, not to {align}")
        least = self.strides(width)
        if align == 1:
            return least
        step = math.lcm(align, self.planes[0].itemsize)
        stride = -(-least[0] // step) * step
        while True:
            strides = self.strides(width, stride)
            pairs = zip(strides, least, strict=True)
            if all(given >= row and given % align == 0 for given, row in pairs):
                return strides
            stride += step

    def sizes(
        self, width: int, height: int, strides: int | Iterable[int] | None = None
    ) -> tuple[int, ...]:
        """Return the size of each plane in bytes, for one buffer per plane.

        `strides` is as in `Image`: None for the smallest, that of the first plane, or one per
        plane. The last row counts in full. ValueError for a stride that is shorter than a row, or
        an image without pixels.
        """
        width, height = checked_pixels(width, height)
        steps = (
            wholes(strides, "strides")
            if isinstance(strides, Iterable)
            else self.strides(width, strides)
        )
        if len(steps) != len(self.planes):
            raise ValueError(f"{self} has {len(self.planes)} planes, not {len(steps)} strides")
        for layout, stride in zip(self.planes, steps, strict=True):
            if stride < (row := layout.row(width)):
                raise ValueError(f"{self} needs a stride of at least {row} bytes, not {stride}")
        rows = (layout.shape(width, height)[0] for layout in self.planes)
        return tuple(map(operator.mul, rows, steps))

    def size(self, width: int, height: int, strides: int | Iterable[int] | None = None) -> int:
        """Return the size in bytes of one buffer that holds all planes, one after the other."""
        return sum(self.sizes(width, height, strides))

    def __repr__(self) -> str:
        return f"<PixelFormat {self.name}>"

    def __str__(self) -> str:
        return self.name
