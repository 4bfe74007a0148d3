"""The ioctls on DRM sync objects, one function each: include/uapi/drm/drm.h."""

from __future__ import annotations

import errno
import os
from typing import Any

from dmabuf._ioctl import READ, WRITE, address, call, make
from dmabuf.devices.drm._ioctl import struct
from dmabuf.devices.drm._uapi import ffi
from dmabuf.errors import UnsupportedError

DRM_IOCTL_SYNCOBJ_CREATE = struct(READ | WRITE, 0xBF, "drm_syncobj_create")
DRM_IOCTL_SYNCOBJ_DESTROY = struct(READ | WRITE, 0xC0, "drm_syncobj_destroy")
DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD = struct(READ | WRITE, 0xC1, "drm_syncobj_handle")
DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE = struct(READ | WRITE, 0xC2, "drm_syncobj_handle")
DRM_IOCTL_SYNCOBJ_WAIT = struct(READ | WRITE, 0xC3, "drm_syncobj_wait")
DRM_IOCTL_SYNCOBJ_RESET = struct(READ | WRITE, 0xC4, "drm_syncobj_array")
DRM_IOCTL_SYNCOBJ_SIGNAL = struct(READ | WRITE, 0xC5, "drm_syncobj_array")
DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT = struct(READ | WRITE, 0xCA, "drm_syncobj_timeline_wait")
DRM_IOCTL_SYNCOBJ_QUERY = struct(READ | WRITE, 0xCB, "drm_syncobj_timeline_array")
DRM_IOCTL_SYNCOBJ_TRANSFER = struct(READ | WRITE, 0xCC, "drm_syncobj_transfer")
DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL = struct(READ | WRITE, 0xCD, "drm_syncobj_timeline_array")
DRM_IOCTL_SYNCOBJ_EVENTFD = struct(READ | WRITE, 0xCF, "drm_syncobj_eventfd")
DRM_SYNCOBJ_CREATE_SIGNALED = 1
DRM_SYNCOBJ_FD_TO_HANDLE_FLAGS_IMPORT_SYNC_FILE = 1
DRM_SYNCOBJ_HANDLE_TO_FD_FLAGS_EXPORT_SYNC_FILE = 1
DRM_SYNCOBJ_WAIT_FLAGS_WAIT_ALL = 1
DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT = 2
DRM_SYNCOBJ_WAIT_FLAGS_WAIT_AVAILABLE = 4
DRM_SYNCOBJ_QUERY_FLAGS_LAST_SUBMITTED = 1


def syncobj_create(fd: int, flags: int, made: list[int]) -> None:
    """Create a sync object and add its handle to a list."""
    data: Any = ffi.new("struct drm_syncobj_create *", {"flags": flags})
    make(fd, DRM_IOCTL_SYNCOBJ_CREATE, ffi.buffer(data), "DRM_IOCTL_SYNCOBJ_CREATE", made, at=0)


def syncobj_destroy(fd: int, handle: int, done: list[int]) -> None:
    """Give a sync object's handle back, and add something to a list as that is done."""
    data = ffi.new("struct drm_syncobj_destroy *", {"handle": handle})
    make(fd, DRM_IOCTL_SYNCOBJ_DESTROY, ffi.buffer(data), "DRM_IOCTL_SYNCOBJ_DESTROY", done)


def syncobj_handle_to_fd(fd: int, handle: int, flags: int, made: list[int]) -> None:
    """Add to a list a descriptor of a sync object or, by the flags, a sync_file of its fence."""
    data: Any = ffi.new("struct drm_syncobj_handle *", {"handle": handle, "flags": flags, "fd": -1})
    what = "DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD"
    make(fd, DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, ffi.buffer(data), what, made, at=8)


def syncobj_fd_to_handle(fd: int, source: int, made: list[int]) -> None:
    """Add to a list a new handle of the sync object that a descriptor stands for."""
    data: Any = ffi.new("struct drm_syncobj_handle *", {"fd": source})
    what = "DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE"
    make(fd, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, ffi.buffer(data), what, made, at=0)


def syncobj_import_sync_file(fd: int, handle: int, sync_file: int) -> None:
    """Replace a binary sync object's fence by that of a sync_file."""
    flags = DRM_SYNCOBJ_FD_TO_HANDLE_FLAGS_IMPORT_SYNC_FILE
    fields = {"handle": handle, "flags": flags, "fd": sync_file}
    data = ffi.new("struct drm_syncobj_handle *", fields)
    call(fd, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, ffi.buffer(data), "DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE")


