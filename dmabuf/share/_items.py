"""What was published, from `publish()` until it is given back: all changes of an item's state.

===========  =====================================  ==========================================
state        who has it                             what ends it
===========  =====================================  ==========================================
PUBLISHED    subscribers (`holders`), or nobody     the last holder lets go, and it isn't the
             but it is kept as the last             last any more: the next that applies
DRAINING     nobody, but its buffers have fences    they signal; the end of its time too, unless
                                                    it goes back by a `queue()` that would wait
QUARANTINED  nobody, but somebody may yet use it:   they release it, or end; the kernel counts
             a subscriber that was disconnected     nobody else; the end of its time; one more
             and hasn't ended (`hanging`), or one   is quarantined than may be
             that ended while others keep the
             memory (`doubted`)
CLOSED       nobody: it was given back              -
===========  =====================================  ==========================================
"""

from __future__ import annotations

import contextlib
import time
from enum import Enum

from dmabuf._fd import Hold
from dmabuf._wait import WRITABLE, is_ready
from dmabuf.buffer import Buffer
from dmabuf.share._events import Events
from dmabuf.share._memories import Memories, Memory
from dmabuf.share._offers import Offer
from dmabuf.share._wire import FramePacker

_RECHECK = 0.05  # seconds until the kernel's count of a doubted memory is read again


class ItemState(Enum):
    """Where an item is: the table at the head of this file."""

    PUBLISHED = "published"
    DRAINING = "draining"
    QUARANTINED = "quarantined"
    CLOSED = "closed"


class Item:
    """One thing that was published."""

    __slots__ = (
        "doubted",
        "hanging",
        "holders",
        "kept",
        "memories",
        "offer",
        "packer",
        "sequence",
        "state",
        "until",
        "watched",
    )

    def __init__(self, sequence: int, offer: Offer, memories: tuple[Memory, ...]) -> None:
        self.sequence = sequence
        self.offer = offer
        self.memories = memories
        parts = [
            (memory.slot, memory.generation, used)
            for memory, used in zip(memories, offer.used, strict=True)
        ]
        told = tuple(parts), offer.layout, offer.message
        self.packer = FramePacker(sequence, offer.timestamp_ns, *told)
        self.state = ItemState.PUBLISHED
        self.holders = 0
        self.kept = False
        self.hanging = 0
        self.doubted = False
        self.until = 0.0
        self.watched: contextlib.ExitStack | None = None
        """While it is draining: its buffers, held and polled."""

    def unwatch(self) -> None:
        """Leave off polling its buffers."""
        watched, self.watched = self.watched, None
        if watched is not None:
            watched.close()

    @property
    def can_be_sent(self) -> bool:
        """Whether its buffers are open: a stream that ends closes those of its frames."""
        return not any(buffer.closed for buffer in self.offer.buffers)


