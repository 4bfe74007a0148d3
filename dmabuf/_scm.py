"""One packet over a Unix socket, with descriptors: sendmsg(2), recvmsg(2) and SCM_RIGHTS.

    send(sock, [header, body], [3, 4])          # numbers that somebody holds meanwhile
    with receive(sock, size) as packet:         # at most `size` bytes, every descriptor owned
        if packet.ended: ...                    # no bytes and no descriptors: the peer has closed
        packet.data, packet.count, packet.sender
        packet.adopt([Buffer, Fence])           # one kind a descriptor; proved, or MessageError
        buffer, fence = packet.take()           # now they are the caller's

A packet closes what nobody took: at the end of its block, when it is collected, and where anything
raises. It closes what it has if the kernel gave fewer descriptors than were sent, too.

Both take `flags` of socket(7), of which MSG_DONTWAIT makes BlockingIOError of a wait on any socket.
`sender` is (pid, uid, gid) if SO_PASSCRED was set on the receiver's socket, or on the listening one
that it came from, before the peer sent; else None. SO_PEERCRED would name whoever made the socket.

Follows net/core/scm.c and net/unix/af_unix.c. On a stream socket two packets merge, so that a
packet with descriptors must be received by its exact size.
"""

from __future__ import annotations

import errno
import resource
import socket
from collections.abc import Callable, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from dmabuf._closing import Closing
from dmabuf._polls import close_received
from dmabuf._procfs import open_file
from dmabuf._record import record
from dmabuf.errors import os_error

if TYPE_CHECKING:
    from typing import Protocol

    class Owner(Protocol):
        """A buffer, a fence: what owns a descriptor."""

        def close(self) -> None:
            """Close it."""


MOST = 253
"""How many descriptors a packet holds: SCM_MAX_FD in include/net/scm.h."""
SCM_PIDFD = 4  # include/linux/socket.h; from Linux 6.5, if the socket has SO_PASSPIDFD

# Plain numbers: operators of enum's flags take longer than the system call.
_CLOEXEC, _NOSIGNAL = int(socket.MSG_CMSG_CLOEXEC), int(socket.MSG_NOSIGNAL)
_CTRUNC, _TRUNC = int(socket.MSG_CTRUNC), int(socket.MSG_TRUNC)
_TORN = _CTRUNC | _TRUNC
_credentials = Struct("=iII")
_LABEL_BYTES = 256  # of SELinux or another, if the socket has SO_PASSSEC
_ROOM = sum(
    map(socket.CMSG_SPACE, (4 * (MOST + 1), _credentials.size, Struct("=i").size, _LABEL_BYTES))
)


class MessageError(ValueError):
    """A peer sent something that is not a valid message. Nothing of it is kept.

        try:
            received = share.receive(sock)
        except share.MessageError as error:
            print(f"a client is disconnected: {error}")

    The message is incomplete, too long, of another version, has other descriptors than it declares,
    or an image that does not fit its buffer.
    """


@record
class Sender(NamedTuple):
    """The process that sent a message.

        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with share.receive(sock) as received:
            print(f"from process {received.sender.pid}")

    The kernel fills it in, with the ids as this process's namespaces show them.
    """

    pid: int
    """The id of the process, which may have ended since."""
    uid: int
    """The id of its user."""
    gid: int
    """The id of its group."""


def send(
    sock: socket.socket,
    data: Sequence[bytes | bytearray | memoryview],
    descriptors: Sequence[int] = (),
    *,
    flags: int = 0,
) -> int:
    """Send one packet of at least one byte, and return how many bytes went, on a stream maybe less.

    The descriptors went with the first byte. ValueError for more than MOST; BrokenPipeError where
    nobody reads any more, without a SIGPIPE; OSError with what to do for ETOOMANYREFS, EPERM and
    EMSGSIZE.
    """
    count = len(descriptors)
    if count > MOST:
        raise ValueError(f"a packet holds at most {MOST} descriptors, not {count}")
    try:
        if not count:
            return sock.sendmsg(data, (), flags | _NOSIGNAL)
        rights = Struct(f"={count}i").pack(*descriptors)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
        return sock.sendmsg(data, ancillary, flags | _NOSIGNAL)
    except OSError as error:
        advice = _send_advice(error.errno, count)
        if advice is None:
            raise
        raise os_error(error.errno or 0, advice) from None


def _send_advice(number: int | None, count: int) -> str | None:
    if number == errno.ETOOMANYREFS:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return (
            f"sending {count} descriptors: this user has more than {soft} under way in sockets,"
            " its limit (RLIMIT_NOFILE); let receivers take them, or raise ulimit -n"
        )
    if number == errno.EPERM and count:
        return (
            f"sending {count} descriptors: the receiver has switched descriptors off for its socket"
            " (SO_PASSRIGHTS, Linux 6.16), or a security module forbids it"
        )
    if number == errno.EMSGSIZE:
        return (
            "sending a packet that is longer than the socket's send buffer; send less at once,"
            " raise SO_SNDBUF (limit: /proc/sys/net/core/wmem_max), or use a stream socket"
        )
    return None


