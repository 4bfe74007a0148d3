"""Processes as a table, and what no process holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dmabuf.cli.console.columns import Column, table
from dmabuf.cli.console.text import Page
from dmabuf.cli.views.buffers import plural, size_text

if TYPE_CHECKING:
    from dmabuf.usage import ProcessUsage, Usage

COLUMNS = (
    Column("PID", 5, is_number=True),
    Column("USER", 9),
    Column("COMMAND", 15),
    Column("BUFS", 5, is_number=True),
    Column("FDS", 6, is_number=True),
)
"""The columns that every table of processes begins with."""
_COLUMNS = (
    *COLUMNS,
    Column("MAPS", 6, is_number=True),
    Column("SIZE", 8, is_number=True),
    Column("SHARE", 8, is_number=True),
)
_KEYS: dict[str, Callable[[ProcessUsage], Any]] = {
    "share": lambda process: process.share,
    "size": lambda process: process.bytes,
    "buffers": lambda process: process.buffers,
    "fds": lambda process: process.descriptors,
    "pid": lambda process: process.pid,
    "command": lambda process: process.command,
}
SORTS = tuple(_KEYS)
"""What processes can be sorted by, the first unless another is asked for."""
_SMALLEST_FIRST = ("pid", "command")


def in_order(
    processes: Iterable[ProcessUsage], sort: str = SORTS[0], *, backwards: bool = False
) -> list[ProcessUsage]:
    """Return processes sorted: numbers from the largest on, names and pids from the first."""
    by_pid = sorted(processes, key=_KEYS["pid"])
    largest_first = (sort not in _SMALLEST_FIRST) is not backwards
    return sorted(by_pid, key=_KEYS[sort], reverse=largest_first)


def process_lines(processes: Sequence[ProcessUsage], page: Page, *, exact: bool) -> list[str]:
    """Return the table."""
    rows = [
        [
            *first_cells(process, page),
            str(process.pieces),
            size_text(process.bytes, exact=exact),
            size_text(process.share, exact=exact),
        ]
        for process in processes
    ]
    return table(_COLUMNS, rows, page)


def first_cells(process: ProcessUsage, page: Page) -> list[str]:
    """Return what stands in `COLUMNS`."""
    return [
        str(process.pid),
        page.show(process.user),
        page.show(process.command),
        str(process.buffers),
        str(process.descriptors),
    ]


def unheld(usage: Usage, *, exact: bool) -> str | None:
    """Return in one line what no process holds; None if there is nothing."""
    left = [buffer for buffer in usage.buffers if not buffer.holders]
    if not left:
        return None
    size = size_text(sum(buffer.size or 0 for buffer in left), exact=exact)
    unsized = sum(buffer.size is None for buffer in left)
    more = f" and {plural(unsized, 'buffer')} of unknown size" if unsized else ""
    return f"{size}{more} is held by no process visible from here"
