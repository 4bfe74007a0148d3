"""One message over a Unix socket: descriptors with their kinds, a table of objects, user's bytes.

It goes in one part, or in several where the descriptors or the bytes are too many for one packet.
Little-endian, version 1. Each part is a header of 32 bytes

    magic "DMAS", major u8, minor u8, descriptors of this part u16, number of the message u64,
    bytes of this part u32, and of the whole message: descriptors u32, bytes of the table u32,
    bytes of the user's u32

and its bytes: one for the kind of each of its descriptors, then a piece of table and user's bytes.
On a stream socket the header is received by itself, so that no two messages merge; on the others a
part is a packet; a datagram is a whole message. Whoever stops in the middle shuts the connection
down: what would follow is garbage.

"""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import Any, NamedTuple

from dmabuf import _scm
from dmabuf._transfer import Steps, Transfer, run, torn
from dmabuf.errors import os_error

BUFFER, FENCE, IMAGE = 1, 2, 3
"""Kinds of objects in a table; of descriptors, the first two."""
ONE_BUFFER = Struct("<IBI").pack(1, BUFFER, 0)
"""The table of a message that is one buffer: how many, and of each its kind and its descriptor."""
TABLE_LIMIT = 1 << 20
LIMIT = 1 << 20

_MAGIC, _MAJOR, _MINOR = b"DMAS", 1, 0
_header = Struct("<4sBBHQIIII")
_PIECE = 1 << 16  # bytes in a packet, of table and user's; a send buffer has 208 KiB by default
_LONGEST = 1 << 31

Kinds = Mapping[int, Callable[[int], Any]]


class Arrival:
    """What a message brought; `close()` closes its descriptors' owners."""

    __slots__ = ("message", "owners", "sender", "table")

    def __init__(self) -> None:
        self.owners: list[Any] = []
        self.table = self.message = b""
        self.sender: _scm.Sender | None = None

    def close(self) -> None:
        """Close what came."""
        for owner in self.owners:
            owner.close()


def send_steps(
    sock: socket.socket,
    descriptors: Sequence[tuple[int, int]],
    table: bytes,
    message: bytes | bytearray | memoryview = b"",
) -> Steps:
    """Send a message: (kind, number) of each descriptor, table and the user's bytes."""
    transfer = Transfer(sock)
    rest = memoryview(table + memoryview(message).cast("B"))
    if len(table) > TABLE_LIMIT:
        raise ValueError(f"too many objects for one message: {len(table)} bytes of {TABLE_LIMIT}")
    if len(rest) > _LONGEST:
        raise ValueError(f"a message may have at most {_LONGEST} bytes, not {len(rest)}")
    if transfer.datagram and len(descriptors) > _scm.MOST:
        raise ValueError(
            f"a datagram holds at most {_scm.MOST} descriptors, not {len(descriptors)};"
            " send fewer at once, or use a SOCK_SEQPACKET or SOCK_STREAM socket"
        )
    totals = (len(descriptors), len(table), len(rest) - len(table))
    number = int.from_bytes(os.urandom(8), "little")
    piece = _PIECE if transfer.packets else _LONGEST
    try:
        while descriptors or rest:
            here, descriptors = descriptors[: _scm.MOST], descriptors[_scm.MOST :]
            now, rest = (rest[:0], rest) if descriptors else (rest[:piece], rest[piece:])
            kinds = bytes(kind for kind, _ in here)
            head = _header.pack(
                *(_MAGIC, _MAJOR, _MINOR, len(here), number, len(here) + len(now), *totals)
            )
            yield from transfer.give([head + kinds, now], [each for _, each in here])
    except BaseException:
        transfer.abandon()
        raise


class _Header(NamedTuple):
    magic: bytes
    major: int
    minor: int
    descriptors: int
    number: int
    bytes: int
    all_descriptors: int
    table_bytes: int
    message_bytes: int

    @property
    def message(self) -> tuple[int, ...]:
        """What is the same in all parts of a message."""
        return (self.number, *self[6:])


