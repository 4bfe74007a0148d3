"""Packets over a non-blocking connection, as both of its ends send and receive them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

from dmabuf import _scm
from dmabuf._fd import Hold
from dmabuf._mapping import prove
from dmabuf._polls import note_polled
from dmabuf.buffer import Buffer

_NOSIGNAL = int(socket.MSG_NOSIGNAL)  # a plain number: operators of enum's flags are slow


def send(sock: socket.socket, packet: bytes, buffers: Sequence[Buffer] = ()) -> None:
    """Send one packet. BlockingIOError where the peer doesn't read; ValueError for a closed buffer.

    OSError where it doesn't live.
    """
    if not buffers:
        sock.send(packet, _NOSIGNAL)
        return
    with contextlib.ExitStack() as holds:
        numbers = [holds.enter_context(Hold(buffer)) for buffer in buffers]
        for buffer, number in zip(buffers, numbers, strict=True):
            prove(buffer, number)
            note_polled(buffer)  # by the peer
        _scm.send(sock, (packet,), numbers)


def receive(sock: socket.socket, size: int) -> _scm.Packet:
    """Receive one packet of at most `size` bytes.

    BlockingIOError if there is none, MessageError or OSError if it is bad. A peer that closed with
    our messages unread says so before the last ones of its own come.
    """
    try:
        return _scm.receive(sock, size)
    except ConnectionResetError:
        return _scm.receive(sock, size)
