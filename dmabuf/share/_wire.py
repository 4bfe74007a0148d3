"""The messages between a publisher and its subscribers, version 1: packed, and strictly parsed.

Each is one packet of a SOCK_SEQPACKET connection. All numbers are little-endian:

    header    magic "DMAR", major u8, minor u8, type u16, length u32, n_fds u16, flags u16
    HELLO     depth u32, policy u8, start u8, 2 bytes of padding
    WELCOME   sequence u64 of the item that comes next
    WANT      frames u32: so many more may be sent
    FRAME     sequence u64, timestamp_ns u64, memories u8, new u8, planes u8, padding u8,
              message's length u32
              each memory: slot u32, generation u32, bytes used u64
              with planes: format char[15], colours u8 (see `pack_colors`), width u32, height u32,
              modifier u64
              each plane: memory u32, stride u32, offset u64
              the message's bytes
    RELEASE   slot u32, generation u32 of the first memory, sequence u64
    RETIRE    slot u32, generation u32
    BYE       reason u32
    BUSY      frames u32: so many may be held beside others, and are; in_flight u32 that allows for
              one more. OPTIONAL

`length` counts the bytes after the header. Bit N of `new` says that memory N is told for the first
time: its descriptor comes with the message, and the n_fds descriptors are in the order of the bits.
A message of an unknown type is skipped if its flags say OPTIONAL. A later minor version may add to
a message's end; another major version is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from struct import Struct
from typing import Any

from dmabuf._scm import MessageError
from dmabuf.share._messages import (
    MOST_MESSAGE,
    MOST_PLANES,
    Busy,
    Bye,
    FrameMessage,
    Hello,
    Layout,
    Message,
    Policy,
    Reason,
    Release,
    Retire,
    SharedMemory,
    SharedPlane,
    Start,
    Want,
    Welcome,
)

MAGIC = b"DMAR"
MAJOR, MINOR = 1, 0
OPTIONAL = 1
_MOST_KEPT = 256  # parts of messages that are kept as they were understood

_header = Struct("<4sBBHIHH")
_hello = Struct("<IBB2x")
_u32 = Struct("<I")
_u64 = Struct("<Q")
_frame = Struct("<QQBBBxI")
_memory = Struct("<IIQ")
_layout = Struct("<15sBIIQ")
_plane = Struct("<IIQ")
_release = Struct("<IIQ")
_retire = Struct("<II")
_busy = Struct("<II")
_whole_frame = Struct(_header.format + _frame.format[1:])

MOST_BYTES = (
    sum(part.size for part in (_header, _frame, _layout))
    + MOST_PLANES * (_memory.size + _plane.size)
    + MOST_MESSAGE
)
"""How long a packet may be."""
_LEAST_FRAME = _header.size + _frame.size + _memory.size
_parts = Struct("<I4sQQ4sI")  # of a FRAME, from its length to that of its user's bytes
MOST_ASKED = 256
"""How long one of a subscriber's may be: far more than what any of them has."""


class Kind(IntEnum):
    """The type of a message."""

    HELLO = 1
    WELCOME = 2
    WANT = 3
    FRAME = 4
    RELEASE = 5
    RETIRE = 6
    BYE = 7
    BUSY = 8


_POLICIES, _STARTS = tuple(Policy), tuple(Start)


def pack_hello(depth: int, policy: Policy, start: Start) -> bytes:
    """Pack a HELLO."""
    return _packed(Kind.HELLO, _hello.pack(depth, _POLICIES.index(policy), _STARTS.index(start)))


def pack_welcome(sequence: int) -> bytes:
    """Pack a WELCOME."""
    return _packed(Kind.WELCOME, _u64.pack(sequence))


def pack_want(frames: int) -> bytes:
    """Pack a WANT."""
    return _WANT + _u32.pack(frames)


def pack_release(slot: int, generation: int, sequence: int) -> bytes:
    """Pack a RELEASE."""
    return _RELEASE + _release.pack(slot, generation, sequence)


def pack_retire(slot: int, generation: int) -> bytes:
    """Pack a RETIRE."""
    return _packed(Kind.RETIRE, _retire.pack(slot, generation))


def pack_bye(reason: Reason) -> bytes:
    """Pack a BYE."""
    return _packed(Kind.BYE, _u32.pack(reason))


def pack_busy(most: int, in_flight: int) -> bytes:
    """Pack a BUSY."""
    return _packed(Kind.BUSY, _busy.pack(most, in_flight), OPTIONAL)


def _packed(kind: Kind, payload: bytes, flags: int = 0) -> bytes:
    return _head(kind, len(payload), flags) + payload


