"""Buffers and fences of vgem, the kernel's own test exporter."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

import dmabuf

# include/uapi/drm/drm.h and drm_mode.h
_version = struct.Struct("@iiiNPNPNP")  # as wide as Python's words
DRM_IOCTL_VERSION = 0xC0006400 | _version.size << 16
DRM_IOCTL_GEM_CLOSE = 0x40086409
DRM_IOCTL_PRIME_HANDLE_TO_FD = 0xC00C642D
DRM_IOCTL_PRIME_FD_TO_HANDLE = 0xC00C642E
DRM_IOCTL_MODE_CREATE_DUMB = 0xC02064B2
DRM_RDWR = os.O_RDWR
DRM_CLOEXEC = os.O_CLOEXEC
# include/uapi/drm/vgem_drm.h
DRM_IOCTL_VGEM_FENCE_ATTACH = 0xC0106441
DRM_IOCTL_VGEM_FENCE_SIGNAL = 0x40086442
VGEM_FENCE_WRITE = 1

PAGE = 4096


def node() -> str | None:
    """Return the path of vgem's primary node, None where there is none to be opened."""
    for path in sorted(Path("/dev/dri").glob("card*")):
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # somebody else's
            continue
        try:
            if _driver(fd) == "vgem":
                return str(path)
        finally:
            os.close(fd)
    return None


def allocate(size: int, *, name: str | None = None, flags: int = DRM_RDWR) -> dmabuf.Buffer:
    """Allocate at least `size` bytes, as `Heap.allocate` does."""
    device = _open()
    try:
        dumb = bytearray(struct.pack("IIIIIIQ", -(-size // PAGE), PAGE // 4, 32, 0, 0, 0, 0))
        fcntl.ioctl(device, DRM_IOCTL_MODE_CREATE_DUMB, dumb)
        handle = struct.unpack("IIIIIIQ", dumb)[4]
        prime = bytearray(struct.pack("IIi", handle, DRM_CLOEXEC | flags, -1))
        fcntl.ioctl(device, DRM_IOCTL_PRIME_HANDLE_TO_FD, prime)
        fcntl.ioctl(device, DRM_IOCTL_GEM_CLOSE, struct.pack("II", handle, 0))
    finally:
        os.close(device)
    buffer = dmabuf.Buffer(struct.unpack("IIi", prime)[2])
    if name is not None:
        buffer.name = name
    return buffer


class Fence:
    """A fence on a buffer, of a device that reads it or, with `write`, writes it.

    Pending until `signal()` or `close()`. The kernel signals it by itself after 10 s, so a test
    that comes too late fails in `signal()`, with TimeoutError.
    """

    def __init__(self, buffer: dmabuf.Buffer, *, write: bool = True) -> None:
        self._device = _open()
        try:
            prime = bytearray(struct.pack("IIi", 0, 0, buffer.fileno()))
            fcntl.ioctl(self._device, DRM_IOCTL_PRIME_FD_TO_HANDLE, prime)
            handle = struct.unpack("IIi", prime)[0]
            attach = bytearray(struct.pack("IIII", handle, VGEM_FENCE_WRITE if write else 0, 0, 0))
            fcntl.ioctl(self._device, DRM_IOCTL_VGEM_FENCE_ATTACH, attach)
            self._fence = struct.unpack("IIII", attach)[2]
        except BaseException:
            os.close(self._device)
            raise

    def signal(self) -> None:
        """Say that the device has done its work."""
        fcntl.ioctl(self._device, DRM_IOCTL_VGEM_FENCE_SIGNAL, struct.pack("II", self._fence, 0))

    def close(self) -> None:
        """Give the buffer back, and signal the fence if it is still pending."""
        os.close(self._device)

    def __enter__(self) -> Fence:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open() -> int:
    path = node()
    assert path, "this test needs vgem: modprobe vgem"
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def _driver(fd: int) -> str:
    import ctypes

    name = ctypes.create_string_buffer(32)
    version = bytearray(_version.pack(0, 0, 0, len(name), ctypes.addressof(name), 0, 0, 0, 0))
    fcntl.ioctl(fd, DRM_IOCTL_VERSION, version)
    return name.value.decode()
