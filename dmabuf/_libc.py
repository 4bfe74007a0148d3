"""The libc calls that Python's standard library lacks, one typed function each."""

from __future__ import annotations

import mmap
import os
import sys
from typing import Any

from dmabuf._uapi import ffi
from dmabuf.errors import os_error

_libc: Any = ffi.dlopen(None)
_MAP_FAILED = -1
_MAP_FIXED = 0x10
_MAP_FIXED_NOREPLACE = 0x100000
_MAP_NORESERVE = 0x4000
_READ, _READ_WRITE = mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE
_OVER = mmap.MAP_SHARED | _MAP_FIXED
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE

_CLOCK_MONOTONIC = 1  # include/uapi/linux/time.h
_TIMER_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK

_never_unmapped: list[mmap.mmap] = []


def filesystem_magic(fd: int) -> int:
    """Return fstatfs(2)'s f_type: which kind of file system a descriptor belongs to."""
    result: Any = ffi.new("struct statfs *")
    if _libc.fstatfs(fd, result) < 0:
        raise os_error(ffi.errno, f"fstatfs of descriptor {fd}")
    return int(result.f_type)


def ioctl(fd: int, request: int, argument: object) -> int:
    """Issue an ioctl whose argument exceeds 1,024 bytes; `fcntl.ioctl` keeps the GIL for those."""
    result = int(_libc.ioctl(fd, request, argument))
    if result < 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno))
    return result


def timerfd_create() -> int:
    """Return the descriptor of a timer, of the clock of `time.monotonic()`; reads never block.

    Python's own `os.timerfd_create` is of 3.13.
    """
    number = int(_libc.timerfd_create(_CLOCK_MONOTONIC, _TIMER_FLAGS))
    if number < 0:
        raise os_error(ffi.errno, "timerfd_create")
    return number


def timerfd_set(fd: int, seconds: float) -> None:
    """Make a timer's descriptor readable in so many seconds, once; 0 stops it."""
    whole, part = divmod(int(seconds * 1_000_000_000), 1_000_000_000)
    if _libc.timerfd_settime(fd, 0, ffi.new("struct itimerspec *", (0, 0, whole, part)), ffi.NULL):
        raise os_error(ffi.errno, f"timerfd_settime of descriptor {fd}")


def map_shared(fd: int, size: int, *, writable: bool) -> mmap.mmap:
    """Map a descriptor's first `size` bytes, shared, without keeping a duplicate of it.

    Before Python 3.13 `mmap.mmap` duplicates the descriptor that it is given, so it is given none:
    its anonymous mapping is replaced, in place, by the descriptor's. What holds a view of the
    result keeps it mapped; nobody may call its `close()`.
    """
    protection = _READ_WRITE if writable else _READ
    if sys.version_info >= (3, 13):
        return mmap.mmap(fd, size, mmap.MAP_SHARED, protection, trackfd=False)
    mapping = mmap.mmap(-1, size, _PRIVATE, protection)
    view = ffi.from_buffer(mapping)
    if _libc.mmap(view, size, protection, _OVER, fd, 0) == _MAP_FAILED:
        number = ffi.errno
        _refill(mapping, view, size, protection)
        raise os_error(number, f"mmap of {size} bytes of descriptor {fd}")
    return mapping


def _refill(mapping: mmap.mmap, view: object, size: int, protection: int) -> None:
    """Make a mapping safe to drop after its replacement failed.

    Kernels before 6.13 unmap the old range before they ask the exporter, and another thread may map
    something into the hole; dropping the object would unmap that. If the range can't be had back
    whole, the object is kept for good: address space, no memory.
    """
    flags = _PRIVATE | _MAP_FIXED_NOREPLACE
    if _libc.mmap(view, size, protection, flags, -1, 0) == _MAP_FAILED:
        _never_unmapped.append(mapping)
