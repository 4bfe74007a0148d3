"""Who gets what: subscribers and items, and the messages and times that move them."""

from __future__ import annotations

import socket
import time

from dmabuf._scm import MessageError
from dmabuf.share import _messages
from dmabuf.share._events import READABLE, Events
from dmabuf.share._items import Item, Items
from dmabuf.share._messages import Start
from dmabuf.share._offers import Offer
from dmabuf.share._peers import Peer, PeerState
from dmabuf.share._room import Room

# Messages that are taken of one peer before the others have their turn: all that one may have said
# that keeps to the rules.
_AT_ONCE = 2 * _messages.MOST_DEPTH + 1


class Delivery:
    """All subscribers of a publisher, and what they have. One thread at a time.

    `in_flight` items may be out, `hold_timeout` is how long a subscriber may keep one (None: for
    ever), and `patience` how long anything else takes at the most; both in seconds.
    """

    __slots__ = (
        "_broken",
        "_events",
        "_held_back",
        "_hold_timeout",
        "_keep_last",
        "_patience",
        "_sequence",
        "items",
        "peers",
        "room",
    )

    def __init__(
        self,
        events: Events,
        *,
        in_flight: int,
        keep_last: bool,
        hold_timeout: float | None,
        patience: float,
    ) -> None:
        self._events = events
        self._keep_last = keep_last
        self._hold_timeout = hold_timeout
        self._patience = patience
        self._sequence = 0
        self._held_back = False
        """Whether a peer that has asked waits, since it has some already."""
        self.items = Items(events, max(in_flight // 2, 1), patience)
        self.peers: list[Peer] = []
        self.room = Room(
            self.peers,
            self.items,
            events,
            in_flight=in_flight,
            keep_last=keep_last,
            hold_timeout=hold_timeout,
        )
        self._broken: list[Peer] = []

    def deliver(self, offer: Offer) -> int:
        """Take an item over, send it or queue it, and return to how many."""
        item = self.items.add(self._sequence, offer)
        self._sequence += 1
        try:
            return self._hand_out(item)
        finally:
            self.items.settle(item)
            self.tidy()

    def _hand_out(self, item: Item) -> int:
        peers = self.room.joined()
        if not self._make_room(peers):
            for peer in peers:
                peer.dropped += 1
            return 0
        now = self._sending()
        for peer in peers:
            self.items.hold(item)
            if self.room.takes(peer, item):
                peer.send(item, now)
                continue
            lost = peer.overflow()
            peer.enqueue(item, now)
            self._hold_back(peer)
            if lost is not None:
                self._take_back(peer, lost)
        if self._keep_last:
            self.items.keep(item)
        return len(peers)

    def _make_room(self, peers: list[Peer]) -> bool:
        """Make room for an item, in the place of what was sent to nobody; False if all was sent."""
        while peers and self.room.is_full():
            lost = self.room.oldest_unsent()
            if lost is None:
                return False
            for peer in peers:
                if lost in peer.queued:
                    self._take_back(peer, lost)
        return True

    def _take_back(self, peer: Peer, item: Item) -> None:
        """Take an item out of a peer's queue, which misses it."""
        peer.queued.remove(item)
        peer.dropped += 1
        self.items.let_go(item)

    def _sending(self) -> float:
        """Have it looked for what is sent now and kept for too long; return the time."""
        now = time.monotonic()
        if self._hold_timeout is not None:
            self._events.wake_at(now + self._hold_timeout)
        return now

    def add(self, sock: socket.socket) -> None:
        """Take a new connection, which has to say HELLO in time, and may have."""
        peer = Peer(sock, self._broken)
        peer.deadline = time.monotonic() + self._patience
        self.peers.append(peer)
        self._events.watch(peer.fileno(), READABLE, peer)
        self._events.wake_at(peer.deadline)
        self.hear(peer)

    def hear(self, peer: Peer) -> None:
        """Take a peer's messages; a bad one ends it."""
        try:
            for _ in range(_AT_ONCE):
                message = peer.receive()
                if message is None:
                    return
                self._obey(peer, message)
                if peer.has_said_all:
                    return
        except MessageError as error:
            peer.refuse(error)
        except BaseException:
            peer.break_off()  # a signal handler raised, and the message may be lost
            raise

    def _obey(self, peer: Peer, message: _messages.Message) -> None:
        if isinstance(message, _messages.Release):
            item = peer.release(message)
            if peer.parted:
                self.items.end_hanging(item)
            else:
                self.items.let_go(item)
        elif isinstance(message, _messages.Want):
            peer.want(message.frames)
            self._send_queued(peer)
        elif isinstance(message, _messages.Hello):
            peer.join(message, self._sequence)
            last = self.items.last
            if message.start is Start.LAST and last is not None:
                self.items.hold(last)
                peer.enqueue(last, time.monotonic())
        else:
            raise MessageError(f"a subscriber must not send {type(message).__name__}")

    def _send_queued(self, peer: Peer) -> None:
        while (
            peer.queued and peer.state is PeerState.JOINED and self.room.takes(peer, peer.queued[0])
        ):
            item = peer.queued[0]
            if item.can_be_sent:
                del peer.queued[0]
                peer.waits_since = self._sending()
                peer.send(item, peer.waits_since)
            else:
                self._take_back(peer, item)
        if peer.queued:
            self._hold_back(peer)

    def _hold_back(self, peer: Peer) -> None:
        """Have it looked again whether a peer that has asked may have what waits for it.

        One that may not beside others, before it gives something back, is told so.
        """
        if peer.credits:
            self._held_back = True
            limit = self.room.limit(peer)
            if limit is not None:
                peer.tell_busy(limit)

    def look_at_times(self) -> None:
        """End what has taken too long."""
        now = time.monotonic()
        self.items.look_at_times(now)
        for peer in self.peers:
            deadline = peer.deadline
            if peer.state is PeerState.JOINED:
                if self._hold_timeout is None or not peer.held:
                    continue
                deadline = peer.held_since + self._hold_timeout
            if now < deadline:
                self._events.wake_at(deadline)
            elif peer.state is PeerState.JOINED:
                self._part(peer, now + self._patience)
            else:
                peer.break_off()

    def _part(self, peer: Peer, deadline: float) -> None:
        """Disconnect a peer that has kept a frame for too long; its end is still looked for."""
        peer.deadline = deadline
        self._events.wake_at(deadline)
        peer.part()
        while peer.queued:
            self.items.let_go(peer.queued.popleft())
        for item, _ in list(peer.held.values()):
            self.items.leave_hanging(item)

    def tidy(self) -> None:
        """Take out who is broken, tell the others of memories that won't come again.

        What was held back is sent, if it may be now.
        """
        self._clear()
        if self._held_back:
            self._held_back = False
            for peer in self.room.joined():
                if peer.credits:
                    self._send_queued(peer)
            self._clear()

    def _clear(self) -> None:
        retired, broken = self.items.memories.retired, self._broken
        while retired or broken:
            if retired:
                memory = retired.pop()
                for peer in self.peers:
                    peer.retire(memory)
            else:
                self._take_out(broken[0])
                del broken[0]

    def _take_out(self, peer: Peer) -> None:
        if peer in self.peers:  # or a signal handler had raised in here, before the rest was done
            self.peers.remove(peer)
        self._events.unwatch(peer.fileno())
        peer.close()
        while peer.queued:
            self.items.let_go(peer.queued.popleft())
        while peer.held:
            _, (item, _) = peer.held.popitem()
            if peer.parted:
                self.items.end_hanging(item, dead=True)
            else:
                self.items.let_go(item, dead=True)

    def close(self) -> None:
        """Say goodbye, and give every item back."""
        peers, self.peers = self.peers, []
        for peer in peers:
            peer.say_bye()
            self._events.unwatch(peer.fileno())
            peer.close()
        self.items.close()

    def leave(self) -> None:
        """Close this child's copies, and say nothing."""
        for peer in self.peers:
            peer.close()
        self.items.leave()
