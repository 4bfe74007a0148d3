"""One function for each ioctl: descriptor in, plain values out.

The only file of the package that issues one. Request numbers are encoded as
include/uapi/asm-generic/ioctl.h does (x86, ARM, RISC-V, LoongArch, s390).
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Sequence
from fcntl import ioctl
from itertools import chain
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from dmabuf import _libc
from dmabuf._uapi import ffi
from dmabuf.errors import UnsupportedError, os_error

if TYPE_CHECKING:
    from _cffi_backend import FFI, buffer

WRITE, READ = 1, 2
_BOTH = READ | WRITE


def request(direction: int, kind: str, number: int, size: int) -> int:
    """Encode a request number: direction 1 (the kernel reads), 2 (it writes) or 3 (both)."""
    return direction << 30 | size << 16 | ord(kind) << 8 | number


STRUCTS: dict[int, tuple[FFI, str]] = {}
"""The struct that each request takes, and the layouts that it is one of: the logger reads them."""


def struct_request(layouts: FFI, kind: str, direction: int, number: int, struct: str) -> int:
    """Encode the request number of an ioctl that takes a struct of these layouts."""
    encoded = request(direction, kind, number, layouts.sizeof(f"struct {struct}"))
    STRUCTS[encoded] = layouts, struct
    return encoded


def address(layouts: FFI, array: Any) -> int:
    """Return where an array of cffi's is; whoever passes it to the kernel keeps the array."""
    return int(layouts.cast("uintptr_t", array))


def text(name: bytes | buffer) -> str:
    """Return what stands in a char array of the kernel's before its NUL."""
    return bytes(name).split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


DMA_HEAP_IOCTL_ALLOC = struct_request(ffi, "H", _BOTH, 0, "dma_heap_allocation_data")
DMA_BUF_IOCTL_SYNC = struct_request(ffi, "b", WRITE, 0, "dma_buf_sync")
DMA_BUF_SET_NAME_B = request(WRITE, "b", 1, 8)
DMA_BUF_IOCTL_EXPORT_SYNC_FILE = struct_request(ffi, "b", _BOTH, 2, "dma_buf_export_sync_file")
DMA_BUF_IOCTL_IMPORT_SYNC_FILE = struct_request(ffi, "b", WRITE, 3, "dma_buf_import_sync_file")
UDMABUF_CREATE = struct_request(ffi, "u", WRITE, 0x42, "udmabuf_create")
UDMABUF_CREATE_LIST = struct_request(ffi, "u", WRITE, 0x43, "udmabuf_create_list")
SYNC_IOC_MERGE = struct_request(ffi, ">", _BOTH, 3, "sync_merge_data")
SYNC_IOC_FILE_INFO = struct_request(ffi, ">", _BOTH, 4, "sync_file_info")
SYNC_IOC_SET_DEADLINE = struct_request(ffi, ">", WRITE, 5, "sync_set_deadline")
SW_SYNC_IOC_CREATE_FENCE = struct_request(ffi, "W", _BOTH, 0, "sw_sync_create_fence_data")
SW_SYNC_IOC_INC = request(WRITE, "W", 1, 4)

SYNC_READ, SYNC_WRITE, SYNC_RW = 1, 2, 3
SYNC_START, SYNC_END = 0, 4
UDMABUF_FLAGS_CLOEXEC = 1

# Kept arguments are for inputs alone: the kernel writes into none of these.
_sync_structs = [ffi.new("struct dma_buf_sync *", [flags]) for flags in range(8)]
_sync_arguments = [ffi.buffer(struct) for struct in _sync_structs]
_FIELDS = {"uint64_t": "Q", "uint32_t": "I", "int32_t": "i", "char[32]": "32s"}


def _layout(struct: str) -> Struct:
    """Return a generated layout for packing and unpacking, which is faster than cffi's fields."""
    fields = ffi.typeof(f"struct {struct}").fields
    return Struct("=" + "".join(_FIELDS[field.type.cname] for _, field in fields))


_heap_allocation = _layout("dma_heap_allocation_data")
_export = _layout("dma_buf_export_sync_file")
_import = _layout("dma_buf_import_sync_file")
_udmabuf = _layout("udmabuf_create")
_merge = _layout("sync_merge_data")
_deadline = _layout("sync_set_deadline")
_file_info = _layout("sync_file_info")
_fence_info = _layout("sync_fence_info")
_create_fence = _layout("sw_sync_create_fence_data")
_u32 = Struct("=I")
_unpack_u32 = _u32.unpack_from