def receive_steps(sock: socket.socket, limit: int, kinds: Kinds, arrival: Arrival) -> Steps:
    """Receive a message of at most `limit` user's bytes; `kinds` own its descriptors."""
    transfer = Transfer(sock)
    first: _Header | None = None
    pieces: list[bytes] = []
    left = 1
    try:
        while left:
            size = _header.size
            if not transfer.stream:
                size += _scm.MOST + (TABLE_LIMIT + limit if transfer.datagram else _PIECE)
            with (yield from transfer.take(size)) as packet:
                if packet.ended and not transfer.datagram:
                    if first is None:
                        transfer.begun = False
                        raise EOFError("the peer has closed the connection; there is no message")
                    raise torn()
                data = packet.data
                if transfer.stream:
                    data += yield from transfer.take_bytes(size - len(data))
                header = _checked(data)
                if first is None:
                    first, arrival.sender = header, packet.sender
                    left = _whole(header, limit)
                elif header.message != first.message:
                    raise _scm.MessageError("a message was broken off by another one")
                if transfer.stream and header.bytes <= left:
                    data += yield from transfer.take_bytes(header.bytes)
                left -= header.bytes
                if not header.descriptors <= header.bytes == len(data) - _header.size or left < 0:
                    raise _scm.MessageError(f"a part of a message has another length: {header}")
                if not header.bytes or (transfer.datagram and left):
                    raise _scm.MessageError(f"a part of a message is missing: {header}")
                own = data[_header.size : _header.size + header.descriptors]
                packet.adopt([_kind(kinds, kind) for kind in own])
                arrival.owners.extend(packet.take())
                pieces.append(data[_header.size + header.descriptors :])
        assert first is not None
        if len(arrival.owners) != first.all_descriptors:
            raise _scm.MessageError(
                f"a message came with {len(arrival.owners)} descriptors, and says that it has"
                f" {first.all_descriptors}"
            )
        body = b"".join(pieces)
        arrival.table, arrival.message = body[: first.table_bytes], body[first.table_bytes :]
    except BaseException:
        transfer.abandon()
        raise


def _checked(data: bytes) -> _Header:
    if len(data) < _header.size or data[:4] != _MAGIC:
        raise _scm.MessageError(
            f"the peer sent something that is not a message of dmabuf: {data[:32]!r}"
        )
    header = _Header(*_header.unpack_from(data))
    if header.major != _MAJOR:
        theirs = f"version {header.major}.{header.minor}"
        raise _scm.MessageError(f"the peer's messages have {theirs}, this one's {_MAJOR}.{_MINOR}")
    return header


def _whole(header: _Header, limit: int) -> int:
    """Return the bytes of a whole message; raise if they are too many, or its descriptors."""
    if header.message_bytes > limit:
        raise _scm.MessageError(
            f"the peer's message has {header.message_bytes} bytes, and the limit is {limit}"
        )
    if header.table_bytes > TABLE_LIMIT:
        raise _scm.MessageError(f"the peer's message has too many objects: {header}")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if header.all_descriptors > soft:
        raise os_error(
            errno.EMFILE,
            f"a message has {header.all_descriptors} descriptors, and this process may have {soft}"
            " in all (RLIMIT_NOFILE)",
        )
    return header.all_descriptors + header.table_bytes + header.message_bytes


def _kind(kinds: Kinds, kind: int) -> Callable[[int], Any]:
    if kind not in kinds:
        raise _scm.MessageError(f"a message came with a descriptor of an unknown kind: {kind}")
    return kinds[kind]


def send(
    sock: socket.socket,
    descriptors: Sequence[tuple[int, int]],
    table: bytes,
    message: bytes | bytearray | memoryview = b"",
) -> None:
    """Send a message, and wait until the socket has all of it."""
    run(sock, send_steps(sock, descriptors, table, message))


def receive(sock: socket.socket, limit: int, kinds: Kinds, arrival: Arrival) -> None:
    """Wait for a message; what it brings is the caller's to close, also if this raises."""
    run(sock, receive_steps(sock, limit, kinds, arrival))