class Items:
    """All items of a publisher that are not given back yet."""

    __slots__ = (
        "_events",
        "_live",
        "_most_quarantined",
        "_patience",
        "failures",
        "last",
        "memories",
    )

    def __init__(self, events: Events, most_quarantined: int, patience: float) -> None:
        self._events = events
        self._most_quarantined = most_quarantined
        self._patience = patience
        self._live: dict[int, Item] = {}  # by sequence: the oldest is the first
        self.memories = Memories()
        self.last: Item | None = None
        self.failures: list[Exception] = []
        """What giving back raised."""

    def __contains__(self, thing: object) -> bool:
        return any(item.offer.item is thing for item in self._live.values())

    @property
    def out(self) -> int:
        """How many are out with subscribers, sent or queued."""
        return sum([item.holders > 0 for item in self._live.values()])

    def in_state(self, state: ItemState) -> list[Item]:
        """Return the items of a state, the oldest first."""
        return [item for item in self._live.values() if item.state is state]

    def add(self, sequence: int, offer: Offer) -> Item:
        """Take an item over."""
        memories: list[Memory] = []
        try:
            for buffer in offer.buffers:
                memories.append(self.memories.use(buffer))
        except BaseException:
            for memory in memories:
                self.memories.drop(memory)
            raise
        item = self._live[sequence] = Item(sequence, offer, tuple(memories))
        return item

    def hold(self, item: Item) -> None:
        """Add a holder, which has it or will."""
        item.holders += 1

    def keep(self, item: Item) -> None:
        """Keep an item as the last, and the one before it no more."""
        before, self.last = self.last, item
        item.kept = True
        if before is not None and before is not item:
            before.kept = False
            self.settle(before)

    def let_go(self, item: Item, *, dead: bool = False) -> None:
        """Take a holder away: one that released it or never got it, or that is dead."""
        item.holders -= 1
        if dead:
            item.doubted = True
        self.settle(item)

    def leave_hanging(self, item: Item) -> None:
        """Take a holder away that was disconnected and may still use it."""
        item.holders -= 1
        item.hanging += 1
        self.settle(item)

    def end_hanging(self, item: Item, *, dead: bool = False) -> None:
        """Hear of one that was disconnected: it has released the item, or is dead."""
        item.hanging -= 1
        item.doubted |= dead
        self.settle(item)

    def settle(self, item: Item) -> None:
        """Move an item on that nobody has any more."""
        if item.holders or item.kept or item.state is ItemState.CLOSED:
            return
        if _is_busy(item.offer.buffers):
            if item.state is not ItemState.DRAINING:
                self._drain(item)
        elif item.hanging or (item.doubted and any(m.is_elsewhere() for m in item.memories)):
            if item.state is not ItemState.QUARANTINED:
                self._quarantine(item)
        else:
            self._close(item)

    def _drain(self, item: Item) -> None:
        self._set_state(item, ItemState.DRAINING)
        item.watched = watched = contextlib.ExitStack()
        for buffer in item.offer.buffers:
            if not is_ready(buffer, WRITABLE):
                number = watched.enter_context(Hold(buffer))
                watched.callback(self._events.unwatch, number)
                self._events.watch(number, WRITABLE, item)

    def _quarantine(self, item: Item) -> None:
        self._set_state(item, ItemState.QUARANTINED)
        quarantined = self.in_state(ItemState.QUARANTINED)
        for oldest in quarantined[: max(len(quarantined) - self._most_quarantined, 0)]:
            self._close(oldest)

    def _set_state(self, item: Item, state: ItemState) -> None:
        item.unwatch()
        item.state = state
        if not item.until:
            item.until = time.monotonic() + self._patience
        self._events.wake_at(self._next_look(item))

    def _next_look(self, item: Item) -> float:
        if item.state is ItemState.QUARANTINED and not item.hanging:
            return min(item.until, time.monotonic() + _RECHECK)
        return item.until

    def look_at_times(self, now: float) -> None:
        """Move on whose time is over, and look whether doubted memories are still elsewhere."""
        for item in self.in_state(ItemState.DRAINING) + self.in_state(ItemState.QUARANTINED):
            over = now >= item.until
            if over and (item.state is ItemState.QUARANTINED or item.offer.may_be_fenced):
                self._close(item)
            elif not over:
                self.settle(item)
                if item.state is not ItemState.CLOSED:
                    self._events.wake_at(self._next_look(item))

    def _close(self, item: Item) -> None:
        if item.watched is not None:
            item.unwatch()
        item.state = ItemState.CLOSED
        del self._live[item.sequence]
        try:
            item.offer.give_back()
        except Exception as error:
            self.failures.append(error)
        for memory in item.memories:
            self.memories.drop(memory)

    def close(self) -> None:
        """Give everything back, whoever has it."""
        self.last = None
        for item in list(self._live.values()):
            self._close(item)

    def leave(self) -> None:
        """Close this child's copies; what goes back to a device is the parent's to give.

        The events have been left before: the epoll is the parent's too.
        """
        for item in self._live.values():
            item.unwatch()
            if not item.offer.goes_to_a_device:
                item.offer.give_back()


def _is_busy(buffers: tuple[Buffer, ...]) -> bool:
    """Whether fences are pending on any of them."""
    try:
        for buffer in buffers:
            if not is_ready(buffer, WRITABLE):
                return True
    except ValueError:
        pass  # its stream has closed them
    return False
