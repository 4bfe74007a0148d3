"""udmabuf: the memory of a memfd as a dma-buf, without a heap.

The kernel answers every mistake with EINVAL, so this module checks first and gives the reason.
Needs Linux 4.20 with CONFIG_UDMABUF. Follows drivers/dma-buf/udmabuf.c.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, SupportsIndex

from dmabuf import _ioctl, _libc, _memory, _node
from dmabuf._fd import Descriptor
from dmabuf._keep import keep
from dmabuf._owning import descriptor_number, own_descriptor
from dmabuf._record import record
from dmabuf.buffer import Buffer, checked_name, own_buffer
from dmabuf.errors import AllocationError, RefusedError, UnsupportedError, os_error

if TYPE_CHECKING:
    from dmabuf._owning import HasFileno

PATH = "/dev/udmabuf"
_PARAMETERS = "/sys/module/udmabuf/parameters"
_HUGEPAGES = "/sys/kernel/mm/hugepages"
KIND = _node.Kind(
    what="udmabuf device",
    subsystem="misc",
    group="kvm",
    since="Linux 4.20",
    options=("CONFIG_UDMABUF",),
    module="udmabuf",
)
_UNLIMITED = 2**31 - 1  # MiB: the INT_MAX that drivers/dma-buf/udmabuf.c starts with
_HUGETLBFS_MAGIC = 0x958458F6  # linux/magic.h
_FORBIDDEN_SEALS = {"F_SEAL_WRITE": 0x08, "F_SEAL_FUTURE_WRITE": 0x10}  # linux/fcntl.h


@record
class Limits(NamedTuple):
    """The limits that the kernel sets for one udmabuf.

        size, count = dmabuf.udmabuf.limits()

    They are parameters of the module. Root may raise them in /sys/module/udmabuf/parameters.
    """

    size: int | None
    """The largest size of one udmabuf in bytes (size_limit_mb); None if there is no limit, as on
    Linux 7.3."""
    count: int  # type: ignore[assignment]
    """The largest number of pieces of one udmabuf (list_limit)."""


def limits() -> Limits:
    """Return the limits of this machine. UnsupportedError if the kernel has no udmabuf.

    OSError (ENOENT) if /sys/module is hidden, as in some containers. Allocation works there all the
    same.
    """
    found = _limits()
    if found is None:
        what = f"{_PARAMETERS} is hidden from this process; mount sysfs on /sys to see it"
        raise os_error(errno.ENOENT, what)
    return found


def _limits() -> Limits | None:
    """Return the limits; None where they are hidden."""
    try:
        return _parameters()
    except OSError:
        _open().close()  # loads the module, or says what is wrong
    try:
        return _parameters()
    except OSError:
        return None


def _parameters() -> Limits:
    megabytes = _parameter("size_limit_mb")
    return Limits(None if megabytes == _UNLIMITED else megabytes << 20, _parameter("list_limit"))


def _open() -> Descriptor:
    return own_descriptor(partial(_node.open_node, PATH, os.O_RDWR, KIND))


def _parameter(name: str) -> int:
    with open(f"{_PARAMETERS}/{name}", encoding="ascii") as value:
        return int(value.read())


def allocate(
    size: SupportsIndex, *, name: str | None = None, hugepages: SupportsIndex | None = None
) -> Buffer:
    """Allocate `size` bytes of zeroed memory, rounded up to whole pages.

    `hugepages` is the size in bytes of the huge pages to use, such as 2 << 20. They need Linux
    6.12, and pages reserved in /sys/kernel/mm/hugepages. AllocationError if there is not enough
    memory, or `size` exceeds the limit. The kernel charges the memory to the caller's cgroup as
    shared memory.
    """
    length = _memory.checked_size(size)
    label = checked_name(name) if name is not None else b""
    page = _memory.PAGE if hugepages is None else _checked_page(hugepages)
    length = _memory.rounded(length, page)
    _require_limits(length, 1)
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    if hugepages is not None:
        flags |= os.MFD_HUGETLB | (page.bit_length() - 1) << os.MFD_HUGE_SHIFT
    elif _memory.must_check(length):
        _memory.require(length, "udmabuf")
    with own_descriptor(partial(_memfd, label or b"dmabuf", flags)) as memfd:
        number = memfd.fileno()
        try:
            os.ftruncate(number, length)
            fcntl.fcntl(number, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
            return _create([(number, 0, length)], name)
        except OSError as error:
            if hugepages is not None and error.errno == errno.EINVAL:
                text = "udmabufs of huge pages need Linux 6.12; leave hugepages out"
                raise UnsupportedError(errno.EINVAL, text) from None
            raise


def _memfd(name: bytes, flags: int, made: list[int]) -> None:
    try:
        keep(made, os.memfd_create, name, flags)
    except OSError as error:
        raise os_error(error.errno or errno.EIO, "memfd_create for a udmabuf") from None


def from_memfd(
    memfd: int | HasFileno, offset: SupportsIndex = 0, size: SupportsIndex | None = None
) -> Buffer:
    """Return a buffer on a part of a memfd: the same memory, no copy.

    `offset` and `size` are in bytes and multiples of the page size. Without `size` the part extends
    to the end. The memfd must have the seal F_SEAL_SHRINK, and neither F_SEAL_WRITE nor
    F_SEAL_FUTURE_WRITE. It still belongs to the caller, and may be closed. RefusedError (EINVAL)
    says which of these is wrong. AllocationError if its holes can't be filled, or it exceeds the
    limits.
    """
    number = descriptor_number(memfd)
    start = _memory.checked_bytes(offset, "offset")
    if size is None:
        _check_memfd(number)
        size = os.fstat(number).st_size - start
    return from_memfds([(number, start, size)])


def from_memfds(
    pieces: Iterable[tuple[int | HasFileno, SupportsIndex, SupportsIndex]],
) -> Buffer:
    """Return one buffer that joins several pieces, each (memfd, offset, size), in this order.

    Each piece is as in `from_memfd`, with the same errors. The same memfd may occur more than once.
    """
    checked = _memory.checked_bytes
    given = list(pieces)
    for piece in given:
        if not isinstance(piece, (tuple, list)) or len(piece) != 3:
            raise TypeError(f"pieces are [(memfd, offset, size), …], and {piece!r} is not one")
    items = [
        (descriptor_number(memfd), checked(offset, "offset"), checked(size, "size"))
        for memfd, offset, size in given
    ]
    if not items:
        raise RefusedError(errno.EINVAL, "a udmabuf needs at least one piece of a memfd")
    for item in items:
        _check_memfd(item[0])
        _check_piece(*item)
    total = sum(size for _, _, size in items)
    _require_limits(total, len(items))
    if _memory.must_check(total):
        _memory.require(_missing(items), "udmabuf")
    return _create(items, None)


def _create(items: list[tuple[int, int, int]], name: str | None) -> Buffer:
    with _open() as device:
        if len(items) == 1:
            make = partial(_ioctl.udmabuf_create, device.fileno(), *items[0])
        else:
            make = partial(_ioctl.udmabuf_create_list, device.fileno(), items)
        try:
            return own_buffer(make, name)
        except OSError as error:
            if error.errno in (errno.ENOMEM, errno.ENOSPC):
                raise _no_memory(error, items) from None
            if error.errno == errno.EINVAL and _limits() is None:
                total = sum(size for _, _, size in items)
                text = (
                    f"{total} bytes in {len(items)} pieces refused, perhaps by the limits (64 MiB"
                    f" in all before Linux 7.3); {_PARAMETERS} is hidden from this process"
                )
                raise AllocationError(errno.EINVAL, text) from None
            raise


def _check_memfd(memfd: int) -> None:
    create = "os.memfd_create(name, os.MFD_ALLOW_SEALING)"
    try:
        seals = fcntl.fcntl(memfd, fcntl.F_GET_SEALS)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise os_error(error.errno or errno.EIO, f"memfd {memfd}") from None
        text = f"descriptor {memfd} is not a memfd; make one with {create}"
        raise RefusedError(errno.EBADFD, text) from None
    if not seals & fcntl.F_SEAL_SHRINK:
        remedy = "seal it: fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)"
        if seals & fcntl.F_SEAL_SEAL:
            remedy = f"it does not allow seals; make one with {create}"
        _refuse(f"memfd {memfd} could shrink under the buffer; {remedy}")
    for seal, bit in _FORBIDDEN_SEALS.items():
        if seals & bit:
            _refuse(f"memfd {memfd} has {seal}, so that no device may write it; use one without")


def _check_piece(memfd: int, offset: int, size: int) -> None:
    for what, number in (("offset", offset), ("size", size)):
        if number % _memory.PAGE:
            _refuse(f"{what} {number} is not a multiple of the page size, {_memory.PAGE} bytes")
    length = os.fstat(memfd).st_size
    if size <= 0 or offset < 0 or offset + size > length:
        _refuse(f"{size} bytes at offset {offset} lie outside of memfd {memfd} of {length} bytes")


def _refuse(text: str) -> None:
    raise RefusedError(errno.EINVAL, text)


def _require_limits(size: int, count: int) -> None:
    limit = _limits()
    if limit is None:
        return  # the kernel will tell
    for wanted, most, unit, parameter in (
        (size, limit.size, "bytes", "size_limit_mb"),
        (count, limit.count, "pieces", "list_limit"),
    ):
        if most is not None and wanted > most:
            text = f"{wanted} {unit} wanted, one udmabuf may have {most}"
            text = f"{text}; raise {_PARAMETERS}/{parameter}"
            raise AllocationError(errno.EINVAL, text)


def _missing(items: list[tuple[int, int, int]]) -> int:
    """Return how many bytes the kernel must allocate at the least, to fill the memfds' holes."""
    files: dict[tuple[int, int], tuple[int, os.stat_result]] = {}
    for memfd, _, size in items:
        if not _is_hugetlb(memfd):  # those pages are no part of the machine's free memory
            status = os.fstat(memfd)
            identity = status.st_dev, status.st_ino
            before = files[identity][0] if identity in files else 0
            files[identity] = before + size, status
    return sum(
        max(0, min(wanted, status.st_size) - status.st_blocks * 512)
        for wanted, status in files.values()
    )