def call(
    fd: int,
    number: int,
    argument: bytes | bytearray | buffer,
    what: str,
    *,
    since: str = "",
    nonblocking: bool = False,
) -> int | bytes:
    """Issue an ioctl, again on EINTR and EAGAIN, and say what was tried when it fails.

    A bytearray, or the `ffi.buffer` of a struct, takes what the kernel writes, and the result is
    the ioctl's; at most 1,024 bytes. ENOTTY becomes `UnsupportedError` where `since` names what has
    the ioctl. With `nonblocking` EAGAIN is the answer of a descriptor that does not block:
    BlockingIOError.
    """
    while True:
        try:
            return ioctl(fd, number, argument)
        except OSError as error:
            if nonblocking and error.errno == errno.EAGAIN:
                raise
            _require_again(error, fd, what, since)


def make(
    fd: int,
    number: int,
    argument: bytearray | buffer,
    what: str,
    made: list[int],
    *,
    at: int | None = None,
    since: str = "",
) -> None:
    """Issue an ioctl that makes a descriptor or a handle, and add the number of that to a list.

    The number is the 32-bit one that the kernel writes into the argument, at this byte; without
    one it is the ioctl's result. Otherwise as `call`.
    """
    while True:
        try:
            ioctl_into(fd, number, argument, made, at)
            return
        except OSError as error:
            _require_again(error, fd, what, since)


def ioctl_into(
    fd: int, number: int, argument: bytearray | buffer, made: list[int], at: int | None
) -> None:
    """Issue an ioctl once, and add what it makes to a list before a signal handler can run.

    From the system call to the list no code of Python's is run: a handler that raises can't lose
    it.
    """
    numbers: Iterable[Any] = map(fcntl.ioctl, (fd,), (number,), (argument,))
    if at is not None:  # the result is 0, and the number stands so many bytes from there
        numbers = chain.from_iterable(map(_unpack_u32, (argument,), map(at.__add__, numbers)))
    made.extend(numbers)


def dma_heap_alloc(fd: int, size: int, fd_flags: int, made: list[int]) -> None:
    """Allocate from a dma-heap, and add the dma-buf's descriptor to a list."""
    data = bytearray(_heap_allocation.pack(size, 0, fd_flags, 0))
    make(fd, DMA_HEAP_IOCTL_ALLOC, data, "DMA_HEAP_IOCTL_ALLOC", made, at=8)


def dma_buf_sync(fd: int, flags: int) -> None:
    """Begin (SYNC_START) or end (SYNC_END) an access of the processor.

    A signal handler that raises gets out, and leaves open whether the SYNC took effect.
    """
    while True:
        try:
            ioctl(fd, DMA_BUF_IOCTL_SYNC, _sync_arguments[flags])
            return
        except OSError as error:
            _require_again(error, fd, f"DMA_BUF_IOCTL_SYNC with flags {flags:#x}", "")


def dma_buf_set_name(fd: int, name: bytes) -> None:
    """Name a dma-buf; at most 31 bytes, an empty name unsets it."""
    call(fd, DMA_BUF_SET_NAME_B, name + b"\0", "DMA_BUF_SET_NAME")


def dma_buf_export_sync_file(fd: int, flags: int, made: list[int]) -> None:
    """Add to a list a sync_file of the fences that an access with these flags would wait for."""
    data = bytearray(_export.pack(flags, -1))
    what = "DMA_BUF_IOCTL_EXPORT_SYNC_FILE"
    make(fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, data, what, made, at=4, since="Linux 6.0")


def dma_buf_import_sync_file(fd: int, flags: int, sync_file: int) -> None:
    """Add a sync_file's fences to a dma-buf, as a reader's or a writer's."""
    data = _import.pack(flags, sync_file)
    what = "DMA_BUF_IOCTL_IMPORT_SYNC_FILE"
    call(fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, data, what, since="Linux 6.0")


