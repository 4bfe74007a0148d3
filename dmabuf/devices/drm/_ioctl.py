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


def gem_close(fd: int, handle: int, done: list[int]) -> None:
    """Give a handle back, and add something to a list as that is done."""
    data = ffi.new("struct drm_gem_close *", {"handle": handle})
    make(fd, DRM_IOCTL_GEM_CLOSE, ffi.buffer(data), "DRM_IOCTL_GEM_CLOSE", done)


def prime_fd_to_handle(fd: int, buffer: int, made: list[int]) -> None:
    """Import a dma-buf and add its handle, without a count the same each time, to a list."""
    data: Any = ffi.new("struct drm_prime_handle *", {"fd": buffer})
    what = "DRM_IOCTL_PRIME_FD_TO_HANDLE"
    make(fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, ffi.buffer(data), what, made, at=0)


def prime_handle_to_fd(fd: int, handle: int, mode: int, made: list[int]) -> None:
    """Export a handle as a dma-buf, O_RDONLY or O_RDWR, and add its descriptor to a list."""
    data: Any = ffi.new("struct drm_prime_handle *", {"handle": handle, "fd": -1})
    data.flags = mode | os.O_CLOEXEC
    what = "DRM_IOCTL_PRIME_HANDLE_TO_FD"
    make(fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, ffi.buffer(data), what, made, at=8)


class Dumb(NamedTuple):
    """What the kernel made."""

    pitch: int
    size: int


def create_dumb(fd: int, width: int, height: int, bpp: int, made: list[int]) -> Dumb:
    """Create a buffer to draw into and to scan out, and add its handle to a list."""
    shape = {"width": width, "height": height, "bpp": bpp}
    data: Any = ffi.new("struct drm_mode_create_dumb *", shape)
    what = "DRM_IOCTL_MODE_CREATE_DUMB"
    make(fd, DRM_IOCTL_MODE_CREATE_DUMB, ffi.buffer(data), what, made, at=16)
    return Dumb(int(data.pitch), int(data.size))


_WITHOUT_DUMB = errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP
"""What a render node says, and a driver that has no such function."""


def has_dumb(fd: int) -> bool:
    """Whether this node makes dumb buffers; nothing is made. OSError if that can't be told."""
    try:
        create_dumb(fd, 0, 0, 0, [])
    except OSError as error:
        # The kernel looks at the shape after it has looked for the driver's function.
        if error.errno not in (errno.EINVAL, *_WITHOUT_DUMB):
            raise
        return error.errno == errno.EINVAL
    return True


def vgem_fence_attach(fd: int, handle: int, flags: int, made: list[int]) -> None:
    """Put a pending fence on a buffer, and add the fence's handle to a list."""
    data: Any = ffi.new("struct drm_vgem_fence_attach *", {"handle": handle, "flags": flags})
    what = "DRM_IOCTL_VGEM_FENCE_ATTACH"
    make(fd, DRM_IOCTL_VGEM_FENCE_ATTACH, ffi.buffer(data), what, made, at=8)


def vgem_fence_signal(fd: int, fence: int) -> None:
    """Signal a fence and give its handle back."""
    data = ffi.new("struct drm_vgem_fence_signal *", {"fence": fence})
    call(fd, DRM_IOCTL_VGEM_FENCE_SIGNAL, ffi.buffer(data), "DRM_IOCTL_VGEM_FENCE_SIGNAL")
