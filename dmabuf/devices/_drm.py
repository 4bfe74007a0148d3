"""The DRM ioctls, one function each: include/uapi/drm/drm.h and vgem_drm.h."""

from __future__ import annotations

from struct import Struct

from dmabuf._ioctl import call, request
from dmabuf._uapi import ffi

_version = Struct("=iii4xQQQQQQ")
_gem_close = Struct("=II")
_prime_handle = Struct("=IIi")
_fence_attach = Struct("=IIII")
_fence_signal = Struct("=II")

DRM_IOCTL_VERSION = request(3, "d", 0x00, _version.size)
DRM_IOCTL_GEM_CLOSE = request(1, "d", 0x09, _gem_close.size)
DRM_IOCTL_PRIME_FD_TO_HANDLE = request(3, "d", 0x2E, _prime_handle.size)
DRM_IOCTL_VGEM_FENCE_ATTACH = request(3, "d", 0x41, _fence_attach.size)
DRM_IOCTL_VGEM_FENCE_SIGNAL = request(1, "d", 0x42, _fence_signal.size)

VGEM_FENCE_WRITE = 1
_NAME = 32


def driver_name(fd: int) -> str:
    """Return the name of the driver behind a node."""
    name = bytearray(_NAME)
    address = int(ffi.cast("uintptr_t", ffi.from_buffer(name)))
    data = bytearray(_version.pack(0, 0, 0, len(name), address, 0, 0, 0, 0))
    call(fd, DRM_IOCTL_VERSION, data, "DRM_IOCTL_VERSION")
    return name.rstrip(b"\0").decode()


def gem_close(fd: int, handle: int) -> None:
    """Give a handle back."""
    call(fd, DRM_IOCTL_GEM_CLOSE, _gem_close.pack(handle, 0), "DRM_IOCTL_GEM_CLOSE")


def prime_fd_to_handle(fd: int, buffer: int) -> int:
    """Import a dma-buf; the same one gives the same handle, without a count."""
    data = bytearray(_prime_handle.pack(0, 0, buffer))
    call(fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, data, "DRM_IOCTL_PRIME_FD_TO_HANDLE")
    return int(_prime_handle.unpack(data)[0])


def vgem_fence_attach(fd: int, handle: int, flags: int) -> int:
    """Put a pending fence on a buffer and return the fence's handle."""
    data = bytearray(_fence_attach.pack(handle, flags, 0, 0))
    call(fd, DRM_IOCTL_VGEM_FENCE_ATTACH, data, "DRM_IOCTL_VGEM_FENCE_ATTACH")
    return int(_fence_attach.unpack(data)[2])


def vgem_fence_signal(fd: int, fence: int) -> None:
    """Signal a fence and give its handle back."""
    data = _fence_signal.pack(fence, 0)
    call(fd, DRM_IOCTL_VGEM_FENCE_SIGNAL, data, "DRM_IOCTL_VGEM_FENCE_SIGNAL")
