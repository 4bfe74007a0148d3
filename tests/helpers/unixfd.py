"""Clients and sinks of the unixfd protocol that do just what a test tells them."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence

from dmabuf import _scm
from dmabuf.interop.gstreamer._unixfd import Kind, pack_caps, pack_release, parse_buffer

CAPS = "video/x-raw, format=(string)GRAY8, width=(int)64, height=(int)16"


class RawClient:
    """What connects to a sink, and reads only when told."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(path)
        self.sock.settimeout(60)

    def read(self) -> tuple[int, bytes]:
        """Return a message's type and payload; its descriptors are closed."""
        with _scm.receive(self.sock, 8) as packet:
            if packet.ended:
                raise EOFError
            kind, length = struct.unpack("=II", packet.data)
        payload = b""
        while len(payload) < length:
            payload += self.sock.recv(length - len(payload))
        return kind, payload

    def read_buffer(self) -> int:
        """Return the number of the next buffer, past the caps."""
        while True:
            kind, payload = self.read()
            if kind == Kind.NEW_BUFFER:
                return parse_buffer(payload).id

    def release(self, number: int) -> None:
        """Give a buffer back."""
        self.sock.sendall(pack_release(number))

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


class RawSink:
    """What listens for one source, and sends what it is told."""

    def __init__(self, path: str) -> None:
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(path)
        self._listening.listen()
        self.sock: socket.socket | None = None

    def accept(self) -> None:
        """Take the source's connection."""
        self.sock, _ = self._listening.accept()

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send bytes, with descriptors on the first."""
        _scm.send(self.sock, [data], descriptors)

    def caps(self, text: str = CAPS) -> None:
        """Send caps."""
        self.send(pack_caps(text))

    def __enter__(self) -> RawSink:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        if self.sock is not None:
            self.sock.close()


def memfd(data: bytes) -> int:
    """Return a memfd with some contents."""
    number = os.memfd_create("frame")
    os.write(number, data)
    return number
