"""The events of one open display, which say that a flip is done and when that was."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading

from dmabuf import _forks, _wait
from dmabuf._fd import Descriptor, Hold
from dmabuf._keep import keep
from dmabuf._owning import own
from dmabuf._timeout import deadline, seconds_left
from dmabuf.devices.kms import _ioctl
from dmabuf.fence import Fence


class Pending:
    """What is known of a flip that was handed to the kernel."""

    __slots__ = ("cookie", "event", "fence", "shown", "taken")

    def __init__(self, cookie: int) -> None:
        self.cookie = cookie
        """What its event will have."""
        self.fence: Fence | None = None
        self.event: _ioctl.Event | None = None
        self.shown: list[int] = []
        """Not empty once a mode was set with the image, before any flip."""
        self.taken: list[int] = []
        """Not empty once the kernel has the flip, and will send its event."""


class _End(Descriptor):
    """Readable once the display is closed. Nobody has to close it."""

    __slots__ = ()

    def __init__(self) -> None:
        own(self, lambda made: keep(made, os.eventfd, 0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))

    def __del__(self) -> None:
        self._closed = True
        super().__del__()


class Events:
    """The flips of one device that wait for their event. Whoever waits for one reads for all.

    One thread at a time reads, and may sleep until there is something to read. Meanwhile a thread
    that only looks leaves the reading to it. The device is given with each call: it has this
    object, and a circle would keep a collected device open.

    A forked child reads nothing: the events are its parent's.
    """

    __slots__ = ("__weakref__", "_cookies", "_end", "_expected", "_forked", "_reading", "_unsorted")

    def __init__(self) -> None:
        self._reading = threading.Lock()
        self._cookies = itertools.count(1)
        self._expected: dict[int, Pending] = {}
        self._unsorted: list[bytes] = []
        self._forked = False
        self._end = _End()
        _forks.leave_in_child(self)

    def expect(self) -> Pending:
        """Return a new flip, which is kept until its event is read."""
        pending = Pending(next(self._cookies))
        self._expected[pending.cookie] = pending
        return pending

    def forget(self, pending: Pending) -> None:
        """Drop a flip that the kernel did not take."""
        self._expected.pop(pending.cookie, None)

    def end(self) -> None:
        """End all waits for flips that are not done: the device is closed."""
        if not self._forked:
            with contextlib.suppress(ValueError), Hold(self._end) as number:
                os.eventfd_write(number, 1)
        self._expected.clear()
        self._end.close()

    def leave_to_parent(self) -> None:
        """Leave the events to the parent; called in a forked child."""
        self._forked = True
        self._expected.clear()
        self._unsorted.clear()
        self._reading = threading.Lock()

    def _require_own(self, device: Descriptor) -> None:
        if self._forked:
            raise ValueError(f"this is a forked child, and a flip of {device!r} is its parent's")

    def read(self, device: Descriptor) -> None:
        """Read what is there, without waiting."""
        if self._forked:
            return
        taken: list[int] = []
        try:
            keep(taken, self._reading.acquire, False)
            if taken[0]:
                self._read(device)
        finally:
            if taken and taken[0]:
                self._reading.release()

    def wait(self, device: Descriptor, pending: Pending, timeout: float | None) -> bool:
        """Block until a flip has its event. Returns False if `timeout` seconds pass first.

        ValueError if the device is closed before.
        """
        end = deadline(timeout)
        while pending.event is None:
            self._require_own(device)
            left = seconds_left(end)
            longest = -1 if left is None else min(left, threading.TIMEOUT_MAX)
            taken: list[int] = []
            try:
                keep(taken, self._reading.acquire, True, longest)
                if not taken[0]:
                    return False
                self._read(device)
                if pending.event is None:
                    if not _wait.wait(device, _wait.READABLE, left, self._end):
                        return False
                    self._read(device)
            finally:
                if taken and taken[0]:
                    self._reading.release()
        return True

    def wait_turn(self, device: Descriptor, pending: Pending, timeout: float | None) -> bool:
        """Block until a flip is done or the device is closed; False if `timeout` passes first."""
        if pending.fence is not None:
            with contextlib.suppress(ValueError):  # whoever shows the image may close its fence
                return _wait.wait(pending.fence, _wait.READABLE, timeout, self._end)
        return self.wait(device, pending, timeout)

    async def ready(self, device: Descriptor, pending: Pending) -> None:
        """Wait for a flip's event in the running event loop."""
        self.read(device)
        while pending.event is None:
            self._require_own(device)
            await _wait.ready(device, _wait.READABLE)
            self.read(device)

    def _read(self, device: Descriptor) -> None:
        with Hold(device) as number:
            try:  # what is read, all there is, is in the list before a signal handler can run
                self._unsorted.extend(map(os.read, (number,), (_ioctl.EVENTS_BYTES,)))
            except BlockingIOError:
                pass
        if self._unsorted:
            try:
                for event in _ioctl.flip_events(b"".join(self._unsorted)):
                    if pending := self._expected.get(event.cookie):
                        pending.event = event
                        del self._expected[event.cookie]
            finally:
                _wait.wake(device, _wait.READABLE)
            self._unsorted.clear()
