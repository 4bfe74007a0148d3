"""Waiting for a descriptor: poll(2), and the event loop's own selector for asyncio.

No thread, no interval. A wait holds its descriptor, so the number can't be reused under it: a call
of poll(2) goes on when another thread closes the object, and ends as it would have. Closing ends
the waits of event loops with ValueError.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Generator, Sequence
from types import coroutine
from typing import TYPE_CHECKING

from dmabuf import _syspoll
from dmabuf._fd import Descriptor, Hold, close_kept, held, unwatch, watch, watchers
from dmabuf._owning import duplicate
from dmabuf._polls import POLL_NEEDS_OWNER, note_polled
from dmabuf._timeout import seconds
from dmabuf.errors import os_error

if TYPE_CHECKING:
    import asyncio

READABLE, WRITABLE = select.POLLIN, select.POLLOUT
_INVALID = select.POLLNVAL
_LONGEST = 86400.0  # poll(2) takes 24 days at the most


def is_ready(owner: Descriptor, events: int) -> bool:
    """Return whether poll(2) reports any of the events now."""
    return held(owner, has, owner, events)


def has(number: int, owner: Descriptor, events: int) -> bool:
    """Return whether poll(2) reports any of the events now; for who holds the number."""
    if POLL_NEEDS_OWNER:
        note_polled(owner)
    poll = _syspoll.poll()
    poll.register(number, events)
    for _, happened in poll.poll(0):
        if happened & _INVALID:
            raise _closed_by_others(number)
        return True
    return False


def wait(
    owner: Descriptor, events: int, timeout: float | None, end: Descriptor | None = None
) -> bool:
    """Wait up to `timeout` seconds for the events, without end for None; False on a time-out.

    A readable `end` ends it too.
    """
    if end is None:
        return held(owner, wait_for, owner, events, timeout)
    return held(end, _wait_for_either, owner, events, timeout)


def _wait_for_either(end: int, owner: Descriptor, events: int, timeout: float | None) -> bool:
    poll = _syspoll.poll()
    poll.register(end, READABLE)
    return held(owner, wait_for, owner, events, timeout, poll)


def wait_for(
    number: int,
    owner: Descriptor,
    events: int,
    timeout: float | None,
    poll: select.poll | None = None,
) -> bool:
    """Wait as `wait` does, for who holds the number, and for what else the poll object has."""
    if poll is None:
        poll = _syspoll.poll()
    if POLL_NEEDS_OWNER:
        note_polled(owner)
    poll.register(number, events)
    return bool(_polled(poll, timeout))


def first(waits: Sequence[tuple[Descriptor, int]], timeout: float | None) -> int | None:
    """Wait until one of several descriptors has its events; its index, None on a time-out."""
    poll = _syspoll.poll()
    holds = [Hold(owner) for owner, _ in waits]
    try:
        numbers = [hold.take() for hold in holds]
        wanted: dict[int, int] = {}
        for number, (owner, events) in zip(numbers, waits, strict=True):
            note_polled(owner)
            wanted[number] = wanted.get(number, 0) | events
            poll.register(number, wanted[number])
        happened = dict(_polled(poll, timeout))
    finally:
        for hold in holds:
            hold.drop()
    for index, (number, (_, events)) in enumerate(zip(numbers, waits, strict=True)):
        if happened.get(number, 0) & (events | select.POLLERR | select.POLLHUP):
            return index
    return None


def _polled(poll: select.poll, timeout: float | None) -> list[tuple[int, int]]:
    """Return what has happened within `timeout` seconds, nothing on a time-out.

    OSError if a number is no descriptor any more.
    """
    if timeout is None:
        happened = poll.poll()
    elif timeout == 0:
        happened = poll.poll(0)
    else:
        happened = _poll_within(poll, seconds(timeout))
    for number, events in happened:
        if events & _INVALID:
            raise _closed_by_others(number)
    return happened


def _closed_by_others(number: int) -> OSError:
    return os_error(errno.EBADF, f"poll on descriptor {number}, which others have closed")


def _poll_within(poll: select.poll, left: float) -> list[tuple[int, int]]:
    deadline = time.monotonic() + left
    while not (happened := poll.poll(min(left, _LONGEST) * 1000)):
        if left <= _LONGEST:
            break
        left = max(deadline - time.monotonic(), 0.0)
    return happened


def _running_loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop; asyncio is imported by the first call, and not looked up."""
    global _running_loop
    from asyncio import get_running_loop

    _running_loop = get_running_loop
    return get_running_loop()


