"""Taking what waits in another process, by a claim; see `_lender`, which is the other side."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from struct import Struct
from typing import NamedTuple

from dmabuf._owning import own_result
from dmabuf._scm import send as send_packet
from dmabuf._wait import READABLE, is_ready
from dmabuf.share._objects import Shared
from dmabuf.share.sockets import receive

REQUEST = Struct("<B16s")
"""What is asked for, TAKE or CANCEL, and the claim's token."""
TAKE, CANCEL = 1, 2


class Claim(NamedTuple):
    """What a process needs to take an object; bytes and numbers only."""

    address: bytes
    token: bytes
    pid: int


def take(claim: Claim) -> Shared:
    """Take an object, once.

    ConnectionRefusedError if the sender has ended; LookupError if it doesn't have it any more.
    """
    received = None
    try:
        with _connected(claim, TAKE) as sock:
            received = receive(sock)
        [item] = received.objects
        return item
    except (EOFError, ConnectionResetError):
        raise LookupError(
            f"process {claim.pid} no longer has the object: it was taken or dropped"
        ) from None
    except BaseException:
        if received is not None:
            received.close()
        raise


def cancel(claim: Claim) -> None:
    """Have the other process drop what waits, unless it was taken or that process has ended."""
    with (
        contextlib.suppress(ConnectionRefusedError, LookupError),
        _connected(claim, CANCEL) as sock,
    ):
        sock.recv(1)  # the end, once it is done


def _connected(claim: Claim, what: int) -> socket.socket:
    """Return a connection on which a request was sent."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.connect(claim.address)
        send_packet(sock, [REQUEST.pack(what, claim.token)])
    except BaseException as error:
        sock.close()
        if not isinstance(error, (ConnectionRefusedError, BrokenPipeError, ConnectionResetError)):
            raise
        if _lives(claim.pid):
            raise LookupError(
                f"process {claim.pid} no longer has the object: it was taken or dropped"
            ) from None
        what_failed = f"process {claim.pid}, which keeps the object, has ended"
        raise ConnectionRefusedError(errno.ECONNREFUSED, what_failed) from None
    return sock


def _lives(pid: int) -> bool:
    """Whether a process goes on."""
    try:
        process = own_result(os.pidfd_open, pid)
    except ProcessLookupError:
        return False
    with process:
        return not is_ready(process, READABLE)