def _head(kind: Kind, length: int, flags: int = 0) -> bytes:
    return _header.pack(MAGIC, MAJOR, MINOR, kind, length, 0, flags)


# Each frame takes one of both, and their headers never change.
_WANT, _RELEASE = _head(Kind.WANT, _u32.size), _head(Kind.RELEASE, _release.size)
_WANT_ONE, _ONE = pack_want(1), Want(1)
_RELEASE_BYTES = _header.size + _release.size
_FRAME = int(Kind.FRAME)
_FRAME_START = _head(Kind.FRAME, 0)[:8]


class FramePacker:
    """Packs an item's FRAME for each subscriber: they differ in what memories are new to them."""

    __slots__ = ("_fields", "_new", "_packed")

    def __init__(
        self,
        sequence: int,
        timestamp_ns: int,
        memories: tuple[tuple[int, int, int], ...],
        layout: Layout | None,
        message: bytes,
    ) -> None:
        self._fields = sequence, timestamp_ns, memories, layout, message
        self._new = -1  # what was packed the last time
        self._packed = b""

    def pack(self, new: int) -> bytes:
        """Pack a FRAME in which the memories of the bits in `new` are told for the first time."""
        if new != self._new:  # most subscribers know the same memories
            sequence, timestamp_ns, memories, layout, message = self._fields
            body = _pack_body(memories, layout) + message
            head = MAGIC, MAJOR, MINOR, _FRAME, _frame.size + len(body), new.bit_count(), 0
            planes = 0 if layout is None else len(layout.planes)
            counts = len(memories), new, planes, len(message)
            self._packed = _whole_frame.pack(*head, sequence, timestamp_ns, *counts) + body
            self._new = new
        return self._packed


# A ring of buffers says the same few things of its memories again and again.
@lru_cache(_MOST_KEPT)
def _pack_body(memories: tuple[tuple[int, int, int], ...], layout: Layout | None) -> bytes:
    """Pack what stands between a FRAME's own fields and its user's bytes."""
    parts = [_memory.pack(*memory) for memory in memories]
    if layout is not None:
        name = layout.format.encode("ascii")
        size = layout.width, layout.height
        parts.append(_layout.pack(name, layout.colors, *size, layout.modifier))
        parts.extend(_plane.pack(*plane) for plane in layout.planes)
    return b"".join(parts)


def unpack(data: bytes, descriptors: int) -> Message | None:
    """Parse one packet, which came with so many descriptors; None for what may be skipped.

    MessageError if it is no message, torn, too long, of another version, or says something that it
    can't mean.
    """
    if not descriptors:  # the two that come with each frame
        if data == _WANT_ONE:
            return _ONE
        if data.startswith(_RELEASE) and len(data) == _RELEASE_BYTES:
            return Release(*_release.unpack_from(data, _header.size))
    if len(data) < _header.size:
        raise MessageError(f"a message of {len(data)} bytes is shorter than its header")
    magic, major, minor, kind, length, n_fds, flags = _header.unpack_from(data)
    if magic != MAGIC:
        raise MessageError(f"a message begins with {magic!r}, not {MAGIC!r}")
    if major != MAJOR:
        raise MessageError(
            f"the peer speaks version {major}.{minor} of the protocol, and this is version"
            f" {MAJOR}.{MINOR}; use the same dmabuf on both sides"
        )
    payload = data[_header.size :]
    if length != len(payload):
        raise MessageError(f"a message says {length} bytes and has {len(payload)}")
    if n_fds != descriptors:
        raise MessageError(f"a message says {n_fds} descriptors and came with {descriptors}")
    parse = _PARSERS.get(kind)
    if parse is None:
        if flags & OPTIONAL and not descriptors:
            return None
        raise MessageError(f"a message has the unknown type {kind}")
    message = parse(payload, minor > MINOR)
    wanted = message.new.bit_count() if isinstance(message, FrameMessage) else 0
    if descriptors != wanted:
        raise MessageError(
            f"{type(message).__name__} came with {descriptors} descriptors, and has {wanted} new"
            " memories"
        )
    return message


def split(data: bytes) -> tuple[bytes, int, int, bytes]:
    """Split a FRAME: what others on the same memories say too; sequence, timestamp_ns, message.

    A packet whose first part is that of a FRAME which was unpacked is as right as that one. It is
    empty for what may be no FRAME.
    """
    size = len(data)
    if size >= _LEAST_FRAME and data.startswith(_FRAME_START):
        length, flags, sequence, timestamp_ns, counts, bytes_ = _parts.unpack_from(data, 8)
        end = size - bytes_
        if length == size - _header.size and end >= _LEAST_FRAME and bytes_ <= MOST_MESSAGE:
            same = flags + counts + data[_header.size + _frame.size : end]
            return same, sequence, timestamp_ns, data[end:]
    return b"", 0, 0, b""


