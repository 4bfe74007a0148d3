"""Before Linux 5.16 no buffer may be closed while a poll of it is pending.

There a poll of a busy buffer takes no reference (drivers/dma-buf/dma-buf.c): closing the last
descriptor before its fences have signalled is a BUG of the kernel, which ends the process. A buffer
that nobody has polled closes safely at any time, and a poll to find out would arm the trap itself.
So it is known of each buffer whether somebody may have polled it: this package, or whoever got a
number of it. Such a one alone is polled on closing, and kept until it is idle: by a thread, or in
place where none can start, and by the process before it ends.

Fences signal in finite time, which the kernel demands of drivers; those of vgem within 10 s.
"""

from __future__ import annotations

import atexit
import os
import select
import threading
from collections.abc import Iterator
from weakref import WeakValueDictionary

from dmabuf import _syspoll
from dmabuf._fd import Descriptor, lock

_Key = tuple[int, int]  # the device and the inode


def _needs_owner() -> bool:
    """Whether this kernel dies of a buffer that is closed while a poll of it is pending."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) < (5, 16)


POLL_NEEDS_OWNER = _needs_owner()


class _Polls:
    """Whether a poll of a buffer may be pending; all its owners in this process have the same."""

    __slots__ = ("__weakref__", "_key", "_numbers", "may_be")

    def __init__(self, key: _Key | None) -> None:
        self._key = key
        self._numbers: set[int] = set()
        self.may_be = False

    def add(self, number: int) -> None:
        """Remember a descriptor of the buffer."""
        self._numbers.add(number)

    def close(self, number: int) -> None:
        """Close a descriptor, later if a poll may be pending."""
        if not self.may_be or _idle(number, 0):
            self._close(number)
            return
        if not _ending:
            try:
                threading.Thread(target=self._wait_and_close, args=(number,), daemon=True).start()
                return
            except RuntimeError:
                pass  # this process may start no more threads
        self._wait_and_close(number)

    def wait(self) -> None:
        """Wait until no poll is pending, unless every descriptor is closed."""
        for number in tuple(self._numbers):
            if _key(number) == self._key:
                _wait(number)
                return  # for all of them

    def _wait_and_close(self, number: int) -> None:
        try:
            _wait(number)
        finally:
            self._close(number)

    def _close(self, number: int) -> None:
        self._numbers.discard(number)  # before another descriptor can have it
        os.close(number)


_known: WeakValueDictionary[_Key | None, _Polls] = WeakValueDictionary()
_ending = False  # threads that start now may never run


class Polled(Descriptor):
    """A descriptor of a dma-buf, which is not closed while a poll of it may be pending."""

    __slots__ = ("_polls",)

    if POLL_NEEDS_OWNER:
        _NEEDS_OWNER = True

        def _own(self, number: int) -> None:
            key = _key(number)
            with lock:
                self._polls = _known.setdefault(key, _Polls(key))
            self._polls.add(number)
            super()._own(number)

        def _give_back(self, number: int) -> None:
            if hasattr(self, "_polls"):
                self._polls.close(number)
            else:  # it was just made, and never became this object's own
                os.close(number)

        def fileno(self) -> int:
            """Return the descriptor's number, which stays this object's. ValueError when closed."""
            self._polls.may_be = True  # what others do with it can't be known
            return super().fileno()


def note_polled(owner: Descriptor) -> None:
    """Remember that somebody polls a buffer, or may do so; call it before."""
    if POLL_NEEDS_OWNER and isinstance(owner, Polled):
        owner._polls.may_be = True


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


def _wait_at_exit() -> None:
    """Wait for what the end of the process closes, and for what threads were to close."""
    global _ending
    _ending = True
    for polls in _all():
        if polls.may_be:
            polls.wait()


if POLL_NEEDS_OWNER:
    os.register_at_fork(before=_note_fork)
    atexit.register(_wait_at_exit)
