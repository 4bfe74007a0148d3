"""Images: the pixels in one buffer, or in one buffer per plane."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from dmabuf import exporters
from dmabuf._checked import whole
from dmabuf._closing import Closing
from dmabuf._ioctl import SYNC_READ, SYNC_RW, SYNC_WRITE
from dmabuf.buffer import Buffer, checked_name
from dmabuf.image.colors import (
    ColorEncoding,
    ColorRange,
    Encoding,
    Range,
    checked_encoding,
    checked_range,
)
from dmabuf.image.formats import LINEAR, pixel_format
from dmabuf.image.layout import PixelFormat, checked_pixels
from dmabuf.image.planes import Plane, place_planes
from dmabuf.image.scope import ImageScope

if TYPE_CHECKING:
    import numpy

_Image = TypeVar("_Image", bound="Image")


class Image(Closing):
    """Pixels in a buffer, or in one buffer per plane.

        with dmabuf.Image.allocate("NV12", 640, 480) as image:
            with image.write() as (luma, chroma):  # numpy arrays, no copy
                luma[:] = 16
                chroma[:] = 128
            image.save("frame.png")

    `Image.allocate` makes an image that owns its buffer and closes it. `Image(buffer, …)` borrows
    the buffers, and their owner closes them. An image is immutable. Thread-safe.
    """

    __slots__ = (
        "_buffers",
        "_closed",
        "_color_encoding",
        "_color_range",
        "_owned",
        "_places",
    )

    def __init__(
        self,
        buffer: Buffer | Sequence[Buffer],
        format: str | int | PixelFormat,
        width: int,
        height: int,
        *,
        strides: int | Iterable[int] | None = None,
        offsets: Iterable[int] | None = None,
        modifier: int = LINEAR,
        color_encoding: Encoding = None,
        color_range: Range = None,
    ) -> None:
        """Describe the pixels in one buffer, or in a sequence of one buffer per plane.

        `format` is what `pixel_format` takes. `width` and `height` are in pixels. `strides` and
        `offsets` are in bytes, one per plane. A single stride is that of the first plane, and those
        of the others follow from it (V4L2's bytesperline). By default strides are as small as
        possible, and planes follow each other in each buffer. Two planes may overlap. ValueError if
        a plane would reach outside of its buffer.

        `modifier` is a DRM modifier. With any other than LINEAR only devices can access the pixels,
        and only the offset of each plane is checked.

        `color_encoding` and `color_range` are a `ColorEncoding` ("bt709") and a `ColorRange`
        ("full"), if they are known; see `to_rgb`.
        """
        self._owned: tuple[Buffer, ...] = ()
        self._closed = False
        layout = pixel_format(format)
        size = checked_pixels(width, height)
        modifier = whole(modifier, "modifier")
        if not 0 <= modifier < 1 << 64:
            raise ValueError(f"a modifier must be from 0 to 2**64 - 1, not {modifier}")
        self._color_encoding = checked_encoding(color_encoding)
        self._color_range = checked_range(color_range)
        self._buffers, self._places = place_planes(layout, size, buffer, strides, offsets, modifier)

    @classmethod
    def allocate(
        cls: type[_Image],
        format: str | int | PixelFormat,
        width: int,
        height: int,
        *,
        stride_align: int = 1,
        name: str | None = None,
        allocate: Callable[..., Buffer] = exporters.allocate,
        color_encoding: Encoding = None,
        color_range: Range = None,
    ) -> _Image:
        """Allocate a buffer for an image. The image owns it: `close()` and `with` close both.

        All planes are in one buffer, one after the other. Every stride and offset is a multiple of
        `stride_align` bytes; see `PixelFormat.aligned_strides`. `name` is the buffer's name.
        `allocate` is a callable that takes `(size, name=name)` and returns a `Buffer`, such as
        `heap.allocate` or `udmabuf.allocate`. The colours are as in `Image`.

        ValueError or TypeError for wrong arguments, before anything is allocated. AllocationError
        if there is not enough memory. A buffer that is too small for the image is closed:
        ValueError.
        """
        layout = pixel_format(format)
        width, height = checked_pixels(width, height)
        strides = layout.aligned_strides(width, whole(stride_align, "stride_align"))
        if name is not None:
            checked_name(name)
        if not callable(allocate):
            raise TypeError(f"allocate must be callable, not {type(allocate).__name__}")
        colors = checked_encoding(color_encoding), checked_range(color_range)
        buffer = allocate(layout.size(width, height, strides), name=name)
        try:
            if not isinstance(buffer, Buffer):
                kind = type(buffer).__name__
                raise TypeError(f"allocate must return a dmabuf.Buffer, not {kind}")
            image = cls(buffer, layout, width, height, strides=strides)
            image._color_encoding, image._color_range = colors
            return take_buffers(image, [buffer])
        except BaseException:
            if isinstance(buffer, Buffer):
                buffer.close()
            raise

    @property
    def format(self) -> PixelFormat:
        """The pixel format."""
        return self._places.format

    @property
    def width(self) -> int:
        """The number of pixels in a row."""
        return self._places.width

    @property
    def height(self) -> int:
        """The number of rows."""
        return self._places.height

    @property
    def modifier(self) -> int:
        """The DRM modifier, which describes the order of the pixels; 0 is linear."""
        return self._places.modifier

    @property
    def color_encoding(self) -> ColorEncoding | None:
        """The encoding of luma and chroma; None if it is unknown."""
        return self._color_encoding

    @property
    def color_range(self) -> ColorRange | None:
        """The numeric range of the samples; None if it is unknown."""
        return self._color_range

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The place of each plane: its buffer, offset and stride."""
        return self._places.of(self._buffers)

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The distinct buffers, in the order of the planes."""
        return self._buffers

    @property
    def owns_buffers(self) -> bool:
        """True if `close()` closes the buffers too, as for an image of `Image.allocate`."""
        return bool(self._owned)

    @property
    def closed(self) -> bool:
        """True once `close()` was called, or a `with` block of the image has ended."""
        return self._closed

    def close(self) -> None:
        """Close the image, and the buffers that it owns. Does nothing the second time.

        Borrowed buffers stay open. Arrays stay valid, and an open scope ends as it would have.
        """
        self._closed = True
        for buffer in self._owned:
            buffer.close()

    def __enter__(self: _Image) -> _Image:
        """Return the image. The end of the block closes it as `close()` does."""
        self._require_open()
        return self

    def read(self) -> ImageScope:
        """Return a scope in which the CPU reads: `with image.read() as planes`.

        `planes` is a tuple of read-only numpy arrays on the memory, one per plane, without a copy.
        Their shape is (rows, columns) or (rows, columns, channels), their dtype "u1", "<u2", "<u4"
        or "<f2". For example XRGB8888 is (h, w, 4) with blue first; RGB565 is (h, w) of "<u2"; NV12
        is (h, w) and (h/2, w/2, 2); YUYV is (h, w, 2) with luma first, as in OpenCV; SRGGB10P is
        (h, w*5/4). Sizes of sub-sampled planes round up.

        Each distinct buffer has one bracket, as in `Buffer.read`. Entering blocks until pending
        writers are done; in asyncio use `async with`. The arrays keep their memory mapped, whatever
        is closed. ValueError if the modifier is not linear, or the image is closed.
        """
        return self._scope(SYNC_READ)

    def write(self) -> ImageScope:
        """Return a scope in which the CPU overwrites every plane: `with image.write() as planes`.

        As `read`, but the arrays are writable; see `Buffer.write`.
        """
        return self._scope(SYNC_WRITE)

    def read_write(self) -> ImageScope:
        """Return a scope in which the CPU reads and writes: `with image.read_write() as planes`.

        As `read`, but the arrays are writable; see `Buffer.read_write`.
        """
        return self._scope(SYNC_RW)

    def _scope(self, bits: int) -> ImageScope:
        if self._closed:
            self._require_open()
        places = self._places
        if places.hidden:
            self._require_visible()
        return ImageScope(places, self._buffers, bits)

    def to_rgb(
        self, *, matrix: Encoding = None, full_range: bool | None = None
    ) -> numpy.ndarray[Any, Any]:
        """Return a copy as an array (height, width, 3) of "u1", in the order red, green, blue.

        It is meant for looking at. It reads the image in a scope of its own, and blocks as `read`
        does.

        `color_encoding` and `color_range` decide how the values are read. If they are unknown, YUV
        is read as BT.601 in limited range (luma 16 to 235), and RGB and grey as full range. For
        YUV, `matrix` ("bt601", "bt709", "bt2020", "smpte240m") and `full_range` override them.
        Bayer is full range.

        Chroma is taken from the nearest sample. A Bayer mosaic is interpolated bilinearly. Samples
        of more than 8 bits are scaled to 8 bits. Alpha is left out. Primaries and transfer
        functions are not converted. Each value is computed exactly and rounded once (halves up).
        ValueError if the modifier is not linear, or the image is closed.
        """
        from dmabuf.image import _rgb

        if self.format.model == "C":
            raise ValueError(f"{self!r} holds indices into a palette, which is not in the buffer")
        encoding = checked_encoding(matrix) or self._color_encoding or ColorEncoding.BT601
        yuv = self.format.model == "YUV"
        if full_range is None or not yuv:
            usual = ColorRange.LIMITED if yuv else ColorRange.FULL
            full_range = (self._color_range or usual) is ColorRange.FULL
        size = self.width, self.height
        with self.read() as planes:
            return _rgb.to_rgb(self.format, planes, *size, encoding, full_range)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        matrix: Encoding = None,
        full_range: bool | None = None,
    ) -> None:
        """Write `to_rgb()` to a file, in the format of its name's ending: `image.save("a.png")`.

        If it is interrupted, the file is as it was before. An existing file keeps its mode.
        ImportError without Pillow (pip install dmabuf[image]). ValueError for an ending that Pillow
        can't write.
        """
        try:
            from PIL import Image as pillow
        except ImportError as error:
            raise ImportError("Image.save() needs Pillow: pip install dmabuf[image]") from error
        from io import BytesIO

        from dmabuf._whole_file import whole_file

        name = os.fsdecode(path)
        ending = os.path.splitext(name)[1].lower()
        kind = pillow.registered_extensions().get(ending)
        if kind not in pillow.SAVE:
            raise ValueError(
                f"Pillow can't write {name!r}: its ending {ending!r} is not a picture format"
            )
        picture = BytesIO()  # a pipe can't be sought in, which some formats want
        pillow.fromarray(self.to_rgb(matrix=matrix, full_range=full_range)).save(picture, kind)
        with whole_file(name) as file:
            file.write(picture.getbuffer())

    def _repr_png_(self) -> bytes | None:
        """Return the PNG that a notebook shows; None without Pillow, or without readable pixels.

        Pixels are not readable if the image is closed, has a modifier, or is in a format without
        colours. Waits for pending writers, as `read()` does.
        """
        if self._closed or self._places.hidden or self.format.model in ("", "C"):
            return None
        try:
            from PIL import Image as pillow
        except ImportError:
            return None
        from io import BytesIO

        picture = BytesIO()
        pillow.fromarray(self.to_rgb()).save(picture, "png")
        return picture.getvalue()

    def __array__(self, *arguments: object, **options: object) -> NoReturn:
        raise TypeError(
            "an Image is not an array: use its planes, `with image.read() as planes`, or to_rgb()"
        )

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError(f"operation on a closed Image: {self!r}")

    def _require_visible(self) -> None:
        if self.modifier != LINEAR:
            raise ValueError(
                f"{self!r} isn't linear: only devices that know its modifier know where its pixels"
                " are; have one copy it to a linear image"
            )
        if self.format.opaque:
            raise ValueError(
                f"{self!r} is in tiles or compressed: only devices know where its pixels are; take"
                " another format, or have a device convert it"
            )

    def __reduce__(self) -> Any:
        """Make copies on the same buffers; multiprocessing takes the buffers along."""
        planes = [(plane.buffer, plane.stride, plane.offset) for plane in self.planes]
        size = (self.width, self.height)
        colors = self._color_encoding, self._color_range
        return _again, (self.format.name, size, planes, self.modifier, *colors)

    def __repr__(self) -> str:
        inodes = ",".join(str(buffer.inode) for buffer in self._buffers)
        modifier = f" modifier={self.modifier:#x}" if self.modifier != LINEAR else ""
        state = " [closed]" if self._closed else ""
        size = f"{self.width}x{self.height}"
        return f"<dmabuf.Image{state} {self.format} {size}{modifier} inode={inodes}>"


def pixels_key(image: Image) -> tuple[object, ...]:
    """Return what all images of the same pixels in the same memory have in common."""
    return image._places, *map(hash, image._buffers)


def take_buffers(image: _Image, buffers: Iterable[Buffer]) -> _Image:
    """Have an image own the buffers that it was made of, and return it."""
    image._owned = tuple(buffers)
    return image


def _again(
    name: str,
    size: tuple[int, int],
    planes: Sequence[tuple[Buffer, int, int]],
    modifier: int,
    color_encoding: ColorEncoding | None,
    color_range: ColorRange | None,
) -> Image:
    """Make an image of what `Image.__reduce__` gave."""
    buffers, strides, offsets = zip(*planes, strict=True)
    return Image(
        buffers,
        name,
        *size,
        strides=strides,
        offsets=offsets,
        modifier=modifier,
        color_encoding=color_encoding,
        color_range=color_range,
    )