def sync_merge(fd: int, name: bytes, other: int, made: list[int]) -> None:
    """Add to a list a sync_file that signals when two have; its name has at most 31 bytes."""
    data = bytearray(_merge.pack(name, other, -1, 0, 0))
    make(fd, SYNC_IOC_MERGE, data, "SYNC_IOC_MERGE", made, at=36)


class SyncFileInfo(NamedTuple):
    """What SYNC_IOC_FILE_INFO tells of a sync_file itself."""

    name: bytes
    status: int
    num_fences: int


def sync_file_info(fd: int) -> SyncFileInfo:
    """Return a sync_file's name, its status (0, 1 or -errno) and how many fences it has."""
    data = bytearray(_file_info.pack(b"", 0, 0, 0, 0, 0))
    call(fd, SYNC_IOC_FILE_INFO, data, "SYNC_IOC_FILE_INFO")
    name, status, _, num_fences, _, _ = _file_info.unpack(data)
    return SyncFileInfo(name, status, num_fences)


def sync_fences(fd: int) -> list[tuple[bytes, bytes, int, int, int]]:
    """Return (timeline, driver, status, flags, timestamp_ns) of each fence in a sync_file."""
    while True:
        room = sync_file_info(fd).num_fences
        fences = bytearray(room * _fence_info.size)
        pointer = address(ffi, ffi.from_buffer(fences)) if room else 0
        data = bytearray(_file_info.pack(b"", 0, 0, room, 0, pointer))
        try:
            call(fd, SYNC_IOC_FILE_INFO, data, "SYNC_IOC_FILE_INFO")
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            continue  # there are more of them by now
        found = min(_file_info.unpack(data)[3], room)
        return list(_fence_info.iter_unpack(fences[: found * _fence_info.size]))


def sync_set_deadline(fd: int, deadline_ns: int) -> None:
    """Tell the fences' drivers when the result is wanted (CLOCK_MONOTONIC)."""
    data = _deadline.pack(deadline_ns, 0)
    call(fd, SYNC_IOC_SET_DEADLINE, data, "SYNC_IOC_SET_DEADLINE", since="Linux 6.6")


def sw_sync_create_fence(fd: int, value: int, made: list[int]) -> None:
    """Add to a list a sync_file that signals when the software timeline reaches a value."""
    data = bytearray(_create_fence.pack(value, b"", -1))  # the kernel ignores the name
    make(fd, SW_SYNC_IOC_CREATE_FENCE, data, "SW_SYNC_IOC_CREATE_FENCE", made, at=36)


def sw_sync_inc(fd: int, count: int) -> None:
    """Move the software timeline on."""
    call(fd, SW_SYNC_IOC_INC, _u32.pack(count), "SW_SYNC_IOC_INC")


def udmabuf_create(fd: int, memfd: int, offset: int, size: int, made: list[int]) -> None:
    """Make a dma-buf of a part of a memfd, and add its descriptor to a list."""
    data = bytearray(_udmabuf.pack(memfd, UDMABUF_FLAGS_CLOEXEC, offset, size))
    make(fd, UDMABUF_CREATE, data, "UDMABUF_CREATE", made)


def udmabuf_create_list(fd: int, items: Sequence[tuple[int, int, int]], made: list[int]) -> None:
    """Make a dma-buf of (memfd, offset, size) each, and add its descriptor to a list."""
    entries = [(memfd, 0, offset, size) for memfd, offset, size in items]
    header = (UDMABUF_FLAGS_CLOEXEC, len(entries), entries)
    data = ffi.new("struct udmabuf_create_list *", header)
    while True:
        try:
            _libc.ioctl(fd, UDMABUF_CREATE_LIST, data, made)
            return
        except OSError as error:
            _require_again(error, fd, "UDMABUF_CREATE_LIST", "")


def _require_again(error: OSError, fd: int, what: str, since: str) -> None:
    """Return if an ioctl that raised is to be issued again; raise what it failed with, if not."""
    number = error.errno
    if number is None:
        raise error  # a signal handler's, such as TimeoutError: the kernel's have one
    if number in (errno.EINTR, errno.EAGAIN):
        return
    if number == errno.ENOTTY and since:
        text = f"{what} needs {since}; this is Linux {os.uname().release}"
        raise UnsupportedError(number, text) from None
    raise os_error(number, f"{what} on descriptor {fd}") from None
