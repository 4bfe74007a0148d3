"""The libc calls that Python's standard library lacks, one typed function each."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from collections.abc import Callable
from itertools import starmap
from struct import Struct
from typing import Any

from dmabuf._uapi import ffi
from dmabuf.errors import os_error

_libc: Any = ffi.dlopen(None)
_PIDFD_GETFD = 438  # include/uapi/asm-generic/unistd.h, and the same on x86
_MAP_FAILED = -1
_MAP_FIXED = 0x10
_MAP_FIXED_NOREPLACE = 0x100000
_MAP_NORESERVE = 0x4000
_NO_ACCESS = 0
_READ, _READ_WRITE = mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE
_OVER = mmap.MAP_SHARED | _MAP_FIXED
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE

DMA_BUF_MAGIC = 0x444D4142  # include/uapi/linux/magic.h
KCMP_VM, KCMP_FILES = 1, 2  # include/uapi/linux/kcmp.h
_WIDE = sys.maxsize > 1 << 32
# The kernel's syscall tables, by processor and whether Python's words have 64 bits.
_KCMP = {
    ("x86_64", True): 312,
    ("x86_64", False): 349,
    ("i686", False): 349,
    ("aarch64", True): 272,
    ("aarch64", False): 378,
    ("armv8l", False): 378,
    ("armv7l", False): 378,
    ("armv6l", False): 378,
    ("riscv64", True): 272,
    ("loongarch64", True): 272,
    ("ppc64le", True): 354,
    ("s390x", True): 343,
}.get((os.uname().machine, _WIDE))
# The first field of struct statfs; the kernel's magics have 32 bits without a sign.
_MAGIC = Struct("I" if os.uname().machine.startswith("s390") else "L")
# glibc's fstatfs for 32 bits fails on large file systems; other libraries have one for all.
_fstatfs = getattr(_libc, "fstatfs64", None) or _libc.fstatfs
_CLOCK_MONOTONIC = 1  # include/uapi/linux/time.h
_TIMER_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK

_never_unmapped: list[mmap.mmap] = []


def filesystem_magic(fd: int) -> int:
    """Return fstatfs(2)'s f_type: which kind of file system a descriptor belongs to."""
    result: Any = ffi.new("struct statfs *")
    if _fstatfs(fd, result) < 0:
        raise os_error(ffi.errno, f"fstatfs of descriptor {fd}")
    return int(_MAGIC.unpack_from(ffi.buffer(result))[0])


def ioctl(fd: int, request: int, argument: object, made: list[int]) -> None:
    """Issue an ioctl whose argument exceeds 1,024 bytes; `fcntl.ioctl` keeps the GIL for those.

    Its result, a descriptor, is added to a list.
    """
    _keep(made, _libc.ioctl, fd, request, argument)


def kcmp(first: int, second: int, kind: int) -> int:
    """Compare what two tasks have: 0 if it is one and the same, else 1 or 2 by the kernel's order.

    OSError: ESRCH for a task that has ended, EPERM for somebody else's or where a container forbids
    the call, ENOSYS for a kernel without CONFIG_KCMP. See kcmp(2).
    """
    if _KCMP is None:
        raise os_error(errno.ENOSYS, f"kcmp on {os.uname().machine}")
    result = int(_libc.syscall(_KCMP, first, second, kind, 0, 0))
    if result < 0:
        raise os_error(ffi.errno, f"kcmp of tasks {first} and {second}")
    return result


def pidfd_getfd(pidfd: int, fd: int, made: list[int]) -> None:
    """Add a duplicate of another process's descriptor to a list."""
    _keep(made, _libc.syscall, _PIDFD_GETFD, pidfd, fd, 0, 0, 0)


def _keep(made: list[int], call: Callable[..., int], *arguments: object) -> None:
    """Add to a list what a function of libc returns, as `keep` does; OSError for -1."""
    before = len(made)
    made.extend(filter((-1).__ne__, starmap(call, (arguments,))))
    if len(made) == before:
        number = ffi.errno
        raise OSError(number, os.strerror(number))


def timerfd_create(made: list[int]) -> None:
    """Add the descriptor of a timer, of the clock of `time.monotonic()`; reads never block.

    Python's own `os.timerfd_create` is of 3.13.
    """
    try:
        _keep(made, _libc.timerfd_create, _CLOCK_MONOTONIC, _TIMER_FLAGS)
    except OSError as error:
        raise os_error(error.errno or errno.EIO, "timerfd_create") from None


def timerfd_set(fd: int, seconds: float) -> None:
    """Make a timer's descriptor readable in so many seconds, once; 0 stops it."""
    whole, part = divmod(int(seconds * 1_000_000_000), 1_000_000_000)
    if _libc.timerfd_settime(fd, 0, ffi.new("struct itimerspec *", (0, 0, whole, part)), ffi.NULL):
        raise os_error(ffi.errno, f"timerfd_settime of descriptor {fd}")


def map_shared(fd: int, size: int, *, writable: bool) -> Any:
    """Map a descriptor's first `size` bytes, shared, without keeping a duplicate of it.

    Before Python 3.13 `mmap.mmap` duplicates the descriptor that it is given, so it is given none:
    it makes room, without access and so without memory, which is replaced, in place, by the
    descriptor's mapping. What holds a view of the result keeps it mapped; nobody may call the
    `close()` that some results have.
    """
    if size > sys.maxsize:
        raise os_error(errno.ENOMEM, f"mmap of {size} bytes of descriptor {fd}")
    protection = _READ_WRITE if writable else _READ
    if sys.version_info >= (3, 13):
        return mmap.mmap(fd, size, mmap.MAP_SHARED, protection, trackfd=False)
    room = mmap.mmap(-1, size, _PRIVATE, _NO_ACCESS)
    view = ffi.from_buffer(room)
    if _libc.mmap(view, size, protection, _OVER, fd, 0) == _MAP_FAILED:
        number = ffi.errno
        _refill(room, view, size)
        raise os_error(number, f"mmap of {size} bytes of descriptor {fd}")
    return ffi.buffer(view) if writable else room  # which exports what can't be written


def _refill(room: mmap.mmap, view: object, size: int) -> None:
    """Make room safe to drop after its replacement failed.

    Kernels before 6.13 unmap the old range before they ask the exporter, and another thread may map
    something into the hole; dropping the object would unmap that. If the range can't be had back
    whole, the object is kept for good: address space, no memory.
    """
    flags = _PRIVATE | _MAP_FIXED_NOREPLACE
    if _libc.mmap(view, size, _NO_ACCESS, flags, -1, 0) == _MAP_FAILED:
        _never_unmapped.append(room)
