"""DRM devices: their capabilities, and the buffers that they import and create."""

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
    """What a DRM node reports about itself. None stands for what could not be queried.

        info = inspect("/dev/dri/card0")
        print(info.driver, info.imports, info.timeline)

    `inspect()` and `Device.capabilities()` return it.
    """

    path: str
    """The path of the node."""
    driver: str | None
    """The kernel's name of the driver."""
    imports: bool | None
    """True if it imports buffers of other devices. `Device.capabilities()` reports what the driver
    claims; `inspect()` tries it, because some drivers import only their own buffers."""
    exports: bool | None
    """True if it exports its own buffers as dma-bufs."""
    display: bool
    """True if it has connectors for monitors."""
    dumb: bool | None
    """True if this node creates dumb buffers, for the CPU to draw into; a render node does not."""
    syncobj: bool | None
    """True if it has sync objects."""
    timeline: bool | None
    """True if it has timeline sync objects."""


class Device(Node):
    """An open DRM device.

        with Device("/dev/dri/renderD128") as device, device.import_buffer(buffer) as gem:
            print(device.driver, gem.handle)

    Thread-safe. Use it as a context manager, or call `close()`. A forked child shares the device's
    handles with its parent and releases none of them; it should open the device itself.
    """

    __slots__ = ()

    def capabilities(self) -> DrmInfo:
        """Query what the driver can do through this node. Follows DRM_IOCTL_GET_CAP."""
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
        """Import a buffer: attach the device to it, and return the device's handle of it.

        The device stays attached until the last `GemBuffer` of the same memory is closed. OSError
        if the device can't access that memory. Follows DRM_IOCTL_PRIME_FD_TO_HANDLE.
        """
        if not isinstance(buffer, Buffer):
            raise TypeError(f"buffer must be a dmabuf.Buffer, not {type(buffer).__name__}")
        return GemBuffer(self, buffer)

    def create_dumb(
        self: _Self, width: SupportsIndex, height: SupportsIndex, bpp: SupportsIndex
    ) -> DumbBuffer[_Self]:
        """Allocate a dumb buffer of `width` x `height` pixels with `bpp` bits per pixel.

        The CPU draws into it and the device's display can show it. ValueError for a number that
        can't be a side or a depth; AllocationError (ENOMEM) if there is not enough memory;
        PermissionError (EACCES) through a render node; UnsupportedError if the driver has no dumb
        buffers. Follows DRM_IOCTL_MODE_CREATE_DUMB.
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
