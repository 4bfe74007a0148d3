"""What was pushed, from `push()` until it is given back.

An item is with clients (`holders`); then, while fences of its buffers are pending, it is draining;
then it is given back. Draining ends with the sink's patience, too.
"""

from __future__ import annotations

import contextlib
import time

from dmabuf._fd import Hold
from dmabuf.access import Access
from dmabuf.share._events import WRITABLE, Events
from dmabuf.share._offers import Offer


class Pushed:
    """One item that was pushed."""

    __slots__ = ("holders", "number", "offer", "until", "watched")

    def __init__(self, number: int, offer: Offer) -> None:
        self.number = number
        self.offer = offer
        self.holders = 0
        self.until = 0.0  # while draining
        self.watched = contextlib.ExitStack()  # while draining: its buffers, held and polled


class PushedItems:
    """All items of a sink that are not given back yet."""

    __slots__ = ("_events", "_live", "_patience", "failures")

    def __init__(self, events: Events, patience: float) -> None:
        self._events = events
        self._patience = patience
        self._live: dict[int, Pushed] = {}
        self.failures: list[Exception] = []
        """What giving back raised."""

    def __contains__(self, thing: object) -> bool:
        return any(item.offer.item is thing for item in self._live.values())

    def __len__(self) -> int:
        return len(self._live)

    @property
    def out(self) -> int:
        """How many are with clients."""
        return sum(item.holders > 0 for item in self._live.values())

    def add(self, item: Pushed) -> None:
        """Take an item over."""
        self._live[item.number] = item

    def let_go(self, number: int) -> None:
        """Take a holder away."""
        item = self._live[number]
        item.holders -= 1
        self.settle(item)

    def settle(self, item: Pushed) -> None:
        """Give an item back that nobody has any more, once its fences have signalled."""
        if item.holders or item.number not in self._live:
            return
        if not self._is_busy(item):
            self._give_back(item)
        elif not item.until:
            item.until = time.monotonic() + self._patience
            self._events.wake_at(item.until)
            for buffer in item.offer.buffers:
                if not buffer.is_idle(Access.WRITE):
                    number = item.watched.enter_context(Hold(buffer))
                    item.watched.callback(self._events.unwatch, number)
                    self._events.watch(number, WRITABLE, item)

    def _is_busy(self, item: Pushed) -> bool:
        try:
            return not all(buffer.is_idle(Access.WRITE) for buffer in item.offer.buffers)
        except ValueError:
            return False  # its stream has closed them

    def _give_back(self, item: Pushed) -> None:
        item.watched.close()
        del self._live[item.number]
        try:
            item.offer.give_back()
        except Exception as error:
            self.failures.append(error)

    def look_at_times(self, now: float) -> None:
        """Give back what has been draining for too long.

        A frame of a device is left to wait: giving it back would wait for the fences too.
        """
        for item in list(self._live.values()):
            if item.until and now >= item.until and not hasattr(item.offer.item, "queue"):
                self._give_back(item)

    def close(self) -> None:
        """Give everything back, whoever has it."""
        for item in list(self._live.values()):
            self._give_back(item)

    def leave(self) -> None:
        """Close this child's copies; what goes back to a device is the parent's to give."""
        for item in self._live.values():
            item.watched.close()
            if not hasattr(item.offer.item, "queue"):
                item.offer.give_back()
