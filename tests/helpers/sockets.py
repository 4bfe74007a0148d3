"""Pairs of connected Unix sockets, of each kind that carries descriptors."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

STREAM, PACKETS, DATAGRAMS = socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM
KINDS = {"stream": STREAM, "packets": PACKETS, "datagrams": DATAGRAMS}
CONNECTED = {"stream": STREAM, "packets": PACKETS}
HEADER = struct.Struct("<4sBBHQIIII")
"""The header of a part of a message."""
SECONDS = 30
"""How long the second of a pair waits: longer than any message takes."""


@contextlib.contextmanager
def socketpair(kind: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give two ends, of which the second one waits for SECONDS at most."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs:
        theirs.settimeout(SECONDS)
        yield ours, theirs
