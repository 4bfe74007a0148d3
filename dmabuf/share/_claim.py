"""Taking what waits in another process, by a claim; see `_lender`, which is the other side."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from struct import Struct
from typing import NamedTuple

from dmabuf._owning import own_result
from dmabuf._scm import MessageError
from dmabuf._scm import send as send_packet
from dmabuf._wait import READABLE, is_ready
from dmabuf.share._objects import Shared
from dmabuf.share.sockets import Received, receive

REQUEST = Struct("<B16s")
"""What is asked for, TAKE or CANCEL, and the claim's token."""
TAKE, CANCEL = 1, 2
_TIMES = 3  # that a lender is asked which hangs up


class Claim(NamedTuple):
    """What a process needs to take an object; bytes and numbers only."""

    address: bytes
    token: bytes
    pid: int


def take(claim: Claim) -> Shared:
    """Take an object, once.

    ConnectionRefusedError if the sender has ended; LookupError if it doesn't have it any more;
    MessageError if it answers with anything else than one object.
    """
    received = _ask(claim, TAKE)
    if len(received.objects) == 1:
        return received.objects[0]
    received.close()
    if received.objects:
        raise MessageError(f"process {claim.pid} sent {len(received.objects)} objects for a claim")
    raise _nothing(claim)


def cancel(claim: Claim) -> None:
    """Have the other process drop what waits, unless it was taken or that process has ended."""
    with contextlib.suppress(ConnectionRefusedError, LookupError):
        _ask(claim, CANCEL).close()


def _ask(claim: Claim, what: int) -> Received:
    """Return the answer to a request, without an object where there is nothing to be given.

    A lender may hang up before it hears the request, where all is slow: it is asked again then.
    """
    received = None
    for _ in range(_TIMES):
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                _connect(sock, claim)
                send_packet(sock, [REQUEST.pack(what, claim.token)])
                received = receive(sock)
            return received
        except (EOFError, BrokenPipeError, ConnectionResetError):
            continue
        except BaseException:
            if received is not None:
                received.close()
            raise
    raise _nothing(claim)


def _connect(sock: socket.socket, claim: Claim) -> None:
    try:
        sock.connect(claim.address)
    except ConnectionRefusedError:
        if _lives(claim.pid):
            raise _nothing(claim) from None
        what_failed = f"process {claim.pid}, which keeps the object, has ended"
        raise ConnectionRefusedError(errno.ECONNREFUSED, what_failed) from None


def _nothing(claim: Claim) -> LookupError:
    return LookupError(f"process {claim.pid} no longer has the object: it was taken or dropped")


def _lives(pid: int) -> bool:
    """Whether a process goes on."""
    try:
        process = own_result(os.pidfd_open, pid)
    except ProcessLookupError:
        return False
    with process:
        return not is_ready(process, READABLE)
