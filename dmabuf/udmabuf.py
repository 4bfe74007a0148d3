"""udmabuf: memory of a memfd as a dma-buf, without a heap.

The kernel answers EINVAL to every mistake, so each one is explained before it is asked
(drivers/dma-buf/udmabuf.c). Needs Linux 4.20 with CONFIG_UDMABUF.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from dmabuf import _ioctl, _memory, _node
from dmabuf._fd import descriptor_number
from dmabuf.buffer import Buffer, checked_name
from dmabuf.errors import AllocationError, RefusedError, UnsupportedError

if TYPE_CHECKING:
    from dmabuf._fd import HasFileno

PATH = "/dev/udmabuf"
_PARAMETERS = "/sys/module/udmabuf/parameters"
_HUGEPAGES = "/sys/kernel/mm/hugepages"
_KIND = _node.Kind(
    what="udmabuf device",
    subsystem="misc",
    group="kvm",
    option="Linux 4.20 with CONFIG_UDMABUF",
    remedy="try modprobe udmabuf",
)
_FORBIDDEN_SEALS = {"F_SEAL_WRITE": 0x08, "F_SEAL_FUTURE_WRITE": 0x10}  # linux/fcntl.h


class Limits(NamedTuple):
    """What one udmabuf may have at the most."""

    size: int
    """Bytes in all: the module's size_limit_mb."""
    count: int  # type: ignore[assignment]
    """Pieces: the module's list_limit."""


def limits() -> Limits:
    """Return the limits of this machine; UnsupportedError if the kernel has no udmabuf."""
    try:
        return Limits(_parameter("size_limit_mb") << 20, _parameter("list_limit"))
    except FileNotFoundError:
        os.close(_node.open_node(PATH, os.O_RDWR, _KIND))  # loads the module, or says what is wrong
    return Limits(_parameter("size_limit_mb") << 20, _parameter("list_limit"))


def _parameter(name: str) -> int:
    with open(f"{_PARAMETERS}/{name}", encoding="ascii") as value:
        return int(value.read())


def allocate(size: int, *, name: str | None = None, hugepages: int | None = None) -> Buffer:
    """Allocate at least `size` bytes of zeroed memory, rounded up to whole pages.

    `hugepages` is the size of the huge page to take, such as 2 << 20 (Linux 6.12, and pages
    reserved in /sys/kernel/mm/hugepages). AllocationError if the memory is not there or over the
    limit. The memory is charged to the caller's cgroup as shared memory.
    """
    length = _memory.checked_size(size)
    if name is not None:
        checked_name(name)
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    if hugepages is None:
        length = _memory.rounded(length)
        _memory.require(length, "udmabuf")
    else:
        length = _memory.rounded(length, _checked_page(hugepages))
        _require_hugepages(length, hugepages)
        flags |= os.MFD_HUGETLB | (hugepages.bit_length() - 1) << os.MFD_HUGE_SHIFT
    _require_limits(length, 1)
    memfd = os.memfd_create(name or "dmabuf", flags)
    try:
        os.ftruncate(memfd, length)
        fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return _create([(memfd, 0, length)], name)
    except OSError as error:
        if hugepages is not None and error.errno == errno.EINVAL:
            text = "udmabufs of huge pages need Linux 6.12; leave hugepages out"
            raise UnsupportedError(errno.EINVAL, text) from None
        raise
    finally:
        os.close(memfd)


def from_memfd(memfd: int | HasFileno, offset: int = 0, size: int | None = None) -> Buffer:
    """Return a buffer of a part of a memfd, all after `offset` without a size; shared, no copy.

    The memfd stays the caller's, and must have F_SEAL_SHRINK, and neither F_SEAL_WRITE nor
    F_SEAL_FUTURE_WRITE; offset and size must be whole pages of it. RefusedError says which is not.
    """
    number = descriptor_number(memfd)
    if size is None:
        size = os.fstat(number).st_size - offset
    return from_memfds([(number, offset, size)])


def from_memfds(pieces: Sequence[tuple[int | HasFileno, int, int]]) -> Buffer:
    """Return one buffer of several pieces, (memfd, offset, size) each, in this order.

    Each memfd is as in `from_memfd`, and may come more than once.
    """
    items = [(descriptor_number(memfd), offset, size) for memfd, offset, size in pieces]
    if not items:
        raise RefusedError(errno.EINVAL, "a udmabuf needs at least one piece of a memfd")
    for item in items:
        _check_piece(*item)
    _require_limits(sum(size for _, _, size in items), len(items))
    return _create(items, None)


def _create(items: list[tuple[int, int, int]], name: str | None) -> Buffer:
    device = _node.open_node(PATH, os.O_RDWR, _KIND)
    try:
        if len(items) == 1:
            number = _ioctl.udmabuf_create(device, *items[0])
        else:
            number = _ioctl.udmabuf_create_list(device, items)
    finally:
        os.close(device)
    return Buffer._exported(number, name)


def _check_piece(memfd: int, offset: int, size: int) -> None:
    try:
        seals = fcntl.fcntl(memfd, fcntl.F_GET_SEALS)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        text = f"descriptor {memfd} is no memfd; make one with os.memfd_create"
        raise RefusedError(errno.EBADFD, text) from None
    if not seals & fcntl.F_SEAL_SHRINK:
        remedy = "fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)"
        _refuse(f"memfd {memfd} could shrink under the buffer; seal it: {remedy}")
    for seal, bit in _FORBIDDEN_SEALS.items():
        if seals & bit:
            _refuse(f"memfd {memfd} has {seal}, so that no device may write it; use one without")
    for what, number in (("offset", offset), ("size", size)):
        if number % _memory.PAGE:
            _refuse(f"{what} {number} is no multiple of the page, {_memory.PAGE} bytes")
    length = os.fstat(memfd).st_size
    if size <= 0 or offset < 0 or offset + size > length:
        _refuse(f"bytes {offset} to {offset + size} are no part of memfd {memfd}, 0 to {length}")


def _refuse(text: str) -> None:
    raise RefusedError(errno.EINVAL, text)


def _require_limits(size: int, count: int) -> None:
    limit = limits()
    for wanted, most, unit, parameter in (
        (size, limit.size, "bytes", "size_limit_mb"),
        (count, limit.count, "pieces", "list_limit"),
    ):
        if wanted > most:
            text = f"{wanted} {unit} wanted, one udmabuf may have {most}"
            text = f"{text}; raise {_PARAMETERS}/{parameter}"
            raise AllocationError(errno.EINVAL, text)


def _checked_page(hugepages: int) -> int:
    there = sorted(int(name.split("-")[1][:-2]) << 10 for name in os.listdir(_HUGEPAGES))
    if hugepages not in there:
        sizes = ", ".join(map(str, there))
        raise ValueError(f"hugepages must be one of this machine's sizes: {sizes or 'none'}")
    return hugepages


def _require_hugepages(size: int, page: int) -> None:
    folder = f"{_HUGEPAGES}/hugepages-{page >> 10}kB"
    with open(f"{folder}/free_hugepages", encoding="ascii") as value:
        free = int(value.read())
    wanted = size // page
    if wanted > free:
        text = f"{wanted} huge pages of {page} bytes wanted, {free} free"
        raise AllocationError(errno.ENOMEM, f"{text}; reserve more in {folder}/nr_hugepages")
