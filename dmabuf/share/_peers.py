"""A subscriber, as its publisher has it: all changes of a connection's state.

=========  ==========================================  =======================================
state      what it may do                              what ends it
=========  ==========================================  =======================================
NEW        say HELLO                                   HELLO: JOINED; its time: BROKEN
JOINED     WANT and RELEASE; it gets items             a hold's time: PARTING; all else: BROKEN
PARTING    RELEASE, and go: nothing is sent any more   its end, or a bad message: BROKEN
BROKEN     nothing: the publisher takes it out, and    `close()`: GONE
           everything out of its hands
GONE       nothing                                     -
=========  ==========================================  =======================================
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from enum import Enum
from struct import Struct
from typing import NamedTuple

from dmabuf._mapping import note_shared
from dmabuf._record import record
from dmabuf._scm import MessageError, Sender
from dmabuf.share import _messages, _packets, _wire
from dmabuf.share._items import Item
from dmabuf.share._memories import Memory
from dmabuf.share._messages import Message, Policy, Reason

_MOST_SKIPPED = 32  # messages that may be skipped, before the others have their turn
_MOST_READ = _wire.MOST_ASKED + 1  # so that one that is longer is seen
_credentials = Struct("=iII")  # struct ucred of include/linux/socket.h


class PeerState(Enum):
    """Where a connection is: the table at the head of this file."""

    NEW = "new"
    JOINED = "joined"
    PARTING = "parting"
    BROKEN = "broken"
    GONE = "gone"


_ENDED = PeerState.BROKEN, PeerState.GONE


@record
class SubscriberInfo(NamedTuple):
    """What a publisher knows about one subscriber.

        for one in publisher.subscribers():
            print(one.pid, one.delivered, one.dropped)

    It is a snapshot.
    """

    pid: int
    """The process id; 0 if the process is in a PID namespace that can't be seen from here."""
    uid: int
    """The user id."""
    held: int
    """The number of frames that it holds."""
    delivered: int
    """The number of frames that were sent to it."""
    dropped: int
    """The number of items that it missed."""


