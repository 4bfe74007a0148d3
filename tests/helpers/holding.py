"""What a scan says of one buffer, held against the kernel's own count."""

from __future__ import annotations

from pathlib import Path

import dmabuf
from dmabuf import usage
from dmabuf._ioctl import dma_buf_set_name
from helpers.fences import CLONE

CLONE_FILES = 0x400  # include/uapi/linux/sched.h

SHARE_TABLE = f"""
import ctypes
libc = ctypes.CDLL(None)
result = libc.syscall({CLONE}, {CLONE_FILES} | 17, 0, 0, 0, 0)
if not result:
    libc.pause()
"""
"""Has a `Peer` make a child that shares its table of descriptors, and is its result."""


def of(buffer: dmabuf.Buffer, scan: usage.Usage | None = None) -> usage.BufferUsage:
    """Return what a scan says of a buffer."""
    (found,) = [one for one in (scan or usage.scan()).buffers if one.inode == buffer.inode]
    return found


def _kernel_count(buffer: dmabuf.Buffer) -> int:
    lines = Path(f"/proc/self/fdinfo/{buffer.fileno()}").read_bytes().split(b"\n")
    return next(int(line.split()[1]) for line in lines if line.startswith(b"count:"))


def rename(buffer: dmabuf.Buffer, name: bytes) -> None:
    """Name a buffer what the package refuses, as a hostile holder does."""
    dma_buf_set_name(buffer.fileno(), name)


def explained(buffer: dmabuf.Buffer) -> usage.BufferUsage:
    """Assert that every reference that the kernel counts was seen, and return the record."""
    found = of(buffer)
    seen = sum(len(holder.descriptors) + holder.pieces for holder in found.holders)
    assert (seen, found.unexplained) == (_kernel_count(buffer), 0), found
    assert found.count == seen
    return found


def held(buffer: dmabuf.Buffer, pid: int) -> tuple[int, int]:
    """Return how many descriptors and pieces a process is seen to hold."""
    for holder in of(buffer).holders:
        if holder.pid == pid:
            return len(holder.descriptors), holder.pieces
    return 0, 0
