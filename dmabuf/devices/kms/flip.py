"""Flips: images on their way to the screen, and the events and fences that say they are there."""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from collections.abc import Generator
from typing import TYPE_CHECKING

from dmabuf import _wait
from dmabuf._fd import Descriptor, Hold
from dmabuf.devices.kms import _ioctl
from dmabuf.errors import UnsupportedError
from dmabuf.fence import Fence

if TYPE_CHECKING:
    from dmabuf.devices.kms.display import Display


class OutFence(Fence):
    """The fence of a flip, which nobody has to close: whoever ignores it leaves nothing behind."""

    __slots__ = ()

    def __del__(self) -> None:
        self._closed = True
        super().__del__()


class Pending:
    """What is known of a flip that was handed to the kernel."""

    __slots__ = ("event", "fence")

    def __init__(self) -> None:
        self.fence: Fence | None = None
        self.event: _ioctl.Event | None = None


class Flip:
    """An image that `Display.show` has handed to the kernel.

    It is done once the image is on the screen, and the one before it is off: its buffers may be
    written again. Thread-safe. `await flip` waits in asyncio.
    """

    __slots__ = ("_display", "_pending")

    def __init__(self, display: Display, pending: Pending) -> None:
        self._display = display
        self._pending = pending

    @property
    def fence(self) -> Fence:
        """The out-fence: signals when the flip is done. It needs no close, but may be closed.

        Hand it to whoever fills the buffers of the image before. UnsupportedError (EOPNOTSUPP) on a
        display that is not atomic. Follows OUT_FENCE_PTR in drivers/gpu/drm/drm_atomic_uapi.c.
        """
        fence = self._pending.fence
        if fence is None:
            text = f"{self._display!r} gives no fences: its driver is not atomic; use wait()"
            raise UnsupportedError(errno.EOPNOTSUPP, text)
        return fence

    @property
    def done(self) -> bool:
        """Whether the image is on the screen."""
        fence = self._open_fence()
        return self._event() is not None if fence is None else fence.signaled

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is done, `timeout` seconds at the most; False on a time-out.

        By poll(2); the GIL is released, and a signal handler that raises gets out.
        """
        fence = self._open_fence()
        if fence is None:
            return self._display._events.wait(self._display, self._pending, timeout)
        return fence.wait(timeout)

    def __await__(self) -> Generator[object, None, None]:
        """Wait in the running asyncio event loop, on its selector."""
        fence = self._open_fence()
        if fence is None:
            return self._display._events.ready(self._display, self._pending).__await__()
        return fence.__await__()

    def _open_fence(self) -> Fence | None:
        """Return the fence to wait for, which no other thread can take away as it can an event."""
        fence = self._pending.fence
        return None if fence is None or fence.closed else fence

    @property
    def sequence(self) -> int | None:
        """The number of the frame that it began with; None before. 0 if the driver counts none."""
        event = self._event()
        return None if event is None else event.sequence

    @property
    def timestamp(self) -> float | None:
        """When that frame began, in `time.monotonic()` seconds; None before."""
        event = self._event()
        return None if event is None else event.timestamp

    def _event(self) -> _ioctl.Event | None:
        if self._pending.event is None and not self._display.closed:
            self._display._events.read(self._display)
        return self._pending.event

    def __repr__(self) -> str:
        about = f"<dmabuf.devices.kms.Flip of {self._display.path}"
        event = self._pending.event
        if event is None:
            return f"{about}>"
        return f"{about} sequence={event.sequence} timestamp={event.timestamp:.6f}>"


class Events:
    """The events of one open device, read by whoever waits for one, on behalf of all.

    One thread at a time reads. It may wait for that; whoever else would read only leaves it to it.
    """

    def __init__(self) -> None:
        self._reading = threading.Lock()
        self._cookies = itertools.count(1)
        self._expected: dict[int, Pending] = {}

    def expect(self, pending: Pending) -> int:
        """Keep a flip until its event is read, and return what the event knows it by."""
        cookie = next(self._cookies)
        self._expected[cookie] = pending
        return cookie

    def forget(self, cookie: int) -> None:
        """Drop a flip that the kernel didn't take."""
        del self._expected[cookie]

    def read(self, owner: Descriptor) -> None:
        """Read what is there, without waiting."""
        if self._reading.acquire(blocking=False):
            try:
                self._read(owner)
            finally:
                self._reading.release()

    def wait(self, owner: Descriptor, pending: Pending, timeout: float | None) -> bool:
        """Wait for a flip's event; False on a time-out."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while pending.event is None:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            if not self._reading.acquire(timeout=-1 if left is None else left):
                return False
            try:
                if pending.event is None and not _wait.wait(owner, _wait.READABLE, left):
                    return False
                self._read(owner)
            finally:
                self._reading.release()
        return True

    async def ready(self, owner: Descriptor, pending: Pending) -> None:
        """Wait for a flip's event in the running event loop."""
        self.read(owner)
        while pending.event is None:
            await _wait.ready(owner, _wait.READABLE)
            self.read(owner)

    def _read(self, owner: Descriptor) -> None:
        with Hold(owner) as number:
            while True:
                try:
                    data = os.read(number, _ioctl.EVENTS_BYTES)
                except BlockingIOError:
                    break
                for event in _ioctl.flip_events(data):
                    if pending := self._expected.pop(event.cookie, None):
                        pending.event = event
        _wait.wake(owner, _wait.READABLE)
