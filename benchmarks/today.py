"""What people write today without a package: request numbers by hand, fcntl, ctypes and mmap."""

import ctypes
import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

DMA_HEAP_IOCTL_ALLOC = 0xC0184800
DMA_BUF_IOCTL_SYNC = 0x40086200

START_WRITE = struct.pack("Q", 2)
END_WRITE = struct.pack("Q", 2 | 4)
_START = bytearray(START_WRITE)
_END = bytearray(END_WRITE)


class DmaBufSync(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64),)


def bare_scope(fd: int) -> None:
    """Two ioctls with arguments made once: the least that Python can do."""
    fcntl.ioctl(fd, DMA_BUF_IOCTL_SYNC, _START)
    fcntl.ioctl(fd, DMA_BUF_IOCTL_SYNC, _END)


@contextmanager
def ctypes_scope(fd: int) -> Iterator[None]:
    """The context manager that circulates: a ctypes struct for each ioctl."""
    fcntl.ioctl(fd, DMA_BUF_IOCTL_SYNC, DmaBufSync(2))
    try:
        yield
    finally:
        fcntl.ioctl(fd, DMA_BUF_IOCTL_SYNC, DmaBufSync(2 | 4))


def allocate(heap: int, size: int) -> int:
    """Allocate, the usual way with struct."""
    data = bytearray(struct.pack("QIIQ", size, 0, os.O_RDWR | os.O_CLOEXEC, 0))
    fcntl.ioctl(heap, DMA_HEAP_IOCTL_ALLOC, data)
    return struct.unpack("QIIQ", data)[1]


def allocate_map_close(heap: int, size: int) -> None:
    """Allocate, map and give back."""
    fd = allocate(heap, size)
    memory = mmap.mmap(fd, size)
    memory.close()
    os.close(fd)


def duplicate_close(fd: int) -> None:
    """Duplicate a descriptor, ask its size and close it."""
    other = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
    os.lseek(other, 0, os.SEEK_END)
    os.close(other)