def _is_hugetlb(memfd: int) -> bool:
    return _libc.filesystem_magic(memfd) == _HUGETLBFS_MAGIC


def _checked_page(hugepages: SupportsIndex) -> int:
    page = _memory.checked_bytes(hugepages, "hugepages")
    there = []
    if os.path.isdir(_HUGEPAGES):
        there = sorted(int(name.split("-")[1][:-2]) << 10 for name in os.listdir(_HUGEPAGES))
    if page not in there:
        sizes = ", ".join(map(str, there))
        raise ValueError(f"hugepages must be one of this machine's sizes: {sizes or 'none'}")
    return page


def _no_memory(error: OSError, items: list[tuple[int, int, int]]) -> AllocationError:
    """Say what is wanted and what is there, after the kernel refused."""
    total = sum(size for _, _, size in items)
    huge = next((item for item in items if _is_hugetlb(item[0])), None)
    if huge is not None:
        reason = _no_hugepages(*huge)
    else:
        commit = "see CommitLimit and Committed_AS in /proc/meminfo"
        reason = _memory.shortage(total) or f"{total} bytes wanted; {commit}"
    return AllocationError(error.errno or errno.ENOMEM, f"{error.strerror}; {reason}")


def _no_hugepages(memfd: int, offset: int, size: int) -> str:
    status = os.fstat(memfd)
    page = status.st_blksize
    folder = f"{_HUGEPAGES}/hugepages-{page >> 10}kB"
    with open(f"{folder}/free_hugepages", encoding="ascii") as value:
        free = int(value.read()) + status.st_blocks * 512 // page  # the memfd keeps what it got
    wanted = -(-(offset % page + size) // page)
    if wanted <= free and _memory.meminfo().get("CmaTotal"):
        # mm/hugetlb.c gives a page that must stay movable to nobody who pins it.
        return (
            f"{wanted} huge pages of {page} bytes wanted, {free} free, but in memory kept for CMA;"
            " reserve them at boot, with hugepages="
        )
    return (
        f"{wanted} huge pages of {page} bytes wanted, {free} free; reserve more in"
        f" {folder}/nr_hugepages"
    )
