"""DRM devices: import of buffers, and vgem, the kernel's own test device, which holds them busy."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import warnings
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from dmabuf._fd import Descriptor, Hold
from dmabuf._node import Kind, open_node
from dmabuf.access import Access, access_bits
from dmabuf.buffer import Buffer
from dmabuf.devices import _drm
from dmabuf.errors import UnsupportedError, os_error

DIRECTORY = Path("/dev/dri")
_NODE = Kind("DRM device", "drm", "render", "CONFIG_DRM", "load its driver")


class Device(Descriptor):
    """An open DRM device. Thread-safe. Use it as a context manager, or call `close()`."""

    __slots__ = ("_driver", "_handles", "_lock", "_path", "_released")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a primary or render node; OSError, with the path, if that fails."""
        self._path = os.fspath(path)
        number = open_node(self._path, os.O_RDWR, _NODE)
        try:
            self._driver = _drm.driver_name(number)
        except BaseException:
            Descriptor(number).close()
            raise
        self._handles: dict[int, int] = {}
        self._released: deque[int] = deque()
        self._lock = threading.Lock()
        super().__init__(number)

    @property
    def path(self) -> str:
        """The node that was opened."""
        return self._path

    @property
    def driver(self) -> str:
        """The kernel's name of the driver."""
        return self._driver

    def import_buffer(self, buffer: Buffer) -> GemBuffer:
        """Attach the device to a buffer; released with the last `GemBuffer` of the same memory.

        OSError if the device can't reach that memory. Follows DRM_IOCTL_PRIME_FD_TO_HANDLE.
        """
        if not isinstance(buffer, Buffer):
            raise TypeError(f"buffer must be a dmabuf.Buffer, not {type(buffer).__name__}")
        # The kernel gives one handle for the same memory and counts nothing: count here.
        try:
            with Hold(self) as number, Hold(buffer) as fd, self._lock:
                handle = _drm.prime_fd_to_handle(number, fd)
                self._handles[handle] = self._handles.get(handle, 0) + 1
            return GemBuffer(self, handle)
        finally:
            self._close_released()

    def _release(self, handle: int) -> None:
        self._released.append(handle)
        self._close_released()

    def _close_released(self) -> None:
        """Close handles without a buffer, unless an import is under way, which does it then.

        A finalizer or a signal handler that releases one amid an import can't wait for it.
        """
        while self._released and self._lock.acquire(blocking=False):
            try:
                while self._released:
                    handle = self._released.popleft()
                    self._handles[handle] -= 1
                    if not self._handles[handle]:
                        del self._handles[handle]
                        with contextlib.suppress(ValueError), Hold(self) as number:
                            _drm.gem_close(number, handle)
            finally:
                self._lock.release()

    def __repr__(self) -> str:
        state = "[closed]" if self._closed else f"fd={self._number}"
        return f"<dmabuf.devices.drm.{type(self).__name__} {self._path} {self._driver} {state}>"


class GemBuffer:
    """A device's hold of a buffer. `close()` detaches; closing the device does so for all."""

    __slots__ = ("_device", "_handles")

    def __init__(self, device: Device, handle: int) -> None:
        self._device = device
        self._handles = [handle]  # until closed: the thread that pops it gives it back

    @property
    def device(self) -> Device:
        """The device that it belongs to."""
        return self._device

    @property
    def handle(self) -> int:
        """The device's own number of it; ValueError when closed."""
        try:
            return self._handles[0]
        except IndexError:
            raise ValueError("operation on a closed GemBuffer") from None

    def close(self) -> None:
        """Detach the device, if this is the last import of the memory. Idempotent."""
        try:
            handle = self._handles.pop()
        except IndexError:
            return
        self._device._release(handle)

    def __enter__(self) -> GemBuffer:
        self.handle  # noqa: B018
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            if self._handles and not self._device.closed:
                message = f"unclosed GemBuffer with handle {self.handle} of {self._device.path}"
                warnings.warn(message, ResourceWarning, stacklevel=2, source=self)
        finally:
            self.close()


class Vgem(Device):
    """vgem, which every distribution has: it puts fences on buffers that the caller signals.

    A fence that nobody signals expires after 10 seconds as signalled, without an error. Closing the
    device signals all.
    """

    __slots__ = ()

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Open vgem's node, found by its driver without a path.

        UnsupportedError where the kernel has none, or it isn't loaded.
        """
        super().__init__(_find_vgem() if path is None else path)
        if self.driver != "vgem":
            self.close()
            raise os_error(errno.ENODEV, f"{self.path} is not vgem but {self.driver}")

    def attach_fence(self, gem: GemBuffer, access: Access) -> VgemFence:
        """Make a buffer busy, as a reader (READ) or as a writer, until the fence is signalled.

        OSError (EBUSY) over a pending fence that excludes it: one writer, or readers. Follows
        DRM_IOCTL_VGEM_FENCE_ATTACH.
        """
        flags = _drm.VGEM_FENCE_WRITE if access_bits(access) & Access.WRITE else 0
        if gem.device is not self:
            raise ValueError(f"the buffer was imported by {gem.device!r}, not by {self!r}")
        with Hold(self) as number:
            return VgemFence(self, _drm.vgem_fence_attach(number, gem.handle, flags))


class VgemFence(NamedTuple):
    """A pending fence of vgem."""

    device: Vgem
    """The device that it belongs to."""
    handle: int
    """The device's own number of it."""

    def signal(self) -> None:
        """Signal it, once: OSError (ENOENT) the second time, ETIMEDOUT after it has expired."""
        with Hold(self.device) as number:
            _drm.vgem_fence_signal(number, self.handle)


def _find_vgem() -> str:
    for node in (*sorted(DIRECTORY.glob("renderD*")), *sorted(DIRECTORY.glob("card*"))):
        with contextlib.suppress(OSError), Device(node) as device:
            if device.driver == "vgem":
                return device.path
    text = "no vgem here that may be opened; run modprobe vgem (CONFIG_DRM_VGEM) as root"
    raise UnsupportedError(errno.ENODEV, text)