def _fields(layout: Struct, payload: bytes, longer: bool, name: str) -> tuple[Any, ...]:
    """Return the numbers of a message, which has more bytes only if its version is later."""
    if len(payload) < layout.size or (len(payload) > layout.size and not longer):
        raise MessageError(f"{name} has {layout.size} bytes, not {len(payload)}")
    return layout.unpack_from(payload)


def _unpack_hello(payload: bytes, longer: bool) -> Hello:
    depth, policy, start = _fields(_hello, payload, longer, "HELLO")
    if not depth:
        raise MessageError("HELLO says a depth of 0")
    if policy >= len(_POLICIES) or start >= len(_STARTS):
        raise MessageError(f"HELLO says policy {policy} and start {start}, which are unknown")
    return Hello(depth, _POLICIES[policy], _STARTS[start])


def _unpack_welcome(payload: bytes, longer: bool) -> Welcome:
    return Welcome(*_fields(_u64, payload, longer, "WELCOME"))


def _unpack_want(payload: bytes, longer: bool) -> Want:
    want = Want(*_fields(_u32, payload, longer, "WANT"))
    if not want.frames:
        raise MessageError("WANT asks for no frames")
    return want


def _unpack_release(payload: bytes, longer: bool) -> Release:
    return Release(*_fields(_release, payload, longer, "RELEASE"))


def _unpack_retire(payload: bytes, longer: bool) -> Retire:
    return Retire(*_fields(_retire, payload, longer, "RETIRE"))


def _unpack_bye(payload: bytes, longer: bool) -> Bye:
    (reason,) = _fields(_u32, payload, longer, "BYE")
    return Bye(Reason(reason) if reason in _REASONS else Reason.CLOSED)


def _unpack_busy(payload: bytes, longer: bool) -> Busy:
    return Busy(*_fields(_busy, payload, longer, "BUSY"))


def _unpack_frame(payload: bytes, longer: bool) -> FrameMessage:
    if len(payload) < _frame.size:
        raise MessageError(f"FRAME has at least {_frame.size} bytes, not {len(payload)}")
    sequence, timestamp_ns, count, new, planes, bytes_ = _frame.unpack_from(payload)
    if not 1 <= count <= MOST_PLANES or planes > MOST_PLANES or new >> count:
        raise MessageError(f"FRAME says {count} memories, {planes} planes and {new:#x} as new")
    if bytes_ > MOST_MESSAGE:
        raise MessageError(f"FRAME says {bytes_} bytes of its user's, more than {MOST_MESSAGE}")
    at_layout = _frame.size + count * _memory.size
    at_message = at_layout + (_layout.size + planes * _plane.size if planes else 0)
    end = at_message + bytes_
    if len(payload) < end or (len(payload) > end and not longer):
        raise MessageError(f"FRAME has {end} bytes by what it says, not {len(payload)}")
    memories = _unpack_memories(payload[_frame.size : at_layout])
    layout = _unpack_layout(payload[at_layout:at_message], count) if planes else None
    return FrameMessage(sequence, timestamp_ns, new, memories, layout, payload[at_message:end])


@lru_cache(_MOST_KEPT)
def _unpack_memories(part: bytes) -> tuple[SharedMemory, ...]:
    memories = tuple(SharedMemory(*fields) for fields in _memory.iter_unpack(part))
    if len({memory.slot for memory in memories}) != len(memories):
        raise MessageError("FRAME has a slot twice")
    return memories


@lru_cache(_MOST_KEPT)
def _unpack_layout(part: bytes, memories: int) -> Layout:
    name, colors, width, height, modifier = _layout.unpack_from(part)
    try:
        format = name.rstrip(b"\0").decode("ascii")
    except UnicodeDecodeError:
        raise MessageError(f"FRAME has a format that is not text: {name!r}") from None
    planes = tuple(SharedPlane(*fields) for fields in _plane.iter_unpack(part[_layout.size :]))
    if any(plane.memory >= memories for plane in planes):
        raise MessageError(f"FRAME has planes in memories that it does not have: {planes}")
    return Layout(format, width, height, modifier, planes, colors)


_REASONS = frozenset(Reason)
_PARSERS: dict[int, Callable[[bytes, bool], Message]] = {
    Kind.HELLO: _unpack_hello,
    Kind.WELCOME: _unpack_welcome,
    Kind.WANT: _unpack_want,
    Kind.FRAME: _unpack_frame,
    Kind.RELEASE: _unpack_release,
    Kind.RETIRE: _unpack_retire,
    Kind.BYE: _unpack_bye,
    Kind.BUSY: _unpack_busy,
}
