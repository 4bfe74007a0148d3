"""How much memory the machine has, asked before the kernel is asked for too much of it.

A dma-heap has no limit of its own: a request beyond the machine's memory makes the OOM killer kill
other processes before it fails, and so do many small ones. Reading /proc/meminfo takes longer than
a small allocation, so it is read once a sixteenth of what it said has been asked for. It is a look,
and no reservation: what two processes ask for at once may together be too much.
"""

from __future__ import annotations

import errno
import mmap
import operator
import os
import sys
from typing import SupportsIndex

from dmabuf.errors import AllocationError

PAGE = mmap.PAGESIZE
_KEPT = 64  # one part of so many is left to the system
_LARGEST_FILE = 2**63 - PAGE

_unchecked = 0  # what may be asked for before /proc/meminfo is read again


def meminfo() -> dict[str, int]:
    """Return /proc/meminfo in bytes: MemTotal, MemAvailable, CmaTotal, CmaFree and so on.

    Nothing where it is hidden (`subset=pid`, chroot).
    """
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            fields = [line.split() for line in lines]
    except OSError:
        return {}
    return {
        field[0].rstrip(":"): int(field[1]) * (1024 if field[-1] == "kB" else 1) for field in fields
    }


def checked_bytes(number: SupportsIndex, what: str) -> int:
    """Return a number of bytes as an int; TypeError, with what it is, if it is none."""
    if not isinstance(number, bool):
        try:
            return operator.index(number)
        except TypeError:
            pass
    raise TypeError(f"{what} must be a number of bytes, not {type(number).__name__}")


def checked_size(size: SupportsIndex) -> int:
    """Return a size as an int; TypeError if it is none, ValueError if no memory has it."""
    number = size if type(size) is int else checked_bytes(size, "size")
    if number <= 0:
        raise ValueError(f"size must be at least 1 byte, not {number}")
    return number


def rounded(size: int, page: int = PAGE) -> int:
    """Round a size up to whole pages, as the kernel does."""
    return -(-size // page) * page


def must_check(size: int) -> bool:
    """Count what is asked for, and say whether it is time for `require`."""
    global _unchecked
    _unchecked -= size  # of threads that meet here one may go uncounted
    return _unchecked < 0


def require(size: int, what: str, *, cma: bool = False) -> None:
    """Raise AllocationError (ENOMEM) if the machine can't have this many bytes."""
    global _unchecked
    most, text = _cma(size) if cma else _free(size)
    if size > most:
        raise AllocationError(errno.ENOMEM, f"{os.strerror(errno.ENOMEM)}: {what}: {text}")
    if not cma:
        _unchecked = (most - size) // 16


def shortage(size: int, *, cma: bool = False) -> str:
    """Say how much memory was wanted and how much is there; nothing if there is enough."""
    if cma:
        return _cma(size)[1]
    most, text = _free(size)
    return text if size > most else ""


def mapping_limit(size: int, number: int) -> str:
    """Say which limit keeps so many bytes from being mapped; nothing if none is known to.

    `number` is the errno of mmap(2).
    """
    if number not in (errno.ENOMEM, errno.EAGAIN):
        return ""
    if size > sys.maxsize:
        return f"{size} bytes do not fit into a 32-bit process; use a 64-bit Python"
    from resource import RLIM_INFINITY, RLIMIT_AS, RLIMIT_MEMLOCK, getrlimit

    if number == errno.EAGAIN:
        most, _ = getrlimit(RLIMIT_MEMLOCK)
        text = f"its memory would be locked (mlockall), {most} bytes of which a process may have"
        return f"{text} (RLIMIT_MEMLOCK); raise ulimit -l"
    try:
        with open("/proc/self/statm", "rb") as statm, open("/proc/self/maps", "rb") as maps:
            used, count = int(statm.read().split()[0]) * PAGE, sum(1 for _ in maps)
        with open("/proc/sys/vm/max_map_count", "rb") as value:
            most_mappings = int(value.read())
    except OSError:
        return ""
    most, _ = getrlimit(RLIMIT_AS)
    if most != RLIM_INFINITY and used + size > most:
        text = f"{size} bytes of address space wanted, and {used} of {most} are in use (RLIMIT_AS)"
        return f"{text}; raise ulimit -v"
    if count >= most_mappings:
        text = f"this process has {count} mappings, and vm.max_map_count is {most_mappings}"
        return f"{text}; drop views of buffers, or raise it with sysctl -w vm.max_map_count="
    return ""


def _free(size: int) -> tuple[int, str]:
    """Return how many bytes may be asked for, and what is to be said if these are too few."""
    fields = meminfo()
    if "MemAvailable" not in fields:
        return _all(size)
    # Whoever takes the last of it has the OOM killer take somebody's process. Free CMA memory is
    # for what can move out of it again, which a buffer can't.
    kept = fields.get("MemTotal", 0) // _KEPT + fields.get("CmaFree", 0)
    available = max(fields.get("MemAvailable", 0) - kept, 0)
    where = "MemAvailable in /proc/meminfo, less CmaFree and a reserve"
    text = f"{size} bytes wanted, {available} available ({where}); free memory or ask for less"
    return available, text


def _all(size: int) -> tuple[int, str]:
    """Return the same where /proc/meminfo is hidden: there may be none of it left."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * PAGE
    except (OSError, ValueError):
        total = 0
    text = f"{size} bytes wanted, the machine has {total}; ask for less, or mount all of /proc"
    return (total if total > 0 else _LARGEST_FILE), text


def _cma(size: int) -> tuple[int, str]:
    """Return the same for contiguous memory, which the kernel itself refuses without harm.

    Beyond CmaFree there may be more: what others keep in the region for now is moved out of it.
    """
    fields = meminfo()
    total, free = fields.get("CmaTotal", 0), fields.get("CmaFree", 0)
    if not total:  # named like such a heap, and a pool of its own
        return _LARGEST_FILE, f"{size} bytes wanted in one piece"
    where = "CmaFree and CmaTotal in /proc/meminfo"
    text = f"{size} bytes wanted in one piece, {free} of {total} free ({where})"
    lag = "the largest free piece may be smaller, and what was just closed comes back with a delay"
    largest = "root reads the largest, in pages, in /sys/kernel/debug/cma/*/maxchunk"
    remedy = f"close buffers, try again, or boot with a larger cma=; {largest} (CONFIG_CMA_DEBUGFS)"
    return total, f"{text}; {lag}; {remedy}"
