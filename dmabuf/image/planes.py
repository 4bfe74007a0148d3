"""Where the planes of an image are in its buffers, checked against the buffers' sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

from dmabuf._checked import whole, wholes
from dmabuf._fd import require_open
from dmabuf._record import record
from dmabuf.buffer import Buffer
from dmabuf.image.formats import LINEAR
from dmabuf.image.layout import PixelFormat

if TYPE_CHECKING:
    import numpy


@record
class Plane(NamedTuple):
    """The place of one plane of an image, as importers need it.

        luma, chroma = image.planes
        handle = device.import_buffer(chroma.buffer)

    `Image.planes` lists them. The array of a plane has `height` rows and `width` columns.
    """

    buffer: Buffer
    """The buffer that holds the plane."""
    offset: int
    """The start of the plane in the buffer, in bytes."""
    stride: int
    """The distance from one row to the next, in bytes."""
    width: int
    """The number of columns of its array: samples, or bytes of a packed format."""
    height: int
    """The number of rows of its array."""


class View(NamedTuple):
    """What makes the array of one plane."""

    buffer: int
    row: numpy.dtype[Any]
    rows: int
    offset: int
    strides: tuple[int, ...] | None
    """Of an array whose rows are not one after the other."""


class Places:
    """The pixels of an image, and where its planes are in its buffers, whichever these are.

    Images of the same places share one: to check where a plane is takes much longer than a scope,
    and to keep it more memory than all the rest of an image.
    """

    __slots__ = (
        "__weakref__",
        "format",
        "height",
        "hidden",
        "modifier",
        "planes",
        "views",
        "width",
    )

    def __init__(
        self,
        format: PixelFormat,
        size: tuple[int, int],
        modifier: int,
        planes: tuple[tuple[int, int, int, int, int], ...],
    ) -> None:
        self.format = format
        self.width, self.height = size
        self.modifier = modifier
        self.planes = planes
        """The number of its buffer, and the fields of a `Plane`, of each."""
        self.hidden = modifier != LINEAR or format.opaque
        """Whether only devices know where the pixels are."""
        self.views: list[View] | None = None
        """What makes the arrays, once there was a scope."""

    def of(self, buffers: Sequence[Buffer]) -> tuple[Plane, ...]:
        """Return the planes of an image on these buffers."""
        return tuple(Plane(buffers[number], *place) for number, *place in self.planes)


_shared: WeakValueDictionary[object, Places] = WeakValueDictionary()


def place_planes(
    format: PixelFormat,
    size: tuple[int, int],
    buffer: Buffer | Sequence[Buffer],
    strides: int | Iterable[int] | None,
    offsets: Iterable[int] | None,
    modifier: int,
) -> tuple[tuple[Buffer, ...], Places]:
    """Return the distinct buffers, and where each plane is.

    ValueError if one would reach outside of its buffer.
    """
    owners = _spread(buffer, format)
    steps = _checked_strides(strides, format, size[0])
    starts = None if offsets is None else _one_per_plane("offsets", offsets, format)
    ends = dict.fromkeys(owners, 0)
    buffers = tuple(ends)
    planes = []
    for index, (owner, stride) in enumerate(zip(owners, steps, strict=True)):
        offset = ends[owner] if starts is None else starts[index]
        rows, columns = format.planes[index].shape(*size)[:2]
        plane = Plane(owner, offset, stride, columns, rows)
        _check(plane, index, format, size, modifier)
        planes.append((buffers.index(owner), *plane[1:]))
        ends[owner] = offset + stride * rows
    key = format, size, modifier, tuple(planes)
    places = _shared.get(key)
    if places is None:
        places = _shared[key] = Places(*key)
    return buffers, places


def _spread(buffer: Buffer | Sequence[Buffer], format: PixelFormat) -> list[Buffer]:
    """Return the buffer of each plane. Buffers of the same memory become the same object."""
    if isinstance(buffer, Buffer):
        given = [buffer]
    elif isinstance(buffer, Iterable):
        given = list(buffer)
    else:
        kind = type(buffer).__name__
        raise TypeError(f"an image needs a dmabuf.Buffer, or one per plane, not {kind}")
    for owner in given:
        if not isinstance(owner, Buffer):
            kind = type(owner).__name__
            raise TypeError(f"an image needs a dmabuf.Buffer, or one per plane, not {kind}")
        require_open(owner)
    count = len(format.planes)
    if len(given) not in (1, count):
        wanted = "one buffer" if count == 1 else f"one buffer, or {count}"
        raise ValueError(f"{format} needs {wanted}, not {len(given)}")
    first = dict(zip(reversed(given), reversed(given), strict=True))
    return [first[owner] for owner in (given * count)[:count]]


def _checked_strides(
    strides: int | Iterable[int] | None, format: PixelFormat, width: int
) -> Sequence[int]:
    if strides is None:
        return format.strides(width)
    if isinstance(strides, Iterable):
        return _one_per_plane("strides", strides, format)
    return format.strides(width, whole(strides, "a stride"))


def _one_per_plane(what: str, values: Iterable[int], format: PixelFormat) -> list[int]:
    numbers = wholes(values, what)
    if len(numbers) != len(format.planes):
        raise ValueError(f"{format} has {len(format.planes)} planes, not {len(numbers)} {what}")
    return numbers


def _check(
    plane: Plane, index: int, format: PixelFormat, size: tuple[int, int], modifier: int
) -> None:
    """Raise ValueError unless a plane is inside of its buffer."""
    wanted = f"plane {index} of {format} {size[0]}x{size[1]}"
    has = f"its buffer has 0 to {plane.buffer.size}"
    layout = format.planes[index]
    if modifier != LINEAR or format.opaque:
        if plane.stride < 0 or not 0 <= plane.offset < plane.buffer.size:
            raise ValueError(
                f"{wanted} can't be at stride {plane.stride}, offset {plane.offset}; {has}"
            )
        return
    row = layout.row(size[0])
    if plane.stride < row:
        raise ValueError(f"{wanted} needs a stride of at least {row} bytes, not {plane.stride}")
    for name, value in (("stride", plane.stride), ("offset", plane.offset)):
        if value % layout.itemsize:
            raise ValueError(
                f"{wanted} needs a {name} that is a multiple of {layout.itemsize}, not {value}"
            )
    end = plane.offset + (plane.height - 1) * plane.stride + row
    if plane.offset < 0 or end > plane.buffer.size:
        raise ValueError(f"{wanted} needs bytes {plane.offset} to {end}; {has}")
