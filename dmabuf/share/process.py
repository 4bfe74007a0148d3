"""Buffers and fences of another process, and the comparison of two memories."""

from __future__ import annotations

import errno
import os
from functools import partial

from dmabuf import _libc
from dmabuf._checked import whole
from dmabuf._owning import descriptor_number, own_descriptor, own_result
from dmabuf._procfs import open_file
from dmabuf._tracing import how_to_take
from dmabuf.buffer import Buffer
from dmabuf.errors import NotADmaBufError, NotASyncFileError, UnsupportedError, os_error
from dmabuf.fence import Fence
from dmabuf.image import Image


def from_process(pid: int, fd: int) -> Buffer | Fence:
    """Return a duplicate of another process's buffer or fence, given its descriptor there.

    `pid` and `fd` are the numbers of the process and of its descriptor. That process does not have
    to do anything, and does not notice. PermissionError (EPERM) unless this process may trace it:
    same user and /proc/sys/kernel/yama/ptrace_scope 0, or CAP_SYS_PTRACE. Otherwise use `send` and
    `receive`. ProcessLookupError if there is no such process, OSError (EBADF) if it has no such
    descriptor, ValueError if that is neither a dma-buf nor a sync_file. Needs Linux 5.6:
    UnsupportedError. Follows pidfd_getfd(2).
    """
    fd = descriptor_number(fd)
    pid = whole(pid, "pid")
    if not 0 < pid < 1 << 31:
        raise ValueError(f"a process id must be from 1 to {(1 << 31) - 1}, not {pid}")
    source = f"descriptor {fd} of process {pid}"
    try:
        with own_result(os.pidfd_open, pid) as process:
            taken = own_descriptor(partial(_libc.pidfd_getfd, process.fileno(), fd))
    except OSError as error:
        raise _explained(error, source) from None
    with taken:
        try:
            return Buffer.from_fd(taken)
        except NotADmaBufError:
            pass
        try:
            return Fence.from_fd(taken)
        except NotASyncFileError:
            found = open_file(taken.fileno())
            raise ValueError(f"{source} is neither a dma-buf nor a sync_file: {found}") from None


def _explained(error: OSError, source: str) -> OSError:
    if error.errno == errno.ENOSYS:
        return UnsupportedError(errno.ENOSYS, f"taking {source} needs Linux 5.6 (pidfd_getfd)")
    if error.errno == errno.EPERM:
        return os_error(
            errno.EPERM,
            f"{source}: this process may not trace that one; {how_to_take()}. Or have that process"
            " send it over a socket: dmabuf.share.send",
        )
    return os_error(error.errno or 0, source)


def same(a: Buffer | Image, b: Buffer | Image) -> bool:
    """Return True if two buffers or images use the same memory. Works when closed.

    Two images use the same memory if they have the same buffers, whatever their layout. TypeError
    for fences, because the kernel gives a fence no identity.
    """
    return _memory(a) == _memory(b)


def _memory(item: Buffer | Image) -> frozenset[Buffer]:
    if isinstance(item, Image):
        return frozenset(item.buffers)
    if isinstance(item, Buffer):
        return frozenset((item,))
    raise TypeError(f"only buffers and images can be compared, not {type(item).__name__}")
