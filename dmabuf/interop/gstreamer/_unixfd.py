"""The messages of GStreamer's unixfdsink and unixfdsrc: packed, and strictly parsed.

Over a SOCK_STREAM Unix socket, in the byte order of the machine:

    header      type u32, payload's length u32; the descriptors ride on it
    NEW_BUFFER  id u64, pts u64, dts u64, duration u64, offset u64, offset_end u64, flags u32,
                type u8 (0 a descriptor of plain memory, 1 a dma-buf), n_memory u8, n_meta u16
                each memory: size u64, offset u64
                each meta, little-endian: length u32, name's length u32, name, NUL, version u8, body
    RELEASE     id u64: a client's answer
    CAPS        text, NUL: to each client that connects, and when it changes
    EOS         nothing

Times are nanoseconds of CLOCK_MONOTONIC, all bits set for none. Follows
gst-libs/gst/unixfd/gstunixfd.c of plugins-bad, and the serialization in gst-libs/gst/video/
gstvideometa.c. Unknown types are skipped, as there.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct, error
from typing import NamedTuple

from dmabuf._scm import MessageError

_header = Struct("=II")
_buffer = Struct("=QQQQQQIBBH")
_memory = Struct("=QQ")
_id = Struct("=Q")
_meta = Struct("<II")
_video = Struct("<iiIII")
_NONE = 2**64 - 1
_VIDEO_META = b"GstVideoMeta"
_PADDING = 4  # of GstVideoAlignment: top, bottom, left, right

HEADER_BYTES = _header.size
MOST_PAYLOAD = 1 << 16
"""How long a message may be: far more than any of GStreamer's."""
MOST_MEMORIES = 16
"""How many memories a buffer may have: GST_BUFFER_MEM_MAX of gstbuffer.c."""
MOST_PLANES = 4
"""How many planes a picture may have: GST_VIDEO_MAX_PLANES."""


class Kind(IntEnum):
    """The type of a message."""

    NEW_BUFFER = 0
    RELEASE = 1
    CAPS = 2
    EOS = 3


class VideoMeta(NamedTuple):
    """Where a picture's planes are, counted from the beginning of the first memory."""

    format: int
    width: int
    height: int
    offsets: tuple[int, ...]
    strides: tuple[int, ...]


class Memory(NamedTuple):
    """What part of a descriptor's memory belongs to a buffer."""

    size: int
    offset: int


class BufferMessage(NamedTuple):
    """A buffer, without its descriptors. Times are nanoseconds."""

    id: int
    pts: int | None
    dts: int | None
    duration: int | None
    is_dma_buf: bool
    memories: tuple[Memory, ...]
    video: VideoMeta | None = None


def pack(kind: Kind, payload: bytes = b"") -> bytes:
    """Return a message."""
    return _header.pack(kind, len(payload)) + payload


def pack_caps(text: str) -> bytes:
    """Return a CAPS message."""
    return pack(Kind.CAPS, text.encode() + b"\0")


def pack_release(number: int) -> bytes:
    """Return a RELEASE message."""
    return pack(Kind.RELEASE, _id.pack(number))


def pack_buffer(message: BufferMessage) -> bytes:
    """Return a NEW_BUFFER message."""
    times = (message.pts, message.dts, message.duration)
    stamps = [_NONE if time is None else time for time in times]
    count = len(message.memories)
    metas = 0 if message.video is None else 1
    kind = int(message.is_dma_buf)
    payload = _buffer.pack(message.id, *stamps, _NONE, _NONE, 0, kind, count, metas)
    payload += b"".join(_memory.pack(*memory) for memory in message.memories)
    if message.video is not None:
        payload += _pack_video(message.video)
    return pack(Kind.NEW_BUFFER, payload)


def _pack_video(meta: VideoMeta) -> bytes:
    count = len(meta.offsets)
    body = _video.pack(0, meta.format, meta.width, meta.height, count)
    body += Struct(f"<{count}Q{count}i").pack(*meta.offsets, *meta.strides)
    body += bytes(4 * (_PADDING + count))
    length = _meta.size + len(_VIDEO_META) + 2 + len(body)
    return _meta.pack(length, len(_VIDEO_META)) + _VIDEO_META + b"\0\0" + body


def parse_header(data: bytes) -> tuple[int, int]:
    """Return a message's type, and its payload's length. MessageError if that is absurd."""
    kind, length = _header.unpack(data)
    if length > MOST_PAYLOAD:
        raise MessageError(f"a message of {length} bytes, where {MOST_PAYLOAD} are the most")
    if kind == Kind.RELEASE and length != _id.size:
        raise MessageError(f"a release of {length} bytes, not {_id.size}")
    return kind, length


def parse_release(payload: bytes) -> int:
    """Return the number of the buffer that is released."""
    return int(_id.unpack(payload)[0])


def parse_caps_text(payload: bytes) -> str:
    """Return the text of a CAPS message. MessageError unless it is text that a NUL ends."""
    text, end, rest = payload.partition(b"\0")
    if not end or rest:
        raise MessageError("caps that are not a text with a NUL at its end")
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise MessageError("caps that are not UTF-8 text") from None


def parse_buffer(payload: bytes) -> BufferMessage:
    """Return what a NEW_BUFFER message says. MessageError unless it is whole and makes sense."""
    try:
        fields = _buffer.unpack_from(payload)
        number, pts, dts, duration, _, _, _, kind, n_memory, n_meta = fields
        if kind not in (0, 1):
            raise MessageError(f"a buffer of an unknown type of memory: {kind}")
        if not 1 <= n_memory <= MOST_MEMORIES:
            raise MessageError(f"a buffer of {n_memory} memories, not 1 to {MOST_MEMORIES}")
        places = range(_buffer.size, _buffer.size + n_memory * _memory.size, _memory.size)
        memories = tuple(Memory._make(_memory.unpack_from(payload, place)) for place in places)
        video = None
        for name, version, body in _metas(payload[places.stop :], n_meta):
            if name == _VIDEO_META and version == 0:
                video = _parse_video(body)
    except error:
        raise MessageError("a buffer's message that is too short for what it says") from None
    if any(memory.size == 0 or sum(memory) >= 2**63 for memory in memories):
        raise MessageError(f"a buffer of memories that can't be: {memories}")
    pts, dts, duration = (None if time == _NONE else time for time in (pts, dts, duration))
    return BufferMessage(number, pts, dts, duration, kind == 1, memories, video)


def _metas(data: bytes, count: int) -> Iterator[tuple[bytes, int, bytes]]:
    """Give the name, the version and the body of each meta."""
    for _ in range(count):
        length, name_length = _meta.unpack_from(data)
        start = _meta.size + name_length + 2
        if not start <= length <= len(data):
            raise MessageError(f"a meta of {length} bytes that has not so many")
        yield data[_meta.size : start - 2], data[start - 1], data[start:length]
        data = data[length:]
    if data:
        raise MessageError(f"a buffer's message with {len(data)} bytes after its end")


def _parse_video(body: bytes) -> VideoMeta:
    _, pixel_format, width, height, count = _video.unpack_from(body)
    if not 1 <= count <= MOST_PLANES:
        raise MessageError(f"a picture of {count} planes, not 1 to {MOST_PLANES}")
    numbers = Struct(f"<{count}Q{count}i").unpack_from(body, _video.size)
    return VideoMeta(pixel_format, width, height, numbers[:count], numbers[count:])
