"""Flips: images on their way to the screen, and the events and fences that say they are there."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Generator
from typing import TYPE_CHECKING

from dmabuf import _wait
from dmabuf._fd import Descriptor, Hold
from dmabuf.devices import _kms
from dmabuf.errors import UnsupportedError
from dmabuf.fence import Fence

if TYPE_CHECKING:
    from dmabuf.devices.kms import Display


class OutFence(Fence):
    """The fence of a flip, which nobody has to close: whoever ignores it leaves nothing behind."""

    __slots__ = ()

    def __del__(self) -> None:
        self._closed = True
        super().__del__()


class Flip:
    """An image that `Display.show` has handed to the kernel.

    It is done once the image is on the screen, and the one before it is off: its buffers may be
    written again. Thread-safe. `await flip` waits in asyncio.
    """

    __slots__ = ("__weakref__", "_display", "_event", "_fence")

    def __init__(self, display: Display, fence: Fence | None) -> None:
        self._display = display
        self._fence = fence
        self._event: _kms.Event | None = None

    @property
    def fence(self) -> Fence:
        """The out-fence: signals when the flip is done. It needs no close.

        Hand it to whoever fills the buffers of the image before. UnsupportedError (EOPNOTSUPP) on a
        display that is not atomic. Follows OUT_FENCE_PTR in drivers/gpu/drm/drm_atomic_uapi.c.
        """
        if self._fence is None:
            text = f"{self._display!r} gives no fences: its driver is not atomic; use wait()"
            raise UnsupportedError(errno.EOPNOTSUPP, text)
        return self._fence

    @property
    def done(self) -> bool:
        """Whether the image is on the screen."""
        if self._event is None and self._fence is not None:
            return self._fence.signaled
        if self._event is None:
            self._display._read_events()
        return self._event is not None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is done, `timeout` seconds at the most; False on a time-out.

        By poll(2); the GIL is released, and a signal handler that raises gets out.
        """
        if self._event is not None:
            return True
        if self._fence is not None:
            return self._fence.wait(timeout)
        return self._display._wait_for(self, timeout)

    def __await__(self) -> Generator[object, None, None]:
        """Wait in the running asyncio event loop."""
        if self._fence is not None:
            return self._fence.__await__()
        return self._display._awaited(self).__await__()

    @property
    def sequence(self) -> int | None:
        """The number of the frame that it began with; None before. 0 if the driver counts none."""
        event = self._happened()
        return None if event is None else event.sequence

    @property
    def timestamp(self) -> float | None:
        """When that frame began, in `time.monotonic()` seconds; None before."""
        event = self._happened()
        return None if event is None else event.timestamp

    def _happened(self) -> _kms.Event | None:
        if self._event is None and not self._display.closed:
            self._display._read_events()
        return self._event

    def __repr__(self) -> str:
        if self._event is None:
            return f"<dmabuf.devices.kms.Flip of {self._display.path}>"
        about = f"sequence={self._event.sequence} timestamp={self._event.timestamp:.6f}"
        return f"<dmabuf.devices.kms.Flip of {self._display.path} {about}>"


class Events:
    """The events of one open device, read by whoever waits for one, on behalf of all."""

    def __init__(self, owner: Descriptor) -> None:
        self._owner = owner
        self._reading = threading.Lock()
        self._flips: dict[int, Flip] = {}

    def expect(self, cookie: int, flip: Flip) -> None:
        """Keep a flip until its event is read."""
        self._flips[cookie] = flip

    def read(self) -> None:
        """Read what is there, without waiting; a thread that waits does so itself."""
        if self._reading.acquire(blocking=False):
            try:
                self._read()
            finally:
                self._reading.release()

    def wait(self, flip: Flip, timeout: float | None) -> bool:
        """Wait for a flip's event; False on a time-out."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while flip._event is None:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            if not self._reading.acquire(timeout=-1 if left is None else left):
                return False
            try:
                if flip._event is None and not _wait.wait(self._owner, _wait.READABLE, left):
                    return False
                self._read()
            finally:
                self._reading.release()
        return True

    async def ready(self, flip: Flip) -> None:
        """Wait for a flip's event in the running event loop."""
        self.read()
        while flip._event is None:
            await _wait.ready(self._owner, _wait.READABLE)
            self.read()

    def _read(self) -> None:
        with Hold(self._owner) as number:
            while True:
                try:
                    data = os.read(number, _kms.EVENTS_BYTES)
                except BlockingIOError:
                    break
                for event in _kms.flip_events(data):
                    if flip := self._flips.pop(event.cookie, None):
                        flip._event = event
        _wait.wake(self._owner, _wait.READABLE)
