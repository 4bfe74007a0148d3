"""Buffers of vgem, the kernel's own test exporter, for kernels without a heap."""

import fcntl
import os
import struct
from pathlib import Path

import dmabuf

# include/uapi/drm/drm.h and drm_mode.h
DRM_IOCTL_VERSION = 0xC0406400
DRM_IOCTL_GEM_CLOSE = 0x40086409
DRM_IOCTL_PRIME_HANDLE_TO_FD = 0xC00C642D
DRM_IOCTL_MODE_CREATE_DUMB = 0xC02064B2
DRM_RDWR = os.O_RDWR
DRM_CLOEXEC = os.O_CLOEXEC

PAGE = 4096


def node() -> str | None:
    """Return the path of vgem's primary node, None where the kernel has none."""
    for path in sorted(Path("/dev/dri").glob("card*")):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if _driver(fd) == "vgem":
                return str(path)
        finally:
            os.close(fd)
    return None


def allocate(size: int, *, name: str | None = None, flags: int = DRM_RDWR) -> dmabuf.Buffer:
    """Allocate at least `size` bytes, as `Heap.allocate` does."""
    path = node()
    assert path, "this test needs vgem: modprobe vgem"
    device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
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


def _driver(fd: int) -> str:
    import ctypes

    name = ctypes.create_string_buffer(32)
    version = bytearray(
        struct.pack("iiiiQQQQQQ", 0, 0, 0, 0, len(name), ctypes.addressof(name), 0, 0, 0, 0)
    )
    fcntl.ioctl(fd, DRM_IOCTL_VERSION, version)
    return name.value.decode()
