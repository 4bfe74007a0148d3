"""The events of one open display, which say that a flip is done and when that was."""

from __future__ import annotations

import itertools
import os
import threading
import time

from dmabuf import _wait
from dmabuf._fd import Descriptor, Hold
from dmabuf.devices.kms import _ioctl
from dmabuf.fence import Fence


class Pending:
    """What is known of a flip that was handed to the kernel."""

    __slots__ = ("event", "fence")

    def __init__(self) -> None:
        self.fence: Fence | None = None
        self.event: _ioctl.Event | None = None


class Events:
    """The flips of one device that wait for their event. Whoever waits for one reads for all.

    One thread at a time reads, and may sleep until there is something to read. Meanwhile a thread
    that only looks leaves the reading to it. The device is given with each call: it has this
    object, and a circle would keep a collected device open.
    """

    __slots__ = ("_cookies", "_expected", "_reading")

    def __init__(self) -> None:
        self._reading = threading.Lock()
        self._cookies = itertools.count(1)
        self._expected: dict[int, Pending] = {}

    def expect(self, pending: Pending) -> int:
        """Keep a flip until its event is read, and return the cookie that the event will have."""
        cookie = next(self._cookies)
        self._expected[cookie] = pending
        return cookie

    def forget(self, cookie: int) -> None:
        """Drop a flip that the kernel did not take."""
        self._expected.pop(cookie, None)

    def clear(self) -> None:
        """Drop all flips: the device is closed."""
        self._expected.clear()

    def read(self, device: Descriptor) -> None:
        """Read what is there, without waiting."""
        if self._reading.acquire(blocking=False):
            try:
                self._read(device)
            finally:
                self._reading.release()

    def wait(self, device: Descriptor, pending: Pending, timeout: float | None) -> bool:
        """Block until a flip has its event. Returns False if `timeout` seconds pass first."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while pending.event is None:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            if not self._reading.acquire(timeout=-1 if left is None else left):
                return False
            try:
                if pending.event is None and not _wait.wait(device, _wait.READABLE, left):
                    return False
                self._read(device)
            finally:
                self._reading.release()
        return True

    async def ready(self, device: Descriptor, pending: Pending) -> None:
        """Wait for a flip's event in the running event loop."""
        self.read(device)
        while pending.event is None:
            await _wait.ready(device, _wait.READABLE)
            self.read(device)

    def _read(self, device: Descriptor) -> None:
        with Hold(device) as number:
            while True:
                try:
                    data = os.read(number, _ioctl.EVENTS_BYTES)
                except BlockingIOError:
                    break
                for event in _ioctl.flip_events(data):
                    if pending := self._expected.pop(event.cookie, None):
                        pending.event = event
        _wait.wake(device, _wait.READABLE)