@coroutine
def turn() -> Generator[None, None, None]:
    """Give the event loop's other tasks a turn, its time-outs and Ctrl-C.

    For what may go on without waiting each time: a loop of it would be all that the event loop
    runs. Before anything is taken, since a task may be cancelled here.
    """
    yield


async def ready(owner: Descriptor, events: int) -> None:
    """Wait in the running asyncio event loop; many tasks and loops may wait at once.

    ValueError if the object is closed, or gets closed meanwhile.
    """
    loop = _running_loop()
    event = watchers(owner).get((loop, events))
    if not isinstance(event, _LoopEvent):
        event = _LoopEvent(owner, loop, events)
    future = loop.create_future()
    event.futures[future] = None
    try:
        if owner.closed:
            event.owner_closed()
        await future
    finally:
        event.leave(future)


async def ready_first(waits: Sequence[tuple[Descriptor, int]]) -> None:
    """Wait in the running asyncio event loop until one of several descriptors has its events.

    ValueError if one is closed, or gets closed meanwhile.
    """
    loop = _running_loop()
    future = loop.create_future()
    joined: list[_LoopEvent] = []
    try:
        for owner, events in waits:
            event = watchers(owner).get((loop, events))
            if not isinstance(event, _LoopEvent):
                event = _LoopEvent(owner, loop, events)
            event.futures[future] = None
            joined.append(event)
            if owner.closed:
                event.owner_closed()
        await future
    finally:
        for event in joined:
            event.leave(future)


def wake(owner: Descriptor, events: int) -> bool:
    """End all waits in event loops for these events; False if one, in another thread, is yet to."""
    if not owner._watchers:
        return True
    there = [event for event in watchers(owner).values() if isinstance(event, _LoopEvent)]
    woken = [event.wake() for event in there if event.events == events]
    return all(woken)


class _LoopEvent:
    """The tasks of one event loop that wait for one descriptor: one event in its selector.

    A loop has one reader a number, and the owner's own may be the program's: `add_reader(fence, …)`
    before or after. So the loop gets a duplicate. A forked child shares the selector with its
    parent, and may not touch it.
    """

    __slots__ = ("_duplicate", "_hold", "_loop", "_owner", "_process", "events", "futures")

    def __init__(self, owner: Descriptor, loop: asyncio.AbstractEventLoop, events: int) -> None:
        self._owner = owner
        self._loop = loop
        self._process = os.getpid()
        self._hold = Hold(owner)
        self.events = events
        self.futures: dict[asyncio.Future[None], None] = {}
        self._duplicate: list[int] = []
        add = loop.add_reader if events == READABLE else loop.add_writer
        note_polled(owner)
        try:
            duplicate(self._hold.take(), self._duplicate)
            add(self._duplicate[0], self._wake)
        except BaseException as error:
            self._let_go()
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise os_error(error.errno, f"no descriptor is left to await {owner!r}") from None
            raise
        watch(owner, (loop, events), self)

    def leave(self, future: asyncio.Future[None]) -> None:
        """Forget a task that was woken or cancelled; nobody is left after the last."""
        del self.futures[future]
        if not self.futures:
            self._stop()

    def owner_closed(self) -> None:
        """End every task's wait with ValueError, in the loop's thread."""
        if self._process != os.getpid():
            self._stop()
            return
        try:
            self._loop.call_soon_threadsafe(self._fail)
        except RuntimeError:
            self._stop()  # the loop is closed, and nobody waits in it

    def wake(self) -> bool:
        """End every task's wait, at once unless the loop runs in another thread."""
        from asyncio import _get_running_loop

        try:
            if self._loop.is_running() and _get_running_loop() is not self._loop:
                self._loop.call_soon_threadsafe(self._wake)
                return False
            self._wake()
        except RuntimeError:
            self._stop()  # the loop is closed, and nobody waits in it
        return True

    def _wake(self) -> None:
        self._stop()
        for future in self.futures:
            if not future.done():
                future.set_result(None)

    def _fail(self) -> None:
        self._stop()
        for future in self.futures:
            if not future.done():
                future.set_exception(ValueError(f"closed while it was awaited: {self._owner!r}"))

    def _stop(self) -> None:
        """Take the duplicate out of the selector, before it is closed."""
        if self._hold.number < 0:
            return
        unwatch(self._owner, (self._loop, self.events))
        if self._process == os.getpid():
            loop = self._loop
            remove = loop.remove_reader if self.events == READABLE else loop.remove_writer
            remove(self._duplicate[0])
        self._let_go()

    def _let_go(self) -> None:
        """Close the duplicate, and then let the owner's number go, which may be the last one."""
        try:
            close_kept(self._duplicate)
        finally:
            self._hold.drop()
