"""How the pixels of a format lie in memory: planes, components and four-character codes."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, SupportsIndex

from dmabuf._checked import whole, wholes
from dmabuf._record import record


def fourcc(text: str) -> int:
    """Return a four-character code as DRM and V4L2 encode it. Shorter texts are filled by spaces.

    ValueError unless `text` is one to four ASCII characters.
    """
    if not isinstance(text, str):
        raise TypeError(f"a fourcc is text, not {type(text).__name__}")
    if len(text) > 4 or not text.isascii() or not text:
        raise ValueError(f"a fourcc is one to four ASCII characters, not {text!r}")
    return int.from_bytes(text.ljust(4).encode(), "little")


def fourcc_text(code: int) -> str:
    """Return a code as a driver's log shows it: 'NV12', or hexadecimal if it is not printable."""
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
        raise ValueError(f"an image has at least one pixel, not {size[0]}x{size[1]}")
    return size


class Packing(Enum):
    """How values that are no whole bytes lie in the bytes of a plane, whose array has these bytes.

        if layout.packing is not dmabuf.image.Packing.NONE:
            print("to_rgb() unpacks it")

    The member's value is the number of bytes in which such values repeat, where that is fixed.
    """

    NONE = 0
    """Each element of the array holds its values by itself."""
    MIPI = 1
    """First the high 8 bits of each value of a group, then all low bits: MIPI CSI-2."""
    WORDS_OF_3 = 3
    """Words of 3 bytes, filled from the low bits: two values of 12 bits."""
    WORDS_OF_4 = 4
    """Words of 4 bytes, filled from the low bits: three values of 10 bits, and 2 bits unused."""
    WORDS_OF_5 = 5
    """Words of 5 bytes, filled from the low bits: four values of 10 bits."""


@record
class PlaneLayout(NamedTuple):
    """How one plane lies in memory, in groups: a group is the shortest run of bytes that repeats.

    As an array a plane is (rows, columns), or (rows, columns, channels) if it has several channels.

        luma, chroma = dmabuf.image.FORMATS["NV12"].planes
        chroma.shape(640, 480)  # (240, 320, 2)
        chroma.row(640)  # 640 bytes
    """

    dtype: str = "u1"
    """The numpy type of the array's elements; little-endian but for Y16_BE."""
    channels: int = 1
    """The length of the array's last axis; 1 if the array has only two axes."""
    across: int = 1
    """How many pixels of a row one group covers."""
    down: int = 1
    """How many rows of pixels one row of the plane covers."""
    columns: int = 1
    """How many columns of the array one group has."""
    packing: Packing = Packing.NONE
    """How values that are no whole bytes lie in it."""

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return int(self.dtype[-1])

    @property
    def group(self) -> int:
        """Bytes per group."""
        return self.columns * self.channels * self.itemsize

    def values(self, bits: int) -> int:
        """Return how many values of so many bits a row of one group has, in each channel."""
        if self.packing is Packing.NONE:
            return self.columns
        word = self.columns if self.packing is Packing.MIPI else self.packing.value
        return self.columns // word * (word * 8 // bits)

    def shape(self, width: int, height: int) -> tuple[int, ...]:
        """Return the array's shape for an image of this size in pixels. Odd sizes round up."""
        rows, columns = -(-height // self.down), -(-width // self.across) * self.columns
        return (rows, columns) if self.channels == 1 else (rows, columns, self.channels)

    def row(self, width: int) -> int:
        """Return the bytes of a row of `width` pixels: the least stride."""
        return -(-width // self.across) * self.group


@record
class Component(NamedTuple):
    """Where the values of one component are: of red, luma, or a sensor's raw values.

        dmabuf.image.FORMATS["RGB565"].components[0]  # red: bits=5, shift=11

    An element of the plane's array has the value `element >> shift & (1 << bits) - 1`. Where values
    are packed, `first` and `step` count values.
    """

    bits: int = 8
    """Bits per value."""
    shift: int = 0
    """The position of the value's lowest bit in its element."""
    plane: int = 0
    """The index of the plane."""
    channel: int = 0
    """The index in the array's last axis; 0 if the array has only two axes."""
    first: int = 0
    """The column of the first value."""
    step: int = 1
    """The distance in columns from one value to the next."""


@record
class PixelFormat(NamedTuple):
    """A pixel format: its names, its planes, and where its components are in them.

    `pixel_format`, `from_drm` and `from_v4l2` look formats up; `FORMATS` has all of them by name.

        nv12 = dmabuf.image.pixel_format("NV12")
        nv12.size(640, 480)  # 460800 bytes in one buffer
        nv12.sizes(640, 480)  # (307200, 153600), for a buffer per plane
    """

    name: str
    """DRM's name without DRM_FORMAT_; V4L2's without V4L2_PIX_FMT_ where DRM has none."""
    drm: int | None
    """DRM's code; None if DRM has no such format."""
    v4l2: int | None
    """V4L2's code with all planes in one buffer; None if V4L2 has no such format."""
    v4l2_planar: int | None
    """V4L2's code with one buffer per plane (NM12 for NV12); None if it has none."""
    planes: tuple[PlaneLayout, ...]
    """How each plane lies in memory."""
    model: str
    """What the components are: "RGB", "YUV", "Y", or the first two rows of a Bayer mosaic.

    "C" of indices into a palette, which is elsewhere; "" of pixels whose place is not described."""
    components: tuple[Component, ...]
    """Where each component is, in the model's order; a Bayer mosaic has one for all colours."""

    @property
    def opaque(self) -> bool:
        """Whether only devices know where the pixels are: in tiles of a V4L2 format, compressed."""
        return not self.components

    @property
    def subsampling(self) -> tuple[int, int]:
        """How many pixels across and down share one value of chroma; (1, 1) without chroma."""
        if self.model != "YUV":
            return 1, 1
        chroma = self.components[1]
        layout = self.planes[chroma.plane]
        return layout.across * chroma.step // layout.values(chroma.bits), layout.down

    def strides(self, width: int, stride: int | None = None) -> tuple[int, ...]:
        """Return the bytes from row to row of each plane: the least ones, or those for `stride`.

        `stride` is the first plane's. Those of the others follow by sub-sampling, as with V4L2's
        `bytesperline` where all planes are in one buffer.
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
        """Return the least strides that `align` bytes divide, in every plane.

        Where `align` is above 1 the first plane's stride gives the others, as in `strides()`, so
        that a device that takes a single number (V4L2's `bytesperline`) can use them too.
        ValueError if `align` is below 1.
        """
        align = whole(align, "an alignment of rows")
        if align < 1:
            raise ValueError(f"rows are aligned to 1 byte or more, not to {align}")
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
        """Return the bytes of each plane, as whole rows of `strides`: one buffer's size per plane.

        `strides` is as in `Image`: None for the least, the first plane's, or one per plane.
        ValueError for a stride that is shorter than its row, or an image without a pixel.
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
                raise ValueError(f"{self} has rows of at least {row} bytes, not of {stride}")
        rows = (layout.shape(width, height)[0] for layout in self.planes)
        return tuple(map(operator.mul, rows, steps))

    def size(self, width: int, height: int, strides: int | Iterable[int] | None = None) -> int:
        """Return the bytes of a buffer that holds all planes, one after the other."""
        return sum(self.sizes(width, height, strides))

    def __repr__(self) -> str:
        return f"<PixelFormat {self.name}>"

    def __str__(self) -> str:
        return self.name
