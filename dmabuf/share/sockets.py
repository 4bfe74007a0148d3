"""Buffers, fences and images over Unix sockets: one message each, complete or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from dmabuf import _message, _wait
from dmabuf._closing import Closing
from dmabuf._fd import Hold
from dmabuf._mapping import prove
from dmabuf._message import LIMIT, Arrival
from dmabuf._scm import MessageError, Sender
from dmabuf._transfer import Steps, run
from dmabuf.buffer import Buffer
from dmabuf.fence import Fence
from dmabuf.image import Image
from dmabuf.share._objects import KINDS, Shared, Table, objects_of

__all__ = [
    "MessageError",
    "Received",
    "Sender",
    "receive",
    "receive_async",
    "send",
    "send_async",
]


class Received(Closing):
    """The objects, the bytes and the sender of one message.

        with share.receive(sock) as received:
            [buffer] = received.objects
            with buffer.read() as memory:
                ...

    The end of the `with` block closes every buffer and fence; without it the caller closes them. If
    the sender gave the same object twice, or a buffer that several images use, it is one object
    here too.
    """

    __slots__ = ("_owners", "message", "objects", "sender")

    def __init__(
        self, objects: list[Shared], message: bytes, sender: Sender | None, owners: list[Any]
    ) -> None:
        self.objects = objects
        """The buffers, fences and images, in the order in which they were sent."""
        self.message = message
        """The bytes that the sender added."""
        self.sender = sender
        """The `Sender` (pid, uid, gid) if SO_PASSCRED was set on the socket; else None."""
        self._owners = owners

    def close(self) -> None:
        """Close every buffer and fence of the message. Does nothing the second time."""
        for owner in self._owners:
            owner.close()

    def __enter__(self) -> Received:
        return self

    def __repr__(self) -> str:
        about = f"{len(self.objects)} objects, {len(self.message)} bytes"
        return f"<dmabuf.share.Received {about} sender={self.sender}>"


def send(
    sock: socket.socket,
    objects: Iterable[Shared],
    message: bytes | bytearray | memoryview = b"",
) -> None:
    """Send buffers, fences and images, and bytes of your own, as one message.

    The objects stay open here, and may be closed as soon as this returns. `sock` is a connected
    Unix socket of any type. A stream or sequential-packet socket takes any number of objects, a
    datagram at most 253 descriptors (ValueError). The same memory is sent only once, also if
    several images use it.

    With a timeout of the socket it raises TimeoutError. A non-blocking socket raises
    BlockingIOError if nothing can be sent now; once it has sent a part it sends the rest, within
    seconds. If a send stops in the middle of a message, a stream or packet socket is shut down.
    Several threads or processes must not send over one stream socket at the same time.

    Raises BrokenPipeError or ConnectionResetError if the peer is gone. OSError: ETOOMANYREFS if too
    many descriptors of this user wait in sockets, EPERM if the receiver accepts no descriptors
    (Linux 6.16), EMSGSIZE if a datagram is longer than the socket's send buffer.
    """
    with _sending(sock, objects, message) as steps:
        run(sock, steps)


def receive(sock: socket.socket, *, limit: int = LIMIT) -> Received:
    """Wait for one message, and return its objects, its bytes and its sender.

    `limit` is the largest number of the sender's bytes to accept. Everything is checked: each
    descriptor is a dma-buf or a sync_file, sizes are those of the kernel, images lie inside of
    their buffers. For `Received.sender` set SO_PASSCRED before, on this socket or on the listening
    one.

    Raises EOFError if the peer has closed, and ConnectionResetError if it did so in the middle of a
    message. MessageError (a ValueError) if it sent anything else than a message of this version
    within `limit`. OSError (EMFILE) if this process can't open that many descriptors. After
    MessageError and EMFILE a stream or packet socket is shut down, and everything that came is
    closed. Timeouts, non-blocking sockets and threads are as in `send`.
    """
    arrival = Arrival()
    try:
        _message.receive(sock, limit, KINDS, arrival)
        return _received(arrival)
    except BaseException:
        arrival.close()
        raise


async def send_async(
    sock: socket.socket,
    objects: Iterable[Shared],
    message: bytes | bytearray | memoryview = b"",
) -> None:
    """Send as `send` does, with a non-blocking socket in the running asyncio event loop.

    Tasks that send over the same socket wait for each other. A task that is cancelled in the middle
    of a message shuts a stream or packet socket down.
    """
    async with _turn(sock, "send"):
        with _sending(sock, objects, message) as steps:
            await _run(sock, steps)


async def receive_async(sock: socket.socket, *, limit: int = LIMIT) -> Received:
    """Receive as `receive` does, with a non-blocking socket in the running asyncio event loop.

    Tasks that receive from the same socket wait for each other. A task that is cancelled in the
    middle of a message shuts a stream or packet socket down.
    """
    async with _turn(sock, "receive"):
        arrival = Arrival()
        try:
            await _run(sock, _message.receive_steps(sock, limit, KINDS, arrival))
            return _received(arrival)
        except BaseException:
            arrival.close()
            raise


@contextlib.contextmanager
def _sending(
    sock: socket.socket, objects: Iterable[Shared], message: bytes | bytearray | memoryview
) -> Iterator[Steps]:
    """Hold what is to be sent, and give the steps of sending it."""
    if isinstance(objects, (Buffer, Fence, Image)):
        raise TypeError(
            f"objects must be a list or another iterable: send [{type(objects).__name__}]"
        )
    table = Table(list(objects))
    with contextlib.ExitStack() as holds:
        numbers = [holds.enter_context(Hold(owner)) for owner in table.owners]
        for owner, number in zip(table.owners, numbers, strict=True):
            if isinstance(owner, Buffer):
                prove(owner, number)
        descriptors = list(zip(table.kinds(), numbers, strict=True))
        yield _message.send_steps(sock, descriptors, table.encoded, message)


def _received(arrival: Arrival) -> Received:
    objects = objects_of(arrival.table, arrival.owners)
    return Received(objects, arrival.message, arrival.sender, arrival.owners)


async def _run(sock: socket.socket, steps: Steps) -> None:
    """Make a transfer on the running loop."""
    loop = asyncio.get_running_loop()
    try:
        if sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking: sock.setblocking(False)")
        await _wait.turn()
        for wait in steps:
            reads = wait.events == select.POLLIN
            await _ready(sock.fileno(), *_watchers(loop, reads), loop.create_future())
    finally:
        steps.close()


def _watchers(
    loop: asyncio.AbstractEventLoop, reads: bool
) -> tuple[Callable[..., None], Callable[[int], bool]]:
    if reads:
        return loop.add_reader, loop.remove_reader
    return loop.add_writer, loop.remove_writer


async def _ready(
    number: int,
    add: Callable[..., None],
    remove: Callable[[int], bool],
    future: asyncio.Future[None],
) -> None:
    def wake() -> None:
        if not future.done():
            future.set_result(None)

    add(number, wake)
    try:
        await future
    finally:
        remove(number)


_turns: weakref.WeakKeyDictionary[socket.socket, dict[object, asyncio.Lock]]
_turns = weakref.WeakKeyDictionary()


@contextlib.asynccontextmanager
async def _turn(sock: socket.socket, direction: str) -> AsyncIterator[None]:
    """Let one task of the running loop after the other send, or receive."""
    locks = _turns.setdefault(sock, {})
    async with locks.setdefault((asyncio.get_running_loop(), direction), asyncio.Lock()):
        yield
