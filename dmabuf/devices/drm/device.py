"""DRM devices: what they can do, and the buffers that they import and create."""

from __future__ import annotations

import operator
from typing import NamedTuple, SupportsIndex, TypeVar

from dmabuf import _memory
from dmabuf._fd import Hold
from dmabuf._record import record
from dmabuf.buffer import Buffer
from dmabuf.devices.drm import _ioctl
from dmabuf.devices.drm._node import Node, has_connectors, refusal
from dmabuf.devices.drm.gem import DumbBuffer, GemBuffer

_U32 = 2**32
_Self = TypeVar("_Self", bound="Device")


@record
class DrmInfo(NamedTuple):
    """What a node says of itself. None stands for what could not be asked.

    `inspect()` and `Device.capabilities()` give it:

        info = inspect("/dev/dri/card0")
        print(info.driver, info.imports, info.timeline)
    """

    path: str
    """The node."""
    driver: str | None
    """The kernel's name of the driver."""
    imports: bool | None
    """True if it takes buffers of other devices. `Device.capabilities()` tells what the driver
    claims, `inspect()` tries it, since some drivers then take their own buffers alone."""
    exports: bool | None
    """True if it gives its own buffers as dma-bufs."""
    display: bool
    """True if it has connectors for monitors."""
    dumb: bool | None
    """True if this node makes buffers that the processor draws into: a render node makes none."""
    syncobj: bool | None
    """True if it has sync objects."""
    timeline: bool | None
    """True if its sync objects have timelines."""


class Device(Node):
    """An open DRM device. Thread-safe. Use it as a context manager, or call `close()`.

    A forked child shares the device's handles with its parent and gives none back: it should open
    the device itself.

        with Device("/dev/dri/renderD128") as device, device.import_buffer(buffer) as gem:
            print(device.driver, gem.handle)
    """

    __slots__ = ()

    def capabilities(self) -> DrmInfo:
        """Ask the driver what it can do through this node. Follows DRM_IOCTL_GET_CAP."""
        with Hold(self) as number:
            prime = _ioctl.get_cap(number, _ioctl.DRM_CAP_PRIME)
            return DrmInfo(
                path=self.path,
                driver=self.driver,
                imports=bool(prime & _ioctl.DRM_PRIME_CAP_IMPORT),
                exports=bool(prime & _ioctl.DRM_PRIME_CAP_EXPORT),
                display=has_connectors(self.path),
                dumb=_ioctl.has_dumb(number),
                syncobj=bool(_ioctl.get_cap(number, _ioctl.DRM_CAP_SYNCOBJ)),
                timeline=bool(_ioctl.get_cap(number, _ioctl.DRM_CAP_SYNCOBJ_TIMELINE)),
            )

    def import_buffer(self: _Self, buffer: Buffer) -> GemBuffer[_Self]:
        """Attach the device to a buffer; released with the last `GemBuffer` of the same memory.

        OSError if the device can't reach that memory. Follows DRM_IOCTL_PRIME_FD_TO_HANDLE.
        """
        if not isinstance(buffer, Buffer):
            raise TypeError(f"buffer must be a dmabuf.Buffer, not {type(buffer).__name__}")
        return GemBuffer(self, buffer)

    def create_dumb(
        self: _Self, width: SupportsIndex, height: SupportsIndex, bpp: SupportsIndex
    ) -> DumbBuffer[_Self]:
        """Allocate a buffer of `width` x `height` pixels of `bpp` bits.

        Memory that the processor draws into and the device's display scans out. ValueError for a
        shape that can't be; AllocationError (ENOMEM); PermissionError (EACCES) through a render
        node; UnsupportedError if the driver makes none. Follows DRM_IOCTL_MODE_CREATE_DUMB.
        """
        columns, rows = _checked("width", width), _checked("height", height)
        depth = _checked("bpp", bpp)
        size = columns * rows * -(-depth // 8)
        if _memory.must_check(size):
            _memory.require(size, f"a dumb buffer of {self._path}")
        try:
            return DumbBuffer(self, columns, rows, depth)
        except OSError as error:
            text = f"can't create a dumb buffer of {columns}x{rows} pixels of {depth} bits"
            raise refusal(self, error, text) from None


def _checked(what: str, value: SupportsIndex) -> int:
    """Return one side of a dumb buffer; TypeError or ValueError if it can't be one."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    number = operator.index(value)
    if not 0 < number < _U32:
        raise ValueError(f"{what} must be from 1 to {_U32 - 1}, not {number}")
    return number
