"""One message after the other from a stream socket that doesn't block, with its descriptors."""

from __future__ import annotations

import socket
from typing import NamedTuple

from dmabuf import _scm
from dmabuf._scm import MessageError, Packet
from dmabuf.interop.gstreamer._unixfd import HEADER_BYTES, parse_header

_DONTWAIT = int(socket.MSG_DONTWAIT)


class Message(NamedTuple):
    """A whole message."""

    kind: int
    payload: bytes
    packet: Packet
    """The owner of the descriptors that came with it."""


class Inbox:
    """What has come of the next message."""

    __slots__ = ("_head", "_kind", "_left", "_packet", "_payload", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._begin()

    def _begin(self) -> None:
        self._head = b""
        self._packet: Packet | None = None
        self._kind = -1
        self._left = 0
        self._payload = b""

    def take(self) -> Message | None:
        """Return the next message, None if it isn't whole yet. EOFError if the peer has closed.

        MessageError if it is absurd, or ends in the middle; OSError (EMFILE) if this process can't
        have its descriptors.
        """
        try:
            while len(self._head) < HEADER_BYTES:
                self._receive_header()
            while self._left:
                self._receive_payload()
        except BlockingIOError:
            return None
        assert self._packet is not None  # the header came with it
        message = Message(self._kind, self._payload, self._packet)
        self._begin()
        return message

    def _receive_header(self) -> None:
        # Descriptors come with the first byte of it, and no byte of what follows is read with them.
        packet = _scm.receive(self._sock, HEADER_BYTES - len(self._head), flags=_DONTWAIT)
        if packet.ended:
            self._end()
        if self._packet is None:
            self._packet = packet
        elif packet.count:
            packet.close()
            raise MessageError("descriptors in the middle of a message")
        self._head += packet.data
        if len(self._head) == HEADER_BYTES:
            self._kind, self._left = parse_header(self._head)

    def _receive_payload(self) -> None:
        data = self._sock.recv(self._left, _DONTWAIT)  # without room for descriptors
        if not data:
            self._end()
        self._payload += data
        self._left -= len(data)

    def _end(self) -> None:
        if self._head:
            raise MessageError("a message that ends in the middle")
        raise EOFError

    def close(self) -> None:
        """Close what has come."""
        if self._packet is not None:
            self._packet.close()
        self._begin()
