"""The handles of one open device: who owns them, and when each is given back.

The kernel gives one handle for the same memory, however often that is imported, and counts nothing.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections import deque
from collections.abc import Callable, Iterator

from dmabuf import _forks
from dmabuf._fd import Descriptor, Hold
from dmabuf.devices.drm import _ioctl


class HandleCount:
    """How many owners each GEM handle of a device has. Thread-safe."""

    __slots__ = ("__weakref__", "_lock", "_released", "forked", "owners")

    def __init__(self) -> None:
        self.owners: dict[int, int] = {}
        self.forked = False
        self._released: deque[int] = deque()
        self._lock = threading.Lock()
        _forks.leave_in_child(self)

    @contextlib.contextmanager
    def locked(self, device: Descriptor) -> Iterator[int]:
        """Give the device's number for a call that makes a handle; none is given back meanwhile."""
        try:
            with Hold(device) as number, self._lock:
                yield number
        finally:
            self._close_released(device)

    def add_owner(self, handle: int) -> None:
        """Count an owner of a handle; within `locked()`."""
        self.owners[handle] = self.owners.get(handle, 0) + 1

    def remove_owner(self, device: Descriptor, handle: int) -> None:
        """Count one less, and give the handle back with the last."""
        self._released.append(handle)
        self._close_released(device)

    def _close_released(self, device: Descriptor) -> None:
        """Close handles without an owner, unless another call is under way, which does it then.

        A finalizer or a signal handler that releases one during an import can't wait for it.
        """
        while self._released and self._lock.acquire(blocking=False):
            try:
                while self._released:
                    handle = self._released.popleft()
                    self.owners[handle] -= 1
                    if not self.owners[handle]:
                        del self.owners[handle]
                        self.give_back(device, handle, _ioctl.gem_close)
            finally:
                self._lock.release()

    def give_back(self, device: Descriptor, handle: int, close: Callable[[int, int], None]) -> None:
        """Close a handle, unless all go with the descriptor: closed, forked or unplugged."""
        if self.forked:
            return
        try:
            with contextlib.suppress(ValueError), Hold(device) as number:
                close(number, handle)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def leave_to_parent(self) -> None:
        """Leave the handles to the parent; called in a forked child."""
        self.forked = True
        self._lock = threading.Lock()
