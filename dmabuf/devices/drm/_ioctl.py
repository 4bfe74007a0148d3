"""The ioctls on DRM drivers and buffers, one function each: drm.h and vgem_drm.h."""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import Any, NamedTuple

from dmabuf._ioctl import READ, WRITE, call, make, struct_request
from dmabuf.devices.drm._uapi import ffi

struct = partial(struct_request, ffi, "d")
"""Encode the request number of one of DRM's ioctls that takes a struct."""

DRM_IOCTL_VERSION = struct(READ | WRITE, 0x00, "drm_version")
DRM_IOCTL_GEM_CLOSE = struct(WRITE, 0x09, "drm_gem_close")
DRM_IOCTL_GET_CAP = struct(READ | WRITE, 0x0C, "drm_get_cap")
DRM_IOCTL_PRIME_HANDLE_TO_FD = struct(READ | WRITE, 0x2D, "drm_prime_handle")
DRM_IOCTL_PRIME_FD_TO_HANDLE = struct(READ | WRITE, 0x2E, "drm_prime_handle")
DRM_IOCTL_VGEM_FENCE_ATTACH = struct(READ | WRITE, 0x41, "drm_vgem_fence_attach")
DRM_IOCTL_VGEM_FENCE_SIGNAL = struct(WRITE, 0x42, "drm_vgem_fence_signal")
DRM_IOCTL_MODE_CREATE_DUMB = struct(READ | WRITE, 0xB2, "drm_mode_create_dumb")

DRM_CAP_PRIME, DRM_CAP_SYNCOBJ, DRM_CAP_SYNCOBJ_TIMELINE = 0x5, 0x13, 0x14
DRM_CAP_ADDFB2_MODIFIERS = 0x10
DRM_PRIME_CAP_IMPORT, DRM_PRIME_CAP_EXPORT = 1, 2
VGEM_FENCE_WRITE = 1
_NAME = 32


def driver_name(fd: int) -> str:
    """Return the name of the driver behind a node."""
    name = ffi.new("char[]", _NAME)
    version: Any = ffi.new("struct drm_version *", {"name_len": _NAME, "name": name})
    call(fd, DRM_IOCTL_VERSION, ffi.buffer(version), "DRM_IOCTL_VERSION")
    return bytes(ffi.buffer(name, min(version.name_len, _NAME))).rstrip(b"\0").decode()


def get_cap(fd: int, capability: int) -> int:
    """Return the value of one of the DRM_CAP constants."""
    data: Any = ffi.new("struct drm_get_cap *", {"capability": capability})
    call(fd, DRM_IOCTL_GET_CAP, ffi.buffer(data), f"DRM_IOCTL_GET_CAP {capability:#x}")
    return int(data.value)


def gem_close(fd: int, handle: int) -> None:
    """Give a handle back."""
    data = ffi.new("struct drm_gem_close *", {"handle": handle})
    call(fd, DRM_IOCTL_GEM_CLOSE, ffi.buffer(data), "DRM_IOCTL_GEM_CLOSE")


def prime_fd_to_handle(fd: int, buffer: int) -> int:
    """Import a dma-buf; the same one gives the same handle, without a count."""
    data: Any = ffi.new("struct drm_prime_handle *", {"fd": buffer})
    call(fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, ffi.buffer(data), "DRM_IOCTL_PRIME_FD_TO_HANDLE")
    return int(data.handle)


def prime_handle_to_fd(fd: int, handle: int, mode: int, made: list[int]) -> None:
    """Export a handle as a dma-buf, O_RDONLY or O_RDWR, and add its descriptor to a list."""
    data: Any = ffi.new("struct drm_prime_handle *", {"handle": handle, "fd": -1})
    data.flags = mode | os.O_CLOEXEC
    what = "DRM_IOCTL_PRIME_HANDLE_TO_FD"
    make(fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, ffi.buffer(data), what, made, at=8)


class Dumb(NamedTuple):
    """What the kernel made."""

    handle: int
    pitch: int
    size: int


def create_dumb(fd: int, width: int, height: int, bpp: int) -> Dumb:
    """Create a buffer that the processor draws and a display scans out."""
    shape = {"width": width, "height": height, "bpp": bpp}
    data: Any = ffi.new("struct drm_mode_create_dumb *", shape)
    call(fd, DRM_IOCTL_MODE_CREATE_DUMB, ffi.buffer(data), "DRM_IOCTL_MODE_CREATE_DUMB")
    return Dumb(int(data.handle), int(data.pitch), int(data.size))


def has_dumb(fd: int) -> bool:
    """Whether this node makes dumb buffers; nothing is made."""
    try:
        create_dumb(fd, 0, 0, 0)
    except OSError as error:
        # The kernel looks at the shape after it has looked for the driver's function.
        return error.errno == errno.EINVAL
    return True


def vgem_fence_attach(fd: int, handle: int, flags: int) -> int:
    """Put a pending fence on a buffer and return the fence's handle."""
    data: Any = ffi.new("struct drm_vgem_fence_attach *", {"handle": handle, "flags": flags})
    call(fd, DRM_IOCTL_VGEM_FENCE_ATTACH, ffi.buffer(data), "DRM_IOCTL_VGEM_FENCE_ATTACH")
    return int(data.out_fence)


def vgem_fence_signal(fd: int, fence: int) -> None:
    """Signal a fence and give its handle back."""
    data = ffi.new("struct drm_vgem_fence_signal *", {"fence": fence})
    call(fd, DRM_IOCTL_VGEM_FENCE_SIGNAL, ffi.buffer(data), "DRM_IOCTL_VGEM_FENCE_SIGNAL")
