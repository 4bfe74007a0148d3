"""The buffers of a DRM device: imported ones and its own, and their export."""

from __future__ import annotations

import fcntl
import os
from errno import EACCES, EINVAL
from functools import partial
from typing import NamedTuple

from dmabuf._fd import Hold
from dmabuf._mapping import prove
from dmabuf.access import Access, access_bits
from dmabuf.buffer import Buffer, own_buffer
from dmabuf.devices.drm import _ioctl
from dmabuf.devices.drm._node import Handle, NodeT, refusal
from dmabuf.errors import os_error

_MODES = {Access.READ: os.O_RDONLY, Access.READ_WRITE: os.O_RDWR}
_ACCESS = {os.O_RDONLY: "READ", os.O_WRONLY: "WRITE", os.O_RDWR: "READ_WRITE"}
_MEMORY = "; it may need contiguous memory, of a CMA heap, or its own, of create_dumb()"


class GemBuffer(Handle[NodeT]):
    """A buffer on one DRM device, known to it by a handle.

        with Device("/dev/dri/card0") as device, device.import_buffer(buffer) as gem:
            print(gem.handle, gem.size)

    Closing it detaches the device from the buffer. Closing the device closes all of its buffers.
    Thread-safe. For type checkers it is generic in the device's type, such as `GemBuffer[Device]`.
    """

    __slots__ = ("_size",)

    def __init__(self, device: NodeT, buffer: Buffer) -> None:
        """See `Device.import_buffer`."""
        self._size = buffer.size
        with Hold(buffer) as fd:
            prove(buffer, fd)
            try:
                self._adopt(
                    device,
                    _ioctl.gem_close,
                    lambda number, made: _ioctl.prime_fd_to_handle(number, fd, made),
                )
            except OSError as error:
                advice = _MEMORY if error.errno == EINVAL else ""
                raise refusal(device, error, f"can't import {buffer!r}", advice) from None

    @property
    def size(self) -> int:
        """The size in bytes. Works when closed."""
        return self._size

    def export(self, access: Access = Access.READ_WRITE) -> Buffer:
        """Return the memory as a `Buffer`, which stays valid when the device is closed.

        `access`, READ or READ_WRITE, is what the buffer's descriptor allows. The first export
        decides it for good; for an imported buffer its exporter did. PermissionError (EACCES) for a
        different one. ValueError for WRITE. Follows DRM_IOCTL_PRIME_HANDLE_TO_FD.
        """
        wanted = Access(access_bits(access))
        if wanted not in _MODES:
            raise ValueError("DRM exports with access READ or READ_WRITE, not WRITE")
        with Hold(self) as handle, Hold(self._device) as number:
            try:
                export = partial(_ioctl.prime_handle_to_fd, number, handle, _MODES[wanted])
                buffer = own_buffer(export)
            except OSError as error:
                raise refusal(self._device, error, f"can't export {self!r}") from None
        with Hold(buffer) as number:
            mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
        if mode != _MODES[wanted]:
            buffer.close()
            text = f"{self!r} was first exported with access {_ACCESS[mode]}, which stays so"
            raise os_error(EACCES, text)
        return buffer

    def map(self) -> memoryview:
        """Return the memory as a memoryview, without a bracket.

        The memoryview keeps its memory mapped, whatever is closed. To bracket an access, `export()`
        a buffer and use its scopes.
        """
        with self.export() as buffer:
            return buffer.memory

    def __repr__(self) -> str:
        state = "[closed]" if self._closed else f"handle={self._number}"
        name = type(self).__name__
        return f"<dmabuf.devices.drm.{name} {state} size={self._size} of {self._device.path}>"


class Shape(NamedTuple):
    """The pixels of a dumb buffer."""

    width: int
    height: int
    bpp: int
    pitch: int


class DumbBuffer(GemBuffer[NodeT]):
    """A dumb buffer: the device allocated it, the CPU draws into it, its display can show it.

        with Device("/dev/dri/card0") as device, device.create_dumb(640, 480, 32) as dumb:
            buffer = dumb.export()
            image = dmabuf.Image(buffer, "XRGB8888", 640, 480, strides=dumb.pitch)

    The memory is freed with its last user, exported buffers and imports included.
    """

    __slots__ = ("_shape",)

    def __init__(self, device: NodeT, width: int, height: int, bpp: int) -> None:
        """See `Device.create_dumb`."""

        def create(number: int, made: list[int]) -> None:
            pitch, self._size = _ioctl.create_dumb(number, width, height, bpp, made)
            self._shape = Shape(width, height, bpp, pitch)

        self._adopt(device, _ioctl.gem_close, create)

    @property
    def width(self) -> int:
        """The number of pixels in a row."""
        return self._shape.width

    @property
    def height(self) -> int:
        """The number of rows."""
        return self._shape.height

    @property
    def bpp(self) -> int:
        """The number of bits per pixel."""
        return self._shape.bpp

    @property
    def pitch(self) -> int:
        """The number of bytes from the start of one row to the start of the next."""
        return self._shape.pitch