def receive(sock: socket.socket, size: int, *, flags: int = 0) -> Packet:
    """Receive one packet of at most `size` bytes, and return it with all of its descriptors.

    MessageError if a packet is longer, which is lost then. OSError with EMFILE and the limit if
    this process can't have that many descriptors. Every descriptor is closed on exec.
    """
    packet = Packet()
    try:
        # What recvmsg returns is in the list before a signal handler can run.
        packet.landed.extend(map(sock.recvmsg, (size,), (_ROOM,), (flags | _CLOEXEC,)))
        data, ancillary, came, _ = packet.landed[0]
        if ancillary or came & _TORN:
            packet.unpack(size)
        else:  # bytes alone, as most packets
            packet.data = data
            packet.landed.clear()
    except BaseException:
        packet.close()
        raise
    return packet


class Packet(Closing):
    """What arrived: bytes, the owned descriptors, and who sent it. See the head of this file."""

    __slots__ = ("_numbers", "_objects", "_others", "data", "landed", "sender")

    def __init__(self) -> None:
        self.landed: list[tuple[bytes, list[tuple[int, int, bytes]], int, Any]] = []
        self.data = b""
        self.sender: Sender | None = None
        self._numbers: list[int] = []
        self._objects: list[Any] = []  # the owners of the first of the numbers
        self._others: list[int] = []  # what the kernel added (SO_PASSPIDFD), and what is refused

    @property
    def count(self) -> int:
        """How many descriptors came."""
        return len(self._numbers)

    @property
    def ended(self) -> bool:
        """Whether the peer has closed its end: no bytes, and no descriptors."""
        return not self.data and not self._numbers

    def unpack(self, size: int) -> None:
        """Sort out what recvmsg gave; raise if it isn't whole."""
        data, ancillary, flags, _ = self._sort()
        if flags & _CTRUNC:
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            raise os_error(
                errno.EMFILE,
                f"the descriptors of a message: {self.count} of them came, and this process may"
                f" have {soft} in all (RLIMIT_NOFILE)",
            )
        if flags & _TRUNC:
            raise MessageError(f"the peer sent a packet of more than {size} bytes")
        self.data = data
        for level, kind, value in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                sender = Sender(*_credentials.unpack(value))
                self.sender = sender if sender.pid else None  # 0: not recorded when it was sent

    def _sort(self) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        landed = self.landed[0]
        if not landed[1]:
            self.landed = []
            return landed
        numbers = _numbers(landed[1], socket.SCM_RIGHTS)
        others = _numbers(landed[1], SCM_PIDFD)
        # No signal handler runs before all of it is done.
        self._numbers, self._others, self.landed = numbers, others, []
        return landed

    def adopt(self, kinds: Sequence[Callable[[int], Owner]]) -> None:
        """Make each descriptor's owner: `kinds` are Buffer, Fence, or what else takes a number.

        MessageError if there are more or fewer, or if one is something else; the block's end closes
        them all.
        """
        wanted, numbers, objects = len(kinds), self._numbers, self._objects
        try:
            if wanted != self.count:
                raise MessageError(f"a message of {wanted} descriptors came with {self.count}")
            for kind, number in zip(kinds, numbers, strict=True):
                # It is in the list before a signal handler can run.
                objects.extend(map(kind, (number,)))
        except ValueError as error:
            index = len(objects)
            if index >= wanted or isinstance(error, MessageError):
                raise
            found = open_file(numbers[index])
            raise MessageError(f"descriptor {index} of a message is wrong: {found}") from error

    def take(self) -> list[Any]:
        """Return what was adopted, which is the caller's from here on."""
        objects = self._objects
        # No signal handler runs before both are gone.
        self._objects, self._numbers = [], []
        return objects

    def close(self) -> None:
        """Close what nobody took. Where a signal handler raises in it, collection does the rest."""
        if self.landed:
            self._sort()
        if not self._numbers and not self._others:
            return
        owned = len(self._objects)
        # No signal handler runs here, between the two.
        self._others, self._numbers = self._numbers[owned:] + self._others, self._numbers[:owned]
        close_received(self._others)
        for owner in self._objects:
            owner.close()
        self._objects, self._numbers = [], []

    def __enter__(self) -> Packet:
        return self

    def __del__(self) -> None:
        try:
            self.close()
        except AttributeError:
            pass  # the constructor was interrupted


def _numbers(ancillary: Sequence[tuple[int, int, bytes]], *kinds: int) -> list[int]:
    """Return the descriptors of recvmsg's result, of some kinds."""
    return [
        number
        for level, kind, value in ancillary
        if level == socket.SOL_SOCKET and kind in kinds
        for (number,) in Struct("=i").iter_unpack(value[: len(value) // 4 * 4])
    ]
