"""Who waits for the frames of a queue, in threads and in event loops; and how that ends at once."""

from __future__ import annotations

import os
from queue import SimpleQueue
from threading import get_ident

from dmabuf import _wait
from dmabuf._fd import Descriptor, Hold, unwatch, watch
from dmabuf._keep import keep
from dmabuf._owning import own_descriptor
from dmabuf.devices.v4l2._file import DeviceFile


class Waits:
    """The waits for one queue. Each is registered by one assignment, and `end()` ends them all.

    A signal handler may raise at any point of a wait: it is unregistered all the same, and `end()`
    is told.
    """

    __slots__ = ("_device", "_ended", "_events", "_in_loops", "_in_threads", "_left", "_over")

    def __init__(self, device: DeviceFile, events: int) -> None:
        self._device = device
        self._events = events
        self._over: Descriptor | None = None  # readable once the waits are to end
        self._ended = False
        self._in_threads: dict[object, int] = {}  # the thread of each
        self._in_loops: dict[object, int] = {}
        self._left: SimpleQueue[None] = SimpleQueue()  # an item for each wait that ends after that

    def begin(self) -> None:
        """Make waits possible."""
        flags = os.EFD_CLOEXEC | os.EFD_NONBLOCK
        self._over = own_descriptor(lambda made: keep(made, os.eventfd, 0, flags))
        watch(self._device, self, self)

    def wait(self, timeout: float | None) -> bool:
        """Wait for the device or for `end()`. False if `timeout` seconds pass first."""
        own, wait = get_ident(), object()
        self._in_threads[wait] = own
        # No signal handler runs between these two lines.
        try:
            return self._ended or _wait.wait(self._device, self._events, timeout, self._over)
        except ValueError:
            if not self._ended:
                raise
            return True
        finally:
            try:
                self._in_threads.pop(wait, None)
            finally:
                if self._ended:
                    self._left.put(None)

    async def ready(self) -> None:
        """Wait in asyncio for the device or for `end()`."""
        own, wait = get_ident(), object()
        self._in_loops[wait] = own
        # No signal handler runs between these two lines.
        try:
            if not self._ended:
                await _wait.ready(self._device, self._events)
        finally:
            self._in_loops.pop(wait, None)

    def end(self) -> bool:
        """End all waits, and wait until other threads have left theirs.

        False if one goes on: in this thread, whose signal handler this is, or in an event loop of
        another thread.
        """
        self._ended = True
        woken = _wait.wake(self._device, self._events)
        self._wake_threads()
        own = get_ident()
        while any(thread != own for thread in list(self._in_threads.values())):
            self._left.get()
        mine = all(thread == own for thread in list(self._in_loops.values()))  # woken, if they are
        return woken and mine and not self._in_threads

    def close(self) -> None:
        """Close what `begin()` has opened, and let nobody wait who still does. Idempotent."""
        self._ended = True
        self._wake_threads()
        unwatch(self._device, self)
        if self._over is not None:
            self._over.close()

    def owner_closed(self) -> None:
        """End the waits in threads, who then see that the device was closed."""
        self._wake_threads()

    def leave(self) -> None:
        """Close this child's copies; those who wait are in the parent."""
        self._ended = True
        self._in_threads.clear()
        self._in_loops.clear()
        if self._over is not None:
            self._over.close()

    def _wake_threads(self) -> None:
        if self._over is not None and not self._over.closed:
            with Hold(self._over) as number:
                os.eventfd_write(number, 1)
