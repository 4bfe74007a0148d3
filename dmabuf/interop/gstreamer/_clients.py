"""One unixfdsrc that is connected: what it holds, and what it says.

Nothing is queued for a client. It holds at most a few buffers, so that all that is under way to it
fits into its socket; one whose socket is full is disconnected, and so is one that says nonsense.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from dmabuf import _scm
from dmabuf._record import record
from dmabuf._scm import MessageError
from dmabuf.interop.gstreamer._unixfd import HEADER_BYTES, Kind, parse_header, parse_release

_AT_ONCE = 4096  # bytes that are read before the others have their turn
_DONTWAIT = int(socket.MSG_DONTWAIT)
_credentials = Struct("=iII")


@record
class ClientInfo(NamedTuple):
    """A client of a `Sink`.

        for client in sink.clients():
            print(f"process {client.pid} holds {client.held} and missed {client.dropped}")

    It is a snapshot, as of the last `push` or `service`.
    """

    pid: int
    """The id of the process that connected."""
    uid: int
    """The id of its user."""
    held: int
    """The number of buffers that it holds."""
    sent: int
    """The number of buffers that were sent to it."""
    dropped: int
    """The number of buffers that it missed, because it or all clients held too many."""


class Client:
    """A connection."""

    __slots__ = ("_input", "caps", "dropped", "held", "pid", "sent", "sock", "uid")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _credentials.size)
        self.pid, self.uid, _ = _credentials.unpack(told)
        self.held: dict[int, float] = {}
        """The buffers that it has, each with when it must have released it: the oldest first."""
        self.caps = b""
        """The caps that it was told."""
        self.sent = 0
        self.dropped = 0
        self._input = bytearray()

    def info(self) -> ClientInfo:
        """Return what is told of it."""
        return ClientInfo(self.pid, self.uid, len(self.held), self.sent, self.dropped)

    def tell_caps(self, caps: bytes) -> bool:
        """Send caps unless it has them. False if it is to be disconnected."""
        if caps == self.caps:
            return True
        self.caps = caps
        return self.send(caps)

    def lend(self, number: int, message: bytes, descriptors: Sequence[int]) -> bool:
        """Send a buffer. False if it is to be disconnected."""
        if not self.send(message, descriptors):
            return False
        self.held[number] = math.inf
        self.sent += 1
        return True

    def expect_releases(self, moment: float) -> None:
        """Want what it has released by a moment, unless that was wanted earlier.

        Called when there is a newer buffer: GStreamer's sinks keep the last one that they got.
        """
        for number, until in self.held.items():
            if until == math.inf:
                self.held[number] = moment

    def send(self, message: bytes, descriptors: Sequence[int] = ()) -> bool:
        """Send a message. False if it is to be disconnected: it has gone, or reads nothing."""
        try:
            sent = _scm.send(self.sock, [message], descriptors, flags=_DONTWAIT)
        except OSError:
            return False
        return sent == len(message)

    def hear(self, released: list[int]) -> None:
        """Read what it says, and add the buffers that it releases to a list. EOFError at its end.

        MessageError if it releases what it hasn't, or says what can't be.
        """
        try:
            data = self.sock.recv(_AT_ONCE, _DONTWAIT)  # without room for descriptors
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            raise EOFError
        self._input += data
        while (message := self._next()) is not None:
            kind, payload = message
            if kind == Kind.RELEASE:
                number = parse_release(payload)
                if self.held.pop(number, None) is None:
                    raise MessageError(f"a release of buffer {number}, which it doesn't hold")
                released.append(number)

    def _next(self) -> tuple[int, bytes] | None:
        """Return the next message, None if it isn't whole."""
        if len(self._input) < HEADER_BYTES:
            return None
        kind, length = parse_header(bytes(self._input[:HEADER_BYTES]))
        end = HEADER_BYTES + length
        if len(self._input) < end:
            return None
        payload = bytes(self._input[HEADER_BYTES:end])
        del self._input[:end]
        return kind, payload
