"""DRM devices and the buffers they hold: imported ones, and their own, which they export."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import operator
import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple, SupportsIndex, TypeVar
from weakref import WeakSet

from dmabuf import _memory
from dmabuf._fd import Descriptor, Hold
from dmabuf._node import Kind, open_node
from dmabuf._record import record
from dmabuf.access import Access, access_bits
from dmabuf.buffer import Buffer, own_buffer
from dmabuf.devices.drm import _ioctl
from dmabuf.errors import UnsupportedError, os_error

_NODE = Kind("DRM device", "drm", "render", "CONFIG_DRM", "load its driver")
_MODES = {Access.READ: os.O_RDONLY, Access.READ_WRITE: os.O_RDWR}
_ACCESS = {os.O_RDONLY: "READ", os.O_WRONLY: "WRITE", os.O_RDWR: "READ_WRITE"}
_U32 = 2**32
# What drivers say without the function behind an ioctl, by kernel version.
_LACKING = (errno.ENOSYS, errno.EOPNOTSUPP)

_Gem = TypeVar("_Gem", bound="GemBuffer")


@record
class Capabilities(NamedTuple):
    """What a driver says it can do, through the node that was opened."""

    imports: bool
    """It takes buffers of others; some drivers claim this and then take their own alone."""
    exports: bool
    """It gives its buffers as dma-bufs."""
    dumb: bool
    """It makes buffers that the processor draws. Not through a render node."""
    syncobj: bool
    """It has sync objects."""
    timeline: bool
    """Its sync objects have timelines."""


class Device(Descriptor):
    """An open DRM device. Thread-safe. Use it as a context manager, or call `close()`.

    A forked child shares the device's handles with its parent and gives none back: it had better
    open the device itself.
    """

    __slots__ = ("_driver", "_forked", "_handles", "_lock", "_path", "_released")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a primary or render node; OSError, with the path, if that fails."""
        self._path = os.fspath(path)
        number = open_node(self._path, os.O_RDWR, _kind(self._path))
        try:
            self._driver = _ioctl.driver_name(number)
        except BaseException:
            Descriptor(number).close()
            raise
        self._handles: dict[int, int] = {}
        self._released: deque[int] = deque()
        self._lock = threading.Lock()
        self._forked = False
        super().__init__(number)
        _devices.add(self)

    @property
    def path(self) -> str:
        """The node that was opened."""
        return self._path

    @property
    def driver(self) -> str:
        """The kernel's name of the driver."""
        return self._driver

    def capabilities(self) -> Capabilities:
        """Ask the driver what it can do. Follows DRM_IOCTL_GET_CAP."""
        with Hold(self) as number:
            prime = _ioctl.get_cap(number, _ioctl.DRM_CAP_PRIME)
            return Capabilities(
                imports=bool(prime & _ioctl.DRM_PRIME_CAP_IMPORT),
                exports=bool(prime & _ioctl.DRM_PRIME_CAP_EXPORT),
                dumb=_ioctl.has_dumb(number),
                syncobj=bool(_ioctl.get_cap(number, _ioctl.DRM_CAP_SYNCOBJ)),
                timeline=bool(_ioctl.get_cap(number, _ioctl.DRM_CAP_SYNCOBJ_TIMELINE)),
            )

    def import_buffer(self, buffer: Buffer) -> GemBuffer:
        """Attach the device to a buffer; released with the last `GemBuffer` of the same memory.

        OSError if the device can't reach that memory. Follows DRM_IOCTL_PRIME_FD_TO_HANDLE.
        """
        if not isinstance(buffer, Buffer):
            raise TypeError(f"buffer must be a dmabuf.Buffer, not {type(buffer).__name__}")
        # The kernel gives one handle for the same memory and counts nothing: count here.
        with Hold(buffer) as fd, self._locked() as number:
            try:
                handle = _ioctl.prime_fd_to_handle(number, fd)
            except OSError as error:
                raise self._refused(error, f"can't import {buffer!r}") from None
            return self._own(GemBuffer(self, handle, buffer.size))

    def create_dumb(
        self, width: SupportsIndex, height: SupportsIndex, bpp: SupportsIndex
    ) -> DumbBuffer:
        """Create a buffer of `width` x `height` pixels of `bpp` bits.

        Memory that the processor draws and the device's display scans out. ValueError for a shape
        that can't be; AllocationError (ENOMEM); PermissionError (EACCES) through a render node;
        UnsupportedError if the driver makes none. Follows DRM_IOCTL_MODE_CREATE_DUMB.
        """
        shape = [
            _checked(what, value)
            for what, value in (("width", width), ("height", height), ("bpp", bpp))
        ]
        size = shape[0] * shape[1] * -(-shape[2] // 8)
        if _memory.must_check(size):
            _memory.require(size, f"a dumb buffer of {self._path}")
        with self._locked() as number:
            try:
                made = _ioctl.create_dumb(number, *shape)
            except OSError as error:
                text = "can't create a dumb buffer of {}x{} pixels of {} bits".format(*shape)
                raise self._refused(error, text) from None
            return self._own(DumbBuffer(self, made, *shape))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """Give the descriptor's number; no handle is given back in the block."""
        try:
            with Hold(self) as number, self._lock:
                yield number
        finally:
            self._close_released()

    def _own(self, gem: _Gem) -> _Gem:
        """Count an owner of a handle. The lock is held."""
        self._handles[gem.handle] = self._handles.get(gem.handle, 0) + 1
        return gem

    def _release(self, handle: int) -> None:
        self._released.append(handle)
        self._close_released()

    def _close_released(self) -> None:
        """Close handles without an owner, unless another call is under way, which does it then.

        A finalizer or a signal handler that releases one amid an import can't wait for it.
        """
        while self._released and self._lock.acquire(blocking=False):
            try:
                while self._released:
                    handle = self._released.popleft()
                    self._handles[handle] -= 1
                    if not self._handles[handle]:
                        del self._handles[handle]
                        self._without(handle, _ioctl.gem_close)
            finally:
                self._lock.release()

    def _without(self, handle: int, give_back: Callable[[int, int], None]) -> None:
        """Give a handle back, unless all go with the descriptor: closed, forked or unplugged."""
        if self._forked:
            return
        try:
            with contextlib.suppress(ValueError), Hold(self) as number:
                give_back(number, handle)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def _refused(self, error: OSError, what: str) -> OSError:
        """Return the error of a device that can't do what it was asked."""
        number = error.errno or errno.EIO
        text = f"{self._path} ({self._driver}) {what}"
        if number in _LACKING:
            return UnsupportedError(number, f"{text}: its driver has no such function")
        if number == errno.EACCES and os.path.basename(self._path).startswith("renderD"):
            primary = sibling(self._path, "card") or "/dev/dri/card…"
            text = f"{text}: it is a render node; open the primary node, {primary}"
        return os_error(number, f"{text} ({error.strerror})")

    def __repr__(self) -> str:
        state = "[closed]" if self._closed else f"fd={self._number}"
        return f"<dmabuf.devices.drm.{type(self).__name__} {self._path} {self._driver} {state}>"


class GemBuffer:
    """A device's hold of a buffer. `close()` detaches; closing the device does so for all."""

    __slots__ = ("_device", "_handles", "_size")

    def __init__(self, device: Device, handle: int, size: int) -> None:
        self._device = device
        self._size = size
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
            raise ValueError(f"operation on a closed {type(self).__name__}") from None

    @property
    def size(self) -> int:
        """The size in bytes. Also when closed."""
        return self._size

    def export(self, access: Access = Access.READ_WRITE) -> Buffer:
        """Return the memory as a buffer, which lives on when the device is closed.

        `access`, READ or READ_WRITE, is what its descriptor allows. The first export fixes it for
        good, and that of an imported buffer is its exporter's: PermissionError (EACCES) for
        another. Follows DRM_IOCTL_PRIME_HANDLE_TO_FD.
        """
        device, wanted = self._device, Access(access_bits(access))
        if wanted not in _MODES:
            raise ValueError("DRM exports with access READ or READ_WRITE, not WRITE")
        with device._locked() as number:
            try:
                fd = _ioctl.prime_handle_to_fd(number, self.handle, _MODES[wanted])
            except OSError as error:
                raise device._refused(error, f"can't export {self!r}") from None
            buffer = own_buffer(fd)
        mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        if mode != _MODES[wanted]:
            buffer.close()
            text = f"{self!r} was first exported with access {_ACCESS[mode]}, which stays so"
            raise os_error(errno.EACCES, text)
        return buffer

    def map(self) -> memoryview:
        """Return the memory, without a bracket: that of an `export()` which is closed at once.

        The memoryview keeps its memory, whatever is closed. To bracket an access export a buffer,
        and use its scopes.
        """
        with self.export() as buffer:
            return buffer.memory

    def close(self) -> None:
        """Detach the device, if this is the last import of the memory. Idempotent."""
        try:
            handle = self._handles.pop()
        except IndexError:
            return
        self._device._release(handle)

    def __enter__(self: _Gem) -> _Gem:
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
                name = type(self).__name__
                message = f"unclosed {name} with handle {self.handle} of {self._device.path}"
                warnings.warn(message, ResourceWarning, stacklevel=2, source=self)
        finally:
            self.close()

    def __repr__(self) -> str:
        state = f"handle={self._handles[0]}" if self._handles else "[closed]"
        name = type(self).__name__
        return f"<dmabuf.devices.drm.{name} {state} size={self._size} of {self._device.path}>"


class DumbBuffer(GemBuffer):
    """A buffer that the device made; the last of its owners, imports included, destroys it."""

    __slots__ = ("_shape",)

    def __init__(
        self, device: Device, made: _ioctl.Dumb, width: int, height: int, bpp: int
    ) -> None:
        super().__init__(device, made.handle, made.size)
        self._shape = width, height, bpp, made.pitch

    @property
    def width(self) -> int:
        """Pixels of a line."""
        return self._shape[0]

    @property
    def height(self) -> int:
        """Lines."""
        return self._shape[1]

    @property
    def bpp(self) -> int:
        """Bits of a pixel."""
        return self._shape[2]

    @property
    def pitch(self) -> int:
        """Bytes from a line to the next, as the device wants them."""
        return self._shape[3]


def _kind(path: str) -> Kind:
    """Return what a node is: distributions give primary nodes to a group of their own."""
    return _NODE if os.path.basename(path).startswith("renderD") else _NODE._replace(group="video")


def sibling(path: str | os.PathLike[str], prefix: str) -> str | None:
    """Return another node of the same DRM device, "card" or "renderD", None if it has none."""
    folder, name = os.path.split(path)
    try:
        names = os.listdir(f"/sys/class/drm/{name}/device/drm")
    except OSError:
        return None
    return next((os.path.join(folder, name) for name in names if name.startswith(prefix)), None)


def _checked(what: str, value: SupportsIndex) -> int:
    """Return one side of a dumb buffer; TypeError or ValueError if it can't be one."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    number = operator.index(value)
    if not 0 < number < _U32:
        raise ValueError(f"{what} must be from 1 to {_U32 - 1}, not {number}")
    return number


_devices: WeakSet[Device] = WeakSet()


def _after_fork_in_child() -> None:
    for device in _devices:
        device._forked = True
        device._lock = threading.Lock()  # whoever held it may not live here


os.register_at_fork(after_in_child=_after_fork_in_child)
