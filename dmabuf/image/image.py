"""Images: what the bytes of one buffer, or of one a plane, are as pixels."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dmabuf._fd import HoldUsedError
from dmabuf._ioctl import SYNC_READ, SYNC_RW, SYNC_WRITE
from dmabuf._record import record
from dmabuf.access import AccessScope, abandon
from dmabuf.buffer import Buffer
from dmabuf.image.formats import PixelFormat, pixel_format

if TYPE_CHECKING:
    import numpy

LINEAR = 0
"""DRM_FORMAT_MOD_LINEAR: rows one after the other, `stride` bytes apart."""


@record
class Plane(NamedTuple):
    """Where one plane of an image is."""

    buffer: Buffer
    offset: int
    """The byte of the buffer at which it starts."""
    stride: int
    """The bytes from one row to the next."""
    width: int
    """The columns of its array: samples, or bytes of a packed format."""
    height: int
    """Its rows."""


class Image:
    """Pixels in a buffer, or in one buffer a plane. Borrows its buffers: it closes none.

    `format` is what `pixel_format` takes, `width` and `height` are pixels. `strides` and `offsets`
    are bytes, one for each plane; a single stride is the first plane's, and those of the others
    follow (V4L2's bytesperline). The default is the least stride, and planes one after the other in
    each buffer. Two planes may overlap. ValueError if a plane would reach outside of its buffer.

    `modifier` is DRM's: any but LINEAR is for devices alone. Of its planes only the offset is
    checked, and the processor gets no access.
    """

    __slots__ = ("_buffers", "_format", "_height", "_modifier", "_planes", "_width")

    def __init__(
        self,
        buffer: Buffer | Sequence[Buffer],
        format: str | int | PixelFormat,
        width: int,
        height: int,
        *,
        strides: int | Sequence[int] | None = None,
        offsets: Sequence[int] | None = None,
        modifier: int = LINEAR,
    ) -> None:
        self._format = pixel_format(format)
        self._width, self._height = operator.index(width), operator.index(height)
        if self._width < 1 or self._height < 1:
            raise ValueError(f"an image has at least one pixel, not {width}x{height}")
        self._modifier = operator.index(modifier)
        if not 0 <= self._modifier < 1 << 64:
            raise ValueError(f"a modifier has 64 bits: {modifier}")
        owners = self._one_a_plane(buffer)
        self._buffers = tuple(dict.fromkeys(owners))
        self._planes = self._placed(owners, self._strides(strides), offsets)

    def _one_a_plane(self, buffer: Buffer | Sequence[Buffer]) -> list[Buffer]:
        """Return the buffer of each plane; the same memory is the same object."""
        given = [buffer] if isinstance(buffer, Buffer) else list(buffer)
        for owner in given:
            if not isinstance(owner, Buffer):
                kind = type(owner).__name__
                raise TypeError(f"an image is on a dmabuf.Buffer, or one a plane, not {kind}")
            owner.fileno()  # ValueError if it is closed
        count = len(self._format.planes)
        if len(given) not in (1, count):
            wanted = "one buffer" if count == 1 else f"one buffer, or {count}"
            raise ValueError(f"{self._format} wants {wanted}, not {len(given)}")
        first = dict(zip(reversed(given), reversed(given), strict=True))
        return [first[owner] for owner in (given * count)[:count]]

    def _strides(self, strides: int | Sequence[int] | None) -> list[int]:
        if strides is None:
            return list(self._format.strides(self._width))
        if isinstance(strides, Sequence):
            return self._for_each_plane("strides", strides)
        return list(self._format.strides(self._width, operator.index(strides)))

    def _for_each_plane(self, what: str, values: Sequence[int]) -> list[int]:
        numbers = [operator.index(value) for value in values]
        if len(numbers) != len(self._format.planes):
            planes = f"{self._format} has {len(self._format.planes)} planes"
            raise ValueError(f"{planes}, not {len(numbers)} {what}")
        return numbers

    def _placed(
        self, owners: list[Buffer], strides: list[int], offsets: Sequence[int] | None
    ) -> tuple[Plane, ...]:
        given = None if offsets is None else self._for_each_plane("offsets", offsets)
        ends = dict.fromkeys(owners, 0)
        planes = []
        for index, (owner, stride) in enumerate(zip(owners, strides, strict=True)):
            offset = ends[owner] if given is None else given[index]
            rows, columns = self._shape(index)[:2]
            plane = Plane(owner, offset, stride, columns, rows)
            self._check(index, plane)
            planes.append(plane)
            ends[owner] = offset + stride * rows
        return tuple(planes)

    def _shape(self, index: int) -> tuple[int, ...]:
        return self._format.planes[index].shape(self._width, self._height)

    def _check(self, index: int, plane: Plane) -> None:
        """Raise ValueError unless a plane is inside of its buffer."""
        what = f"plane {index} of {self._format} {self._width}x{self._height}"
        layout = self._format.planes[index]
        has = f"its buffer has 0 to {plane.buffer.size}"
        if self._modifier != LINEAR:
            if plane.stride < 0 or not 0 <= plane.offset < plane.buffer.size:
                where = f"stride {plane.stride}, offset {plane.offset}"
                raise ValueError(f"{what} can't be at {where}; {has}")
            return
        row = layout.row(self._width)
        if plane.stride < row:
            raise ValueError(f"{what} wants a stride of at least {row} bytes, not {plane.stride}")
        for name, value in (("stride", plane.stride), ("offset", plane.offset)):
            if value % layout.itemsize:
                wants = f"a {name} that {layout.itemsize} divides"
                raise ValueError(f"{what} wants {wants}, not {value}")
        end = plane.offset + (plane.height - 1) * plane.stride + row
        if plane.offset < 0 or end > plane.buffer.size:
            raise ValueError(f"{what} needs bytes {plane.offset} to {end}; {has}")

    @property
    def format(self) -> PixelFormat:
        """The pixel format."""
        return self._format

    @property
    def width(self) -> int:
        """Pixels in a row."""
        return self._width

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return self._height

    @property
    def modifier(self) -> int:
        """DRM's modifier: 0 is linear."""
        return self._modifier

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Where each plane is."""
        return self._planes

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The distinct buffers, in the order of the planes."""
        return self._buffers

    def read(self) -> ImageScope:
        """Return a scope in which the processor reads: `with image.read() as planes`.

        It gives a tuple of numpy arrays, one a plane, without a copy and read-only: (rows, columns)
        of "u1", "<u2" or "<u4", or (rows, columns, channels). So XRGB8888 is (h, w, 4) with blue
        first, RGB565 (h, w) of "<u2", NV12 (h, w) and (h/2, w/2, 2), YUYV (h, w, 2) with luma first
        (as OpenCV has it), SRGGB10P (h, w*5/4); sub-sampled sizes round up.

        Every distinct buffer has its bracket of one access, as `Buffer.read` has. The arrays keep
        their memory, whatever is closed. ValueError if the modifier isn't linear.
        """
        return ImageScope(self, SYNC_READ)

    def write(self) -> ImageScope:
        """Return a scope in which the processor overwrites every plane; see `Buffer.write`."""
        return ImageScope(self, SYNC_WRITE)

    def read_write(self) -> ImageScope:
        """Return a scope in which the processor reads and writes; see `Buffer.read_write`."""
        return ImageScope(self, SYNC_RW)

    def to_rgb(
        self, *, matrix: Literal["bt601", "bt709"] = "bt601", full_range: bool = False
    ) -> numpy.ndarray[Any, Any]:
        """Return a copy as (height, width, 3) of "u1", for looking at; reads in a scope of its own.

        `matrix` and `full_range` say what YUV is: by default BT.601 and limited range (luma 16 to
        235), which is V4L2's for sRGB and what cameras and decoders of standard definition give;
        high definition is "bt709". RGB, grey and Bayer are full range. Chroma is that of the
        nearest sample, a Bayer mosaic is interpolated bilinearly, deeper samples are scaled, alpha
        is left out. Each value is that of exact arithmetic, rounded once (halves up). ValueError if
        the modifier isn't linear.
        """
        from dmabuf.image import _rgb

        if matrix not in _rgb.MATRICES:
            raise ValueError(f"matrix must be one of {', '.join(_rgb.MATRICES)}, not {matrix!r}")
        with self.read() as planes:
            return _rgb.to_rgb(self._format, planes, self._width, self._height, matrix, full_range)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        matrix: Literal["bt601", "bt709"] = "bt601",
        full_range: bool = False,
    ) -> None:
        """Write `to_rgb()` to a file, in the format that its name ends in: `image.save("a.png")`.

        Needs Pillow, the extra "image": ImportError. ValueError for an ending that it can't write.
        """
        try:
            from PIL import Image as pillow
        except ImportError as error:
            raise ImportError("Image.save() needs Pillow: pip install dmabuf[image]") from error
        pillow.fromarray(self.to_rgb(matrix=matrix, full_range=full_range)).save(path)

    def __repr__(self) -> str:
        about = f"{self._format} {self._width}x{self._height}"
        if self._modifier != LINEAR:
            about += f" modifier={self._modifier:#x}"
        inodes = ",".join(str(buffer.inode) for buffer in self._buffers)
        return f"<dmabuf.Image {about} inode={inodes}>"


