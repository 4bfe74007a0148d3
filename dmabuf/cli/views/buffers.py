"""Buffers as a table, and what they add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dmabuf.cli.console.columns import Column, table
from dmabuf.cli.console.size import brief
from dmabuf.cli.console.text import Page

if TYPE_CHECKING:
    from dmabuf.usage import BufferUsage, Holder, Usage

UNKNOWN, NONE = "?", "-"
NOT_VISIBLE = "(not visible from here)"

COLUMNS = (
    Column("INODE", 5, is_number=True),
    Column("SIZE", 7, is_number=True),
    Column("EXPORTER", 11),
    Column("REFS", 4, is_number=True),
    Column("?", 3, is_number=True),
    Column("DEVICES", 9, gap=2),
    Column("NAME", 12),
    Column("HELD BY", 7),
)
_CHANGED = (
    Column("", 1, gap=0),
    Column("", 5, is_number=True),
    Column("", 7, is_number=True),
    Column("", 11),
    Column("", 12),
    Column("", 7),
)
_KEYS: dict[str, Callable[[BufferUsage], Any]] = {
    "size": lambda buffer: -1 if buffer.size is None else buffer.size,
    "count": lambda buffer: -1 if buffer.count is None else buffer.count,
    "name": lambda buffer: (buffer.name is None, buffer.name or ""),
    "inode": lambda buffer: buffer.inode,
    "exporter": lambda buffer: (buffer.exporter is None, buffer.exporter or ""),
    "holders": lambda buffer: len(buffer.holders),
}
SORTS = tuple(_KEYS)
"""What buffers can be sorted by, the first unless another is asked for."""
_LARGEST_FIRST = ("size", "count", "holders")


def in_order(
    buffers: Iterable[BufferUsage], sort: str = SORTS[0], *, backwards: bool = False
) -> list[BufferUsage]:
    """Return buffers sorted: numbers from the largest on, texts and inodes from the first."""
    by_inode = sorted(buffers, key=_KEYS["inode"])
    largest_first = (sort in _LARGEST_FIRST) is not backwards
    return sorted(by_inode, key=_KEYS[sort], reverse=largest_first)


def buffer_lines(
    buffers: Sequence[BufferUsage], page: Page, *, exact: bool, debugfs: bool
) -> list[str]:
    """Return the table; without `debugfs` nothing is known of devices."""
    rows = [_row(buffer, page, exact=exact, debugfs=debugfs) for buffer in buffers]
    return table(COLUMNS, rows, page)


def changed_lines(
    sign: str, buffers: Sequence[BufferUsage], page: Page, *, exact: bool
) -> list[str]:
    """Return a line for each buffer that came or went, which the sign tells."""
    rows = []
    for buffer in buffers:
        row = _row(buffer, page, exact=exact, debugfs=False)
        inode, size, exporter, _, _, _, name, holders = row
        rows.append([sign, inode, size, exporter, name, holders])
    return table(_CHANGED, rows, page)[1:]


def size_text(size: int | None, *, exact: bool) -> str:
    """Return a size as it stands in a column."""
    if size is None:
        return UNKNOWN
    return str(size) if exact else brief(size)


def count_text(count: int | None) -> str:
    """Return a number as it stands in a column."""
    return UNKNOWN if count is None else str(count)


def _row(buffer: BufferUsage, page: Page, *, exact: bool, debugfs: bool) -> list[str]:
    return [
        str(buffer.inode),
        size_text(buffer.size, exact=exact),
        UNKNOWN if buffer.exporter is None else page.show(buffer.exporter),
        count_text(buffer.count),
        count_text(buffer.unexplained),
        page.show(",".join(buffer.devices)) or (NONE if debugfs else UNKNOWN),
        page.show(buffer.name) if buffer.name else NONE,
        page.show(holders_text(buffer.holders)),
    ]


def holders_text(holders: Sequence[Holder]) -> str:
    """Return who holds a buffer, those with most references first."""
    if not holders:
        return NOT_VISIBLE
    most_first = sorted(holders, key=lambda one: -len(one.descriptors) - one.pieces)
    return " ".join(f"{one.command}:{one.pid}({references_text(one)})" for one in most_first)


def references_text(holder: Holder) -> str:
    """Return how a process holds a buffer: descriptors, and pieces of mappings behind a plus."""
    descriptors = len(holder.descriptors)
    if not descriptors:
        return "map"
    return f"{descriptors}+{holder.pieces}" if holder.pieces else str(descriptors)


def totals(usage: Usage, *, exact: bool) -> str:
    """Return what all buffers are together, in one line."""
    total = usage.total
    parts = [f"{plural(total.buffers, 'buffer')}, {size_text(total.bytes, exact=exact)}"]
    if total.unsized:
        parts[0] += f" and {total.unsized} of unknown size"
    holders = {holder.pid for buffer in usage.buffers for holder in buffer.holders}
    parts.append(f"held by {plural(len(holders), 'process', 'processes')}")
    if unexplained := unexplained_references(usage.buffers):
        parts.append(f"{plural(unexplained, 'reference')} unexplained")
    return "; ".join(parts)


def unexplained_references(buffers: Iterable[BufferUsage]) -> int:
    """Return how many references of all these are unexplained."""
    return sum(buffer.unexplained or 0 for buffer in buffers)


def plural(number: int, one: str, many: str | None = None) -> str:
    """Return "1 buffer", "2 buffers"."""
    return f"{number} {one}" if number == 1 else f"{number} {many or one + 's'}"
