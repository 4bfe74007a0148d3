"""Who holds one buffer."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import NamedTuple

from dmabuf import _processes
from dmabuf._record import record
from dmabuf._tables import can_compare, tables


@record
class Holder(NamedTuple):
    """A process that holds a buffer: by descriptors, by mappings, or both.

        [holder.command for holder in buffer.holders()]

    `Buffer.holders()` and `BufferUsage.holders` list them.
    """

    pid: int
    """The process id."""
    started: int
    """The start time of the process, in clock ticks since boot. With `pid` it identifies the
    process, since process ids are used again."""
    command: str
    """The name of the process (comm), at most 15 bytes; a program can choose its own."""
    descriptors: tuple[int, ...]
    """The numbers of its descriptors of the buffer. Each entry is one reference, also if a number
    occurs twice: a thread may have a descriptor table of its own."""
    mapped: int
    """The number of mapped bytes of address space."""
    pieces: int
    """The number of mappings; one that was split counts several times. Each is one reference."""


def holders(key: _processes.Key) -> tuple[Holder, ...]:
    """Return the processes that hold a buffer, of those that may be looked at, by number."""
    compare = can_compare()
    found = []
    for pid in sorted(_processes.pids()):
        with contextlib.suppress(*_processes.ENDED, PermissionError):
            found.append(_processes.with_folder(pid, partial(_holder, pid, key, compare)))
    return tuple(holder for holder in found if holder is not None)


def _holder(pid: int, key: _processes.Key, compare: bool, process: int) -> Holder | None:
    tasks = _processes.threads(process)
    numbers: list[int] = []
    for _, table in tables(pid, tasks if compare else ()):
        numbers += map(int, _processes.dma_bufs(process, table).numbers.get(key, ()))
    sizes = [piece.size for piece in _processes.pieces(process, tasks) if piece.key == key]
    if not numbers and not sizes:
        return None
    who = _processes.identity(process)
    if who.ended and who.threads <= 1:
        return None
    return Holder(pid, who.started, who.command, tuple(sorted(numbers)), sum(sizes), len(sizes))