def syncobj_reset(fd: int, handle: int) -> None:
    """Take a sync object's fence away."""
    _, data = _array([handle])
    call(fd, DRM_IOCTL_SYNCOBJ_RESET, ffi.buffer(data), "DRM_IOCTL_SYNCOBJ_RESET")


def syncobj_signal(fd: int, handle: int) -> None:
    """Give a binary sync object a fence that has signalled."""
    _, data = _array([handle])
    call(fd, DRM_IOCTL_SYNCOBJ_SIGNAL, ffi.buffer(data), "DRM_IOCTL_SYNCOBJ_SIGNAL")


def syncobj_timeline_signal(fd: int, handle: int, point: int) -> None:
    """Give a timeline a point that has signalled."""
    _, data = _points([handle], [point])
    what = "DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL"
    call(fd, DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL, ffi.buffer(data), what)


def syncobj_query(fd: int, handle: int, flags: int) -> int:
    """Return a timeline's last signalled or, as the flags say, its last submitted point."""
    (_, points), data = _points([handle], [0])
    data.flags = flags
    call(fd, DRM_IOCTL_SYNCOBJ_QUERY, ffi.buffer(data), "DRM_IOCTL_SYNCOBJ_QUERY")
    return int(points[0])


def syncobj_transfer(fd: int, source: tuple[int, int], target: tuple[int, int]) -> None:
    """Copy a fence from one (handle, point) to another; point 0 is a binary sync object's."""
    data: Any = ffi.new("struct drm_syncobj_transfer *")
    data.src_handle, data.src_point = source
    data.dst_handle, data.dst_point = target
    call(fd, DRM_IOCTL_SYNCOBJ_TRANSFER, ffi.buffer(data), "DRM_IOCTL_SYNCOBJ_TRANSFER")


def syncobj_wait(fd: int, handles: list[int], deadline_ns: int, flags: int) -> int:
    """Wait until CLOCK_MONOTONIC has the deadline: OSError (ETIME); return the first signalled."""
    array = ffi.new("uint32_t[]", handles)
    data: Any = ffi.new("struct drm_syncobj_wait *", {"timeout_nsec": deadline_ns, "flags": flags})
    data.handles, data.count_handles = address(ffi, array), len(handles)
    call(fd, DRM_IOCTL_SYNCOBJ_WAIT, ffi.buffer(data), "DRM_IOCTL_SYNCOBJ_WAIT")
    return int(data.first_signaled)


def syncobj_timeline_wait(
    fd: int, handles: list[int], points: list[int], deadline_ns: int, flags: int
) -> int:
    """Wait for points of timelines, as `syncobj_wait` does."""
    arrays = ffi.new("uint32_t[]", handles), ffi.new("uint64_t[]", points)
    fields = {"timeout_nsec": deadline_ns, "flags": flags, "count_handles": len(handles)}
    data: Any = ffi.new("struct drm_syncobj_timeline_wait *", fields)
    data.handles, data.points = (address(ffi, array) for array in arrays)
    what = "DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT"
    call(fd, DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT, ffi.buffer(data), what)
    return int(data.first_signaled)


def syncobj_eventfd(fd: int, handle: int, point: int, event: int, flags: int) -> None:
    """Have an eventfd signalled once a point is."""
    fields = {"handle": handle, "point": point, "fd": event, "flags": flags}
    data = ffi.new("struct drm_syncobj_eventfd *", fields)
    name = "DRM_IOCTL_SYNCOBJ_EVENTFD"
    try:
        call(fd, DRM_IOCTL_SYNCOBJ_EVENTFD, ffi.buffer(data), name)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # DRM says this of an ioctl that it does not know; here the arguments are good.
        text = f"{name} needs Linux 6.6; this is Linux {os.uname().release}"
        raise UnsupportedError(errno.EINVAL, text) from None


def _array(handles: list[int]) -> tuple[Any, Any]:
    """Return what an argument points to, to be kept during the call, and the argument."""
    array = ffi.new("uint32_t[]", handles)
    fields = {"handles": address(ffi, array), "count_handles": len(handles)}
    return array, ffi.new("struct drm_syncobj_array *", fields)


def _points(handles: list[int], points: list[int]) -> tuple[Any, Any]:
    arrays = ffi.new("uint32_t[]", handles), ffi.new("uint64_t[]", points)
    data: Any = ffi.new("struct drm_syncobj_timeline_array *", {"count_handles": len(handles)})
    data.handles, data.points = (address(ffi, array) for array in arrays)
    return arrays, data
