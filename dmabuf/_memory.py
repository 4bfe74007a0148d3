"""How much memory the machine has, asked before the kernel is asked for too much of it.

A dma-heap has no limit of its own: a request beyond the machine's memory makes the OOM killer kill
other processes before it fails. Requests that any machine can serve are let through unchecked,
since reading /proc/meminfo takes longer than a small allocation.
"""

from __future__ import annotations

import errno
import mmap
import operator
import os
from typing import SupportsIndex

from dmabuf.errors import AllocationError

PAGE = mmap.PAGESIZE
_UNCHECKED = os.sysconf("SC_PHYS_PAGES") * PAGE // 16
_MAX = 2**63 - PAGE


def meminfo() -> dict[str, int]:
    """Return /proc/meminfo in bytes: MemTotal, MemAvailable, CmaTotal, CmaFree and so on."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        fields = [line.split() for line in lines]
    return {
        field[0].rstrip(":"): int(field[1]) * (1024 if field[-1] == "kB" else 1) for field in fields
    }


def checked_size(size: SupportsIndex) -> int:
    """Return a size as an int; TypeError if it is none, ValueError if no memory has it."""
    try:
        number = operator.index(size)
    except TypeError:
        raise TypeError(f"size must be a number of bytes, not {type(size).__name__}") from None
    if number <= 0:
        raise ValueError(f"size must be at least 1 byte, not {number}")
    return number


def rounded(size: int, page: int = PAGE) -> int:
    """Round a size up to whole pages, as the kernel does."""
    return -(-size // page) * page


def require(size: int, what: str, *, cma: bool = False) -> None:
    """Raise AllocationError (ENOMEM) if the machine can't have this many bytes."""
    if size > _UNCHECKED:
        available = shortage(size, cma=cma)
        if available:
            raise AllocationError(errno.ENOMEM, f"{os.strerror(errno.ENOMEM)}: {what}: {available}")


def shortage(size: int, *, cma: bool = False) -> str:
    """Say how much memory is wanted and how much is there, or nothing if there is enough."""
    field = "CmaFree" if cma else "MemAvailable"
    available = meminfo().get(field, 0)
    if size <= available:
        return ""
    remedy = "boot with a larger cma=" if cma else "free memory or ask for less"
    return f"{size} bytes wanted, {available} available ({field} in /proc/meminfo); {remedy}"
