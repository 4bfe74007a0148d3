"""One descriptor that is readable when there is work: an epoll with a timer in it.

Who uses it keeps to one thread at a time; `wait` and the descriptor itself are for any thread.
"""

from __future__ import annotations

import errno
import select
import time
from collections.abc import Sequence
from functools import partial

from dmabuf import _libc, _syspoll
from dmabuf._fd import Hold
from dmabuf._owning import duplicate, own_descriptor
from dmabuf._timeout import seconds

READABLE, WRITABLE = select.EPOLLIN, select.EPOLLOUT
_SOON = 1e-6  # a timer of 0 would be stopped
_NEVER = float("inf")
_LONGEST = 86400.0  # epoll_wait(2) takes 24 days at the most
_CLOSED = _syspoll.epoll()
_CLOSED.close()


class Events:
    """What is waited for, each with whom it is about."""

    __slots__ = ("_epoll", "_subjects", "_timer", "_wakes", "descriptor")

    def __init__(self) -> None:
        self._subjects: dict[int, object] = {}
        self._wakes = _NEVER
        self._epoll = _syspoll.epoll()
        try:
            self._timer = own_descriptor(_libc.timerfd_create)
            try:
                self._epoll.register(self._timer.fileno(), READABLE)
                # Waits hold this one, so that a close in another thread doesn't reuse its number.
                self.descriptor = own_descriptor(partial(duplicate, self._epoll.fileno()))
            except BaseException:
                self._timer.close()
                raise
        except BaseException:
            self._epoll.close()
            raise

    def watch(self, number: int, events: int, subject: object) -> None:
        """Have a subject reported while a descriptor is ready, which stays open until `unwatch`."""
        self._subjects[number] = subject
        self._epoll.register(number, events)

    def unwatch(self, number: int) -> None:
        """Forget a descriptor, before it is closed: epoll watches open files, not numbers."""
        if self._subjects.pop(number, None) is not None and not self._epoll.closed:
            try:
                self._epoll.unregister(number)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EBADF):
                    raise

    def wake_at(self, moment: float) -> None:
        """Become readable at a moment of `time.monotonic()`, or earlier if that was asked for."""
        if moment < self._wakes:
            self._wakes = moment
            self._set_timer(moment)

    def ready(self, found: Sequence[tuple[int, int]] | None = None) -> list[object]:
        """Return whom what is ready now is about; last this object itself if its moment has come.

        `found` is what `wait` has returned just now. Another thread may have dealt with it since:
        whoever is told looks again, and finds nothing to do.
        """
        subjects: list[object] = []
        for number, _ in self._epoll.poll(0) if found is None else found:
            if number in self._subjects:
                subjects.append(self._subjects[number])
        if self._wakes <= time.monotonic():  # what was said in time is heard before
            self._wakes = _NEVER
            self._set_timer(None)
            subjects.append(self)
        return subjects

    def _set_timer(self, moment: float | None) -> None:
        left = 0.0 if moment is None else max(moment - time.monotonic(), _SOON)
        _libc.timerfd_set(self._timer.fileno(), left)

    def wait(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait until something is ready, in any thread, and return what; nothing on a time-out.

        ValueError if closed. Another thread's `close` ends it.
        """
        longest = -1.0 if timeout is None else min(seconds(timeout), _LONGEST)
        epoll = self._epoll
        with Hold(self._timer):  # it stays in the epoll, so that the close is seen
            return epoll.poll(longest)

    def close(self) -> None:
        """End all waits, and close what it has. Idempotent."""
        if not self._timer.closed:
            _libc.timerfd_set(self._timer.fileno(), _SOON)
        self.leave()

    def leave(self) -> None:
        """Close what it has, in a child, where epoll and timer are the parent's too."""
        self._subjects.clear()
        self.descriptor.close()
        self._timer.close()
        if not self._epoll.closed:
            self._epoll = _CLOSED  # closed with the last reference: that of a wait, maybe
