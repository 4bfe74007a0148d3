"""A transfer over a Unix socket, which waits in poll(2) or in an event loop.

What sends or receives is written once, as a generator that yields what it waits for: `run` waits in
poll(2), as the socket's time-out says, and an event loop in its own way. Whoever stops in the
middle of a message shuts the connection down: what would follow is garbage.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import time
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeAlias

from dmabuf import _scm, _syspoll

_REST = 5.0
"""Seconds that a non-blocking socket waits for the rest of a message that has begun."""
_READ = 1 << 18  # bytes asked for at once
_DONTWAIT = int(socket.MSG_DONTWAIT)  # operators of enum's flags are slow
_DAY = 86400.0  # poll(2) takes 24 of them at the most


class Wait(NamedTuple):
    """What a transfer waits for."""

    events: int
    begun: bool  # in the middle of a message


Steps: TypeAlias = Generator[Wait, None, None]


class Transfer:
    """One message on one socket."""

    def __init__(self, sock: socket.socket) -> None:
        if not isinstance(sock, socket.socket):
            raise TypeError(f"sock must be a socket.socket, not {type(sock).__name__}")
        plain: Any = super(socket.socket, sock)  # its numbers are not made enumerations, each time
        if plain.family != socket.AF_UNIX:
            raise ValueError(
                f"descriptors can only be sent over Unix sockets (AF_UNIX), not over {sock!r}"
            )
        self.sock = sock
        self.stream = plain.type == socket.SOCK_STREAM
        self.datagram = plain.type == socket.SOCK_DGRAM
        self.packets = plain.type == socket.SOCK_SEQPACKET
        self.begun = False

    def wait(self, events: int) -> Wait:
        """Return what to wait for now."""
        return Wait(events, self.begun)

    def abandon(self) -> None:
        """Make the peer see that a message which has begun will have no end."""
        if self.begun and not self.datagram:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)

    def give(self, data: Sequence[bytes | memoryview], descriptors: Sequence[int]) -> Steps:
        """Send one part."""
        views = [memoryview(piece) for piece in data]
        if self.sock.gettimeout():
            yield self.wait(select.POLLOUT)
        while views:
            before, self.begun = self.begun, True  # unless the kernel says that it is not
            try:
                sent = _scm.send(self.sock, views, descriptors, flags=_DONTWAIT)
            except OSError as error:
                self.begun = before
                if not isinstance(error, BlockingIOError):
                    raise
                yield self.wait(select.POLLOUT)
                continue
            descriptors = ()
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if views:
                views[0] = views[0][sent:]

    def take(self, size: int) -> Generator[Wait, None, _scm.Packet]:
        """Receive one packet."""
        if self.sock.gettimeout():
            yield self.wait(select.POLLIN)
        while True:
            before, self.begun = self.begun, True
            try:
                return _scm.receive(self.sock, size, flags=_DONTWAIT)
            except OSError as error:
                if error.errno != errno.EMFILE:  # it was received, and what came is closed
                    self.begun = before
                if not isinstance(error, BlockingIOError):
                    raise
            yield self.wait(select.POLLIN)

    def take_bytes(self, size: int) -> Generator[Wait, None, bytes]:
        """Receive so many bytes of a stream, which come without descriptors."""
        pieces = []
        while size:
            with (yield from self.take(min(size, _READ))) as packet:
                if packet.ended:
                    raise torn()
                packet.adopt(())
                pieces.append(packet.data)
                size -= len(packet.data)
        return b"".join(pieces)


def torn() -> ConnectionResetError:
    """Return the error for a peer that went in the middle of a message."""
    return ConnectionResetError(
        errno.ECONNRESET, "the peer closed the connection in the middle of a message"
    )


def run(sock: socket.socket, steps: Steps) -> None:
    """Make a transfer here, as the socket has it: blocking, with a time-out, or non-blocking."""
    timeout = None
    try:
        for wait in steps:
            if timeout is None:  # for the first wait
                timeout = sock.gettimeout()
                timeout = math.inf if timeout is None else timeout
                deadline = time.monotonic() + (timeout or _REST)
            if not timeout and not wait.begun:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            _poll(sock, wait.events, deadline)
    finally:
        steps.close()


def _poll(sock: socket.socket, events: int, deadline: float) -> None:
    poll = _syspoll.poll()
    poll.register(sock, events)
    left = None
    if deadline < math.inf:
        left = math.ceil(min(max(deadline - time.monotonic(), 0.0), _DAY) * 1000)
    if not poll.poll(left) and time.monotonic() >= deadline:
        raise TimeoutError(errno.ETIMEDOUT, f"no complete message went over {sock!r} in time")
