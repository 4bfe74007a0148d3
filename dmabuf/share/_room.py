"""How many of a publisher's items each subscriber may have, so that none keeps all from the others.

At most `in_flight` items are out: sent, or queued for who has not asked. What was only queued makes
room for what is newer. What was sent is out until it is given back, and whoever stalls keeps it. So
there is one for each subscriber, and what is left over is for those that hold several: each one's
second, third and so on. If there are too many for that, one is left over still, the place of the
last item: it is one more than those that are out, unless it is out itself, as a new one is.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter

from dmabuf.share._events import Events
from dmabuf.share._items import Item, Items
from dmabuf.share._messages import Busy, Policy
from dmabuf.share._peers import Peer, PeerState


class Room:
    """The rules; it moves nothing."""

    __slots__ = ("_events", "_hold_timeout", "_in_flight", "_items", "_keep_last", "_peers")

    def __init__(
        self,
        peers: list[Peer],
        items: Items,
        events: Events,
        *,
        in_flight: int,
        keep_last: bool,
        hold_timeout: float | None,
    ) -> None:
        self._peers = peers
        self._items = items
        self._events = events
        self._in_flight = in_flight
        self._keep_last = keep_last
        self._hold_timeout = hold_timeout

    def joined(self) -> list[Peer]:
        """Return the peers that get items."""
        joined = PeerState.JOINED
        return [peer for peer in self._peers if peer.state is joined]

    def takes(self, peer: Peer, item: Item | None) -> bool:
        """Whether a peer can be sent an item, or a new one, at once."""
        return peer.credits > 0 and (not peer.held or self._may_have_several(item))

    def _may_have_several(self, item: Item | None) -> bool:
        """Whether this may be a further item of a peer that has some."""
        further = {item}
        for one in self.joined():
            further.update([held for held, _ in one.held.values()][1:])
        return len(further) <= self._left_over()

    def _left_over(self) -> int:
        """Return how many items there are beyond one for each peer."""
        return max(self._in_flight + self._keep_last - len(self.joined()), self._keep_last)

    def limit(self, peer: Peer) -> Busy | None:
        """Return what a peer is told that has as many items as it may have beside others."""
        most, held = 1 + self._left_over(), len(peer.held)
        needed = held + len(self.joined()) - self._keep_last
        return Busy(most, needed) if held >= most else None

    def is_full(self) -> bool:
        """Whether one item more would be one too many."""
        return self._items.out >= self._in_flight and self._most() < self._out_after()

    def _most(self) -> int:
        """Return how many items may be out, of which one is new, and the last from then on."""
        joined = self.joined() if self._keep_last else []
        return self._in_flight + (len(joined) > 1 and any(len(peer.held) > 1 for peer in joined))

    def _out_after(self) -> int:
        """Return how many items would be out if one more was delivered."""
        losers = Counter(lost for peer in self.joined() if (lost := self._loses(peer)) is not None)
        freed = sum(item.holders == count for item, count in losers.items())
        return self._items.out - freed + 1

    def _loses(self, peer: Peer) -> Item | None:
        """Return what a peer would lose by one more item."""
        return None if self.takes(peer, None) else peer.overflow()

    def oldest_unsent(self) -> Item | None:
        """Return the item that makes room for a new one: the oldest that was sent to nobody.

        Those first that wait for no peer for which the publisher waits.
        """
        joined = self.joined()
        others = [peer for peer in joined if not self._is_awaited(peer)]
        return _oldest_unsent(others) or _oldest_unsent(joined)

    def every_would_lose(self) -> bool:
        """Whether one item more would cost a peer of policy "every" one, if that still asks."""
        joined = self.joined()
        awaited = [peer for peer in joined if self._is_awaited(peer)]
        if not awaited:
            return False
        if any(self._loses(peer) for peer in awaited):
            return True
        others = [peer for peer in joined if peer not in awaited]
        return self._out_after() > self._most() and _oldest_unsent(others) is None

    def _is_awaited(self, peer: Peer) -> bool:
        """Whether a peer is waited for: of "every", and it has not let items wait for too long."""
        if peer.policy is not Policy.EVERY:
            return False
        if not peer.queued or self._hold_timeout is None:
            return True
        end = peer.waits_since + self._hold_timeout
        if time.monotonic() >= end:
            return False
        self._events.wake_at(end)
        return True


def _oldest_unsent(peers: Sequence[Peer]) -> Item | None:
    """Return the oldest item that was sent to nobody, and waits for none but these peers."""
    queued = Counter(item for peer in peers for item in peer.queued)
    unsent = [item for item, count in queued.items() if item.holders == count]
    return min(unsent, key=attrgetter("sequence"), default=None)