class ImageScope:
    """The brackets of one access on all buffers of an image. Single use.

    Each has its END, also when the body raises, and when another buffer's START or END fails.
    """

    __slots__ = ("_image", "_scopes")

    def __init__(self, image: Image, bits: int) -> None:
        if image.modifier != LINEAR:
            what = f"{image!r} isn't linear: only devices that know its modifier know where its"
            raise ValueError(f"{what} pixels are; have one copy it to a linear image")
        self._image = image
        self._scopes = {buffer: AccessScope(buffer, bits) for buffer in image.buffers}

    def __enter__(self) -> tuple[numpy.ndarray[Any, Any], ...]:
        """Wait for the fences that stand in the way, and give the planes."""
        from dmabuf._array import array_on

        scopes, image = self._scopes, self._image
        try:
            memories = {buffer: scopes[buffer].__enter__() for buffer in scopes}
            arrays = []
            for index, plane in enumerate(image.planes):
                layout, shape = image.format.planes[index], image._shape(index)
                strides = (plane.stride, layout.channels * layout.itemsize, layout.itemsize)
                memory = memories[plane.buffer]
                arrays.append(
                    array_on(memory, shape, layout.dtype, plane.offset, strides[: len(shape)])
                )
            return tuple(arrays)
        except HoldUsedError:
            raise  # by somebody else, whose access goes on
        except BaseException:
            self._abandon()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Issue END on every buffer."""
        try:
            for scope in self._scopes.values():
                scope.__exit__()
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """End what is open, wherever `__enter__` or `__exit__` was left."""
        for scope in self._scopes.values():
            abandon(scope)
