"""Before Linux 5.16 no buffer may be closed while a poll of it is pending.

There a poll of a busy buffer takes no reference (drivers/dma-buf/dma-buf.c): closing the last
descriptor before its fences have signalled is a BUG of the kernel, which ends the process. A buffer
that nobody has polled closes safely at any time, and a poll to find out would arm the trap itself.
So it is known of each buffer whether somebody may have polled it: this package, whoever got a
number of it, or whoever it was received from, since all have the same open file. Such a one alone
is polled on closing, and kept until it is idle: by a thread, or in place where none can start, and
by the process before it ends. What the kernel itself closes is out of reach: descriptors that a
socket still has in its queue when it is closed, or that come beyond the limit of this process.

Fences signal in finite time, which the kernel demands of drivers; those of vgem within 10 s.
"""

from __future__ import annotations

import atexit
import os
import select
import threading
from collections.abc import Iterator
from weakref import WeakValueDictionary

from dmabuf import _libc, _syspoll
from dmabuf._fd import Descriptor, Holds, close_kept, lock
from dmabuf._keep import keep

_Key = tuple[int, int]  # the device and the inode


def _needs_owner() -> bool:
    """Whether this kernel dies of a buffer that is closed while a poll of it is pending."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) < (5, 16)


POLL_NEEDS_OWNER = _needs_owner()


class _Polls(list[int]):
    """Whether a poll of a buffer may be pending; all its owners in this process have the same.

    A list of the descriptors that were given back and are to be closed: whoever comes next does
    that, where a signal handler that raises has kept the first one from it.
    """

    __slots__ = ("__weakref__", "_closing", "_key", "_numbers", "may_be")

    def __init__(self, key: _Key | None) -> None:
        super().__init__()
        self.may_be = False
        self._key = key
        self._numbers: set[int] = set()
        self._closing = threading.Lock()

    def add(self, number: int) -> None:
        """Remember a descriptor of the buffer."""
        self._numbers.add(number)

    def settle(self) -> None:
        """Close what was given back, later if a poll may be pending."""
        while self:
            taken: list[bool] = []
            try:
                keep(taken, self._closing.acquire, False)
                if not taken[0]:  # who has it looks again
                    return
                if not self.may_be or _idle(self[0], 0):
                    self._close()
                    continue
            finally:
                if taken and taken[0]:
                    self._closing.release()
            self._settle_later()
            return

    def _settle_later(self) -> None:
        if not _ending:
            try:
                threading.Thread(target=self._wait_and_settle, daemon=True).start()
                return
            except RuntimeError:
                pass  # this process may start no more threads
        self._wait_and_settle()

    def _wait_and_settle(self) -> None:
        try:
            with self._closing:
                while self:
                    try:
                        _wait(self[0])
                    finally:
                        self._close()
        finally:
            self.settle()  # what came before another could have the lock

    def _close(self) -> None:
        """Close the first of the list; for who has the lock."""
        self._numbers.discard(self[0])  # before another descriptor can have it
        close_kept(self)

    def wait(self) -> None:
        """Wait until no poll is pending, unless every descriptor is closed."""
        for number in (*self._numbers, *self):
            if _key(number) == self._key:
                _wait(number)
                return  # for all of them

    def forget_threads(self) -> None:
        """Have a lock that nobody has; called in a forked child."""
        self._closing = threading.Lock()

    def __del__(self) -> None:
        self.settle()


_known: WeakValueDictionary[_Key | None, _Polls] = WeakValueDictionary()
_ending = False  # threads that start now may never run


class _PolledHolds(Holds):
    """The holds of a dma-buf's descriptor."""

    __slots__ = ("polls",)
    polls: _Polls

    def __del__(self) -> None:
        super().__del__()
        if hasattr(self, "polls"):
            self.polls.settle()


class Polled(Descriptor):
    """A descriptor of a dma-buf, which is not closed while a poll of it may be pending."""

    __slots__ = ("_polls",)

    if POLL_NEEDS_OWNER:
        _HOLDS = _PolledHolds
        _holds: _PolledHolds

        def _own(self, number: int) -> None:
            self._polls = polls = _polls(number)
            polls.add(number)
            super()._own(number)
            self._holds.polls = polls
            self._holds.give_back = polls.append

        def _let_go(self) -> None:
            super()._let_go()
            self._polls.settle()

        def __del__(self) -> None:
            try:
                super().__del__()
            finally:  # the warning may be an error
                if hasattr(self, "_polls"):
                    self._polls.settle()

        def fileno(self) -> int:
            """Return the descriptor's number, which stays this object's. ValueError when closed."""
            self._polls.may_be = True  # what others do with it can't be known
            return super().fileno()


def note_polled(owner: Descriptor) -> None:
    """Remember that somebody polls a buffer, or may do so; call it before."""
    if POLL_NEEDS_OWNER and isinstance(owner, Polled):
        owner._polls.may_be = True


def close_received(numbers: list[int]) -> None:
    """Close descriptors that others had before; each leaves the list as it is closed."""
    if not POLL_NEEDS_OWNER:
        close_kept(numbers, *(0,) * len(numbers))
    while numbers:
        if _libc.filesystem_magic(numbers[0]) != _libc.DMA_BUF_MAGIC:
            close_kept(numbers)
            continue
        polls = _polls(numbers[0])
        polls.may_be = True
        try:
            polls.extend(map(numbers.pop, (0,)))
            polls.settle()
        finally:
            polls.settle()  # where a signal handler has raised


def _polls(number: int) -> _Polls:
    """Return what is known of the buffer of a descriptor."""
    key = _key(number)
    with lock:
        return _known.setdefault(key, _Polls(key))


def _key(number: int) -> _Key | None:
    """Return the identity of what a descriptor has open; None if it is closed."""
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _idle(number: int, milliseconds: int | None) -> bool:
    poll = _syspoll.poll()
    poll.register(number, select.POLLOUT)
    return bool(poll.poll(milliseconds))


def _wait(number: int) -> None:
    """Wait until no fence is pending; what a signal handler raises meanwhile is raised then."""
    raised = None
    while True:
        try:
            _idle(number, None)
            break
        except BaseException as error:  # to close now would end in the kernel's BUG
            raised = error
    if raised is not None:
        raise raised


def _all() -> Iterator[_Polls]:
    for reference in _known.valuerefs():
        polls = reference()
        if polls is not None:
            yield polls


def _note_fork() -> None:
    """Remember that parent and child have the same buffers, and know nothing of each other."""
    for polls in _all():
        polls.may_be = True


def _after_fork_in_child() -> None:
    for polls in _all():
        polls.forget_threads()


def _wait_at_exit() -> None:
    """Wait for what the end of the process closes, and for what threads were to close."""
    global _ending
    _ending = True
    for polls in _all():
        if polls.may_be:
            polls.wait()


if POLL_NEEDS_OWNER:
    os.register_at_fork(before=_note_fork, after_in_child=_after_fork_in_child)
    atexit.register(_wait_at_exit)
