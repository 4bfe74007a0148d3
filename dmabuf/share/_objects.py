"""The table of a message: which objects it has, on which of its descriptors.

How many u32, then each: kind u8, and

    buffer, fence: its descriptor u32
    image: format (length u8, its name), width u32, height u32, modifier u64,
           colours u8 (see `pack_colors`),
           planes u8, and each plane's descriptor u32, offset u64, stride u64
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from struct import error as StructError
from typing import Any, TypeAlias

from dmabuf._fd import require_open
from dmabuf._mapping import note_shared
from dmabuf._message import BUFFER, FENCE, IMAGE
from dmabuf._scm import MessageError
from dmabuf.buffer import Buffer
from dmabuf.fence import Fence
from dmabuf.image import FORMATS, Image
from dmabuf.image.colors import pack_colors, unpack_colors

Shared: TypeAlias = Buffer | Fence | Image
KINDS = {BUFFER: Buffer, FENCE: Fence}
"""Who owns a descriptor of each kind."""

_u8, _u32 = Struct("<B"), Struct("<I")
_one = Struct("<BI")
_image, _plane = Struct("<IIQB"), Struct("<IQQ")


class Table:
    """The objects of a message: `owners` go once each, and `encoded` tells the rest."""

    def __init__(self, objects: Sequence[Shared]) -> None:
        self.owners: dict[Buffer | Fence, int] = {}
        pieces = [_u32.pack(len(objects))]
        for item in objects:
            pieces += self._image(item) if isinstance(item, Image) else self._owner(item)
        self.encoded = b"".join(pieces)

    def kinds(self) -> list[int]:
        """Return the kind of each owner's descriptor."""
        return [BUFFER if isinstance(owner, Buffer) else FENCE for owner in self.owners]

    def _owner(self, item: Buffer | Fence) -> list[bytes]:
        if not isinstance(item, (Buffer, Fence)):
            kind = type(item).__name__
            raise TypeError(f"only a Buffer, a Fence or an Image can be sent, not {kind}")
        return [_one.pack(BUFFER if isinstance(item, Buffer) else FENCE, self._index(item))]

    def _image(self, image: Image) -> list[bytes]:
        if image.closed:
            raise ValueError(f"a closed image can't be sent: {image!r}")
        name = image.format.name.encode()
        colors = pack_colors(image.color_encoding, image.color_range)
        return [
            _u8.pack(IMAGE),
            _u8.pack(len(name)),
            name,
            _image.pack(image.width, image.height, image.modifier, colors),
            _u8.pack(len(image.planes)),
            *(
                _plane.pack(self._index(plane.buffer), plane.offset, plane.stride)
                for plane in image.planes
            ),
        ]

    def _index(self, owner: Buffer | Fence) -> int:
        require_open(owner)
        if isinstance(owner, Buffer):
            note_shared(owner)
        return self.owners.setdefault(owner, len(self.owners))


def owners_of(item: Shared) -> tuple[Buffer | Fence, ...]:
    """Return who owns an object's descriptors."""
    return item.buffers if isinstance(item, Image) else (item,)


def duplicate(item: Shared) -> Shared:
    """Return an object with descriptors of its own, on the same memory."""
    table = Table([item])
    if not isinstance(item, Image):
        return item.dup()
    owners: list[Buffer | Fence] = []
    try:
        for owner in table.owners:
            owners.append(owner.dup())
        return objects_of(table.encoded, owners)[0]
    except BaseException:
        for owner in owners:
            owner.close()
        raise


def objects_of(table: bytes, owners: Sequence[Buffer | Fence]) -> list[Shared]:
    """Return the objects of a table that a peer sent; MessageError for anything that isn't so."""
    reader = _Reader(table)
    used: set[int] = set()

    def owner(index: int, kind: type[Any]) -> Any:
        if index >= len(owners) or not isinstance(owners[index], kind):
            raise MessageError(f"a message names descriptor {index} as a {kind.__name__}")
        used.add(index)
        return owners[index]

    try:
        objects = [_object(reader, owner) for _ in range(reader.one(_u32))]
    except (StructError, UnicodeDecodeError) as error:
        raise MessageError("a message's table of objects ends too early") from error
    if reader.left or len(used) != len(owners):
        raise MessageError("a message has more in it than its table of objects says")
    return objects


class _Reader:
    """Bytes that are read from front to back."""

    def __init__(self, table: bytes) -> None:
        self._table = table
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._table) - self._at

    def read(self, layout: Struct) -> tuple[Any, ...]:
        values = layout.unpack_from(self._table, self._at)
        self._at += layout.size
        return values

    def one(self, layout: Struct) -> int:
        return int(self.read(layout)[0])

    def text(self, count: int) -> str:
        return str(self.read(Struct(f"{count}s"))[0], "ascii")


def _object(reader: _Reader, owner: Any) -> Shared:
    kind = reader.one(_u8)
    if kind in KINDS:
        found: Shared = owner(reader.one(_u32), KINDS[kind])
        return found
    if kind == IMAGE:
        return _read_image(reader, owner)
    raise MessageError(f"a message has an object of an unknown kind: {kind}")


def _read_image(reader: _Reader, owner: Any) -> Image:
    name = reader.text(reader.one(_u8))
    width, height, modifier, colors = reader.read(_image)
    planes = [reader.read(_plane) for _ in range(reader.one(_u8))]
    if name not in FORMATS:
        raise MessageError(f"a message has an image of a format that is unknown here: {name!r}")
    buffers = [owner(index, Buffer) for index, _, _ in planes]
    try:
        return Image(
            buffers,
            FORMATS[name],
            width,
            height,
            strides=[stride for _, _, stride in planes],
            offsets=[offset for _, offset, _ in planes],
            modifier=modifier,
            **unpack_colors(colors),
        )
    except ValueError as error:
        raise MessageError(f"a message has an image that can't be: {error}") from error