class Peer:
    """One connection to a subscriber."""

    __slots__ = (
        "_broken",
        "_is_told",
        "_sock",
        "credits",
        "deadline",
        "delivered",
        "depth",
        "dropped",
        "held",
        "known",
        "parted",
        "policy",
        "queued",
        "sender",
        "state",
        "waits_since",
    )

    def __init__(self, sock: socket.socket, broken: list[Peer]) -> None:
        self._sock = sock
        self._broken = broken
        """Where it puts itself once it is BROKEN."""
        self.state = PeerState.NEW
        self.sender: Sender | None = None
        self.deadline = 0.0
        """Until when HELLO must be there; and its end, once it is PARTING."""
        self.parted = False
        """Whether it is or was PARTING, so that what it holds hangs."""
        self.depth = 0
        self.policy = Policy.LATEST
        self.credits = 0
        self._is_told = False  # that what it has asked for can't come
        self.held: dict[int, tuple[Item, float]] = {}
        """What was sent and not released, by sequence, with when it was sent: the oldest first."""
        self.queued: deque[Item] = deque()
        """What will be sent."""
        self.waits_since = 0.0
        """Since when that waits for it to ask: when the first came, or the one before was sent."""
        self.known: dict[int, Memory] = {}
        """The memories that it was told of, by generation."""
        self.delivered = 0
        self.dropped = 0

    def fileno(self) -> int:
        """Return the socket's number."""
        return self._sock.fileno()

    def info(self) -> SubscriberInfo:
        """Return what is known of it."""
        pid, uid, _ = (0, self._connected_uid(), 0) if self.sender is None else self.sender
        return SubscriberInfo(pid, uid, len(self.held), self.delivered, self.dropped)

    def _connected_uid(self) -> int:
        """Return the user who connected, where the kernel can't name the sender's process."""
        size = _credentials.size
        found = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return int(_credentials.unpack(found)[1])

    @property
    def held_since(self) -> float:
        """When the oldest of what it holds was sent."""
        return next(iter(self.held.values()))[1]

    def enqueue(self, item: Item, now: float) -> None:
        """Have an item wait until it is asked for."""
        if not self.queued:
            self.waits_since = now
        self.queued.append(item)

    def overflow(self) -> Item | None:
        """Return what it would lose by one more item in its queue."""
        most = 1 if self.policy is Policy.LATEST else self.depth
        return self.queued[0] if len(self.queued) >= most else None

    @property
    def has_said_all(self) -> bool:
        """Whether it may say nothing more before it is sent something."""
        return self.credits == self.depth and not self.held

    def receive(self) -> Message | None:
        """Return its next message; None if there is none now, or never again: BROKEN."""
        for _ in range(_MOST_SKIPPED):
            if self.state in _ENDED:
                return None
            try:
                data = self._hello() if self.state is PeerState.NEW else self._packet()
                if not data:
                    self._set_state(PeerState.BROKEN)
                    return None
                message = _wire.unpack(data, 0)
            except BlockingIOError:
                return None
            except (OSError, MessageError) as error:
                self.refuse(error)
                return None
            if message is not None:
                return message
        return None

    def _hello(self) -> bytes:
        """Return the first packet's bytes, and note who sent it."""
        with _packets.receive(self._sock, _wire.MOST_ASKED) as packet:
            if packet.count:
                raise MessageError(f"HELLO came with {packet.count} descriptors")
            self.sender = packet.sender
            return packet.data

    def _packet(self) -> bytes:
        """Return the next packet's bytes, none at its end.

        The kernel closes the descriptors of a recv(2), which has no room for them.
        """
        try:
            data = self._sock.recv(_MOST_READ)
        except ConnectionResetError:  # it closed with our messages unread; its last ones come now
            data = self._sock.recv(_MOST_READ)
        if len(data) == _MOST_READ:
            raise MessageError(f"a packet has more than {_wire.MOST_ASKED} bytes")
        return data

    def refuse(self, error: Exception) -> None:
        """End the connection, for what it sent or failed to take."""
        if isinstance(error, MessageError):
            self._send(_wire.pack_bye(Reason.REFUSED))
        self._set_state(PeerState.BROKEN)

    def join(self, hello: _messages.Hello, sequence: int) -> None:
        """Take HELLO, and answer it with the number of the next item."""
        if self.state is not PeerState.NEW:
            raise MessageError("HELLO came twice")
        if hello.depth > _messages.MOST_DEPTH:
            raise MessageError(
                f"HELLO says a depth of {hello.depth}, more than {_messages.MOST_DEPTH}"
            )
        self.depth, self.policy = hello.depth, hello.policy
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)  # it is known now
        self._set_state(PeerState.JOINED)
        self._send(_wire.pack_welcome(sequence))

    def want(self, frames: int) -> None:
        """Take WANT."""
        if self.state is PeerState.NEW:
            raise MessageError("WANT came before HELLO")
        if frames + self.credits + len(self.held) > self.depth:
            raise MessageError(f"WANT asks for {frames} frames more than it may hold")
        self.credits += frames
        self._is_told = False

    def release(self, release: _messages.Release) -> Item:
        """Take RELEASE, and return the item that it has no more."""
        slot, generation, sequence = release
        if sequence not in self.held:
            raise MessageError(f"RELEASE of item {sequence}, which it doesn't hold")
        item, _ = self.held[sequence]
        first = item.memories[0]
        if slot != first.slot or generation != first.generation:
            raise MessageError(f"RELEASE of item {sequence} names another memory")
        del self.held[sequence]
        return item

    def send(self, item: Item, now: float) -> None:
        """Send it an item, against a credit; BROKEN if it doesn't take it."""
        known, new, buffers = self.known, 0, []
        for index, memory in enumerate(item.memories):
            if memory.generation not in known:
                known[memory.generation] = memory
                memory.knowers += 1
                new |= 1 << index
                buffers.append(item.offer.buffers[index])
                note_shared(buffers[-1])
        self.credits -= 1
        self.held[item.sequence] = item, now
        self.delivered += 1
        try:
            _packets.send(self._sock, item.packer.pack(new), buffers)
        except (OSError, ValueError):
            self._set_state(PeerState.BROKEN)

    def tell_busy(self, limit: _messages.Busy) -> None:
        """Tell it, once, that it has as many as it gets at a time."""
        if not self._is_told:
            self._is_told = True
            self._send(_wire.pack_busy(*limit))

    def retire(self, memory: Memory) -> None:
        """Tell it that a memory won't come again."""
        if self.known.pop(memory.generation, None) is not None:
            memory.knowers -= 1
            self._send(_wire.pack_retire(memory.slot, memory.generation))

    def part(self) -> None:
        """Disconnect it, so that its end can still be seen."""
        self.parted = True
        self._set_state(PeerState.PARTING)
        self._send(_wire.pack_bye(Reason.HELD_TOO_LONG))
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def break_off(self) -> None:
        """Have it taken out."""
        self._set_state(PeerState.BROKEN)

    def say_bye(self) -> None:
        """Tell it that the publisher has closed.

        One that is to be taken out, since a signal handler raised amid its message, has not heard.
        """
        with contextlib.suppress(OSError):
            _packets.send(self._sock, _wire.pack_bye(Reason.CLOSED))

    def close(self) -> None:
        """Close the connection. Nothing is said: a child leaves its copy like this too."""
        self.state = PeerState.GONE
        self._sock.close()
        while self.known:
            _, memory = self.known.popitem()
            memory.knowers -= 1

    def _send(self, packet: bytes) -> None:
        """Send a message that takes no credit: one who lets them pile up is taken out."""
        if self.state in _ENDED:
            return
        try:
            _packets.send(self._sock, packet)
        except OSError:
            self._set_state(PeerState.BROKEN)

    def _set_state(self, state: PeerState) -> None:
        if self.state not in _ENDED:
            if state is PeerState.BROKEN:
                self._broken.append(self)
            self.state = state
