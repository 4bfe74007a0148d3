"""The DRM ioctls, one function each: include/uapi/drm/drm.h and vgem_drm.h."""

from __future__ import annotations

from typing import Any

from dmabuf._ioctl import READ, WRITE, call, request
from dmabuf.devices._drm_uapi import ffi


def _struct(direction: int, number: int, struct: str) -> int:
    return request(direction, "d", number, ffi.sizeof(f"struct {struct}"))


DRM_IOCTL_VERSION = _struct(READ | WRITE, 0x00, "drm_version")
DRM_IOCTL_GEM_CLOSE = _struct(WRITE, 0x09, "drm_gem_close")
DRM_IOCTL_PRIME_FD_TO_HANDLE = _struct(READ | WRITE, 0x2E, "drm_prime_handle")
DRM_IOCTL_VGEM_FENCE_ATTACH = _struct(READ | WRITE, 0x41, "drm_vgem_fence_attach")
DRM_IOCTL_VGEM_FENCE_SIGNAL = _struct(WRITE, 0x42, "drm_vgem_fence_signal")

VGEM_FENCE_WRITE = 1
_NAME = 32


def driver_name(fd: int) -> str:
    """Return the name of the driver behind a node."""
    name = ffi.new("char[]", _NAME)
    version: Any = ffi.new("struct drm_version *", {"name_len": _NAME, "name": name})
    call(fd, DRM_IOCTL_VERSION, ffi.buffer(version), "DRM_IOCTL_VERSION")
    return bytes(ffi.buffer(name, min(version.name_len, _NAME))).rstrip(b"\0").decode()


def gem_close(fd: int, handle: int) -> None:
    """Give a handle back."""
    data = ffi.new("struct drm_gem_close *", {"handle": handle})
    call(fd, DRM_IOCTL_GEM_CLOSE, ffi.buffer(data), "DRM_IOCTL_GEM_CLOSE")


def prime_fd_to_handle(fd: int, buffer: int) -> int:
    """Import a dma-buf; the same one gives the same handle, without a count."""
    data: Any = ffi.new("struct drm_prime_handle *", {"fd": buffer})
    call(fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, ffi.buffer(data), "DRM_IOCTL_PRIME_FD_TO_HANDLE")
    return int(data.handle)


def vgem_fence_attach(fd: int, handle: int, flags: int) -> int:
    """Put a pending fence on a buffer and return the fence's handle."""
    data: Any = ffi.new("struct drm_vgem_fence_attach *", {"handle": handle, "flags": flags})
    call(fd, DRM_IOCTL_VGEM_FENCE_ATTACH, ffi.buffer(data), "DRM_IOCTL_VGEM_FENCE_ATTACH")
    return int(data.out_fence)


def vgem_fence_signal(fd: int, fence: int) -> None:
    """Signal a fence and give its handle back."""
    data = ffi.new("struct drm_vgem_fence_signal *", {"fence": fence})
    call(fd, DRM_IOCTL_VGEM_FENCE_SIGNAL, ffi.buffer(data), "DRM_IOCTL_VGEM_FENCE_SIGNAL")
