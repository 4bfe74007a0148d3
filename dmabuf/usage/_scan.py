"""A look at who holds which buffer, put together from processes, debugfs and sockets."""

from __future__ import annotations

import pwd
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from dmabuf import _processes
from dmabuf.usage import _debugfs, _iterator
from dmabuf.usage._buffers import told
from dmabuf.usage._in_flight import Waiting, in_flight
from dmabuf.usage._notes import Reasons
from dmabuf.usage._packed import Packed, Told
from dmabuf.usage._references import references
from dmabuf.usage._search import Found, Search
from dmabuf.usage.records import ProcessUsage
from dmabuf.usage.usage import Usage

_BOOT = "/proc/sys/kernel/random/boot_id"


def scan(*, processes: Iterable[int] | None = None, explain: bool = True) -> Usage:
    """Return a `Usage`: which process holds which buffer now, for all visible processes.

    `processes` limits the scan to the given process ids. A user sees only their own processes; root
    with CAP_SYS_PTRACE sees all. The result lists the processes that could not be read. Processes
    that /proc hides are not seen at all: those of other users under its option hidepid, and those
    outside of a container. Where kcmp(2) is not allowed, as in many containers, descriptors of a
    thread with a table of its own are not found, and references that processes share are counted
    for each.

    A scan is not atomic: processes start and end during it. If the kernel's counts show that
    something has changed, the buffer has a note.

    `explain=False` leaves out devices, fences (debugfs) and sockets, for frequent scans: reading
    debugfs takes the lock of every buffer. If debugfs is not read, a pinned BPF iterator over all
    buffers is read instead (Linux 6.16), which also lists buffers that no process holds.

    Works on every kernel. TypeError or ValueError for an invalid process id.
    """
    asked = None if processes is None else sorted({_pid(number) for number in processes})
    search = Search()
    for pid in sorted(_processes.pids()) if asked is None else asked:
        search.look_at(pid)
    listed: dict[int, _debugfs.Listed] | None = None
    if explain and (text := _debugfs.read()):
        names = {key[1]: sight.name for key, sight in search.buffers.items() if sight.is_dma_buf}
        listed = _debugfs.listed(text, names)
    iterated = None
    if listed is None and (text := _debugfs.read(_iterator.PATH)):
        iterated = _iterator.listed(text)
    counted = references(search.found, compare=search.compares)

    def look_for_waiting() -> list[Waiting]:
        return in_flight(_processes.pids() if asked is None else asked) if explain else []

    reasons = Reasons(
        look_for_waiting=look_for_waiting,
        unreadable=len(search.unreadable),
        some=asked is not None,
        compares=search.compares,
    )
    buffers = list(told(search, listed or iterated or {}, counted, reasons, hidden=asked is None))
    return Usage(
        buffers=Packed(buffers),
        processes=tuple(_processes_of(buffers, search.found)),
        unreadable=tuple(search.unreadable),
        gone=tuple(search.gone),
        in_flight=reasons.in_flight,
        taken=time.time(),
        boot=_boot(),
        debugfs=listed is not None,
    )


def _pid(number: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"a process id must be an int, not {type(number).__name__}")
    if number <= 0:
        raise ValueError(f"a process id must be positive, not {number}")
    return number


def _processes_of(buffers: Iterable[Told], found: Sequence[Found]) -> Iterable[ProcessUsage]:
    """Give what each process holds; a buffer is shared out to its holders to the last byte."""
    sums = {process.pid: _Sum() for process in found}
    for buffer in buffers:
        size = buffer.size or 0
        share, rest = divmod(size, len(buffer.holders) or 1)
        for place, ((pid, _, _), numbers, (_, pieces)) in enumerate(buffer.holders):
            of_process = sums[pid]
            of_process.buffers += 1
            of_process.descriptors += len(numbers)
            of_process.pieces += pieces
            of_process.bytes += size
            of_process.share += share + (place < rest)
    users: dict[int, str] = {}
    for process in found:
        of_process = sums[process.pid]
        if of_process.buffers:
            if process.user not in users:
                users[process.user] = _user(process.user)
            yield ProcessUsage(
                pid=process.pid,
                started=process.who.started,
                command=process.who.command,
                user=users[process.user],
                buffers=of_process.buffers,
                descriptors=of_process.descriptors,
                pieces=of_process.pieces,
                bytes=of_process.bytes,
                share=of_process.share,
            )


class _Sum:
    """What a process holds, while it is added up."""

    __slots__ = ("buffers", "bytes", "descriptors", "pieces", "share")

    def __init__(self) -> None:
        self.buffers = self.descriptors = self.pieces = self.bytes = self.share = 0


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _boot() -> str | None:
    try:
        return Path(_BOOT).read_text().strip()
    except OSError:
        return None
