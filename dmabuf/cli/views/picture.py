"""What `dmabuf-alloc top` shows at one time, as lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dmabuf.cli.console.columns import Column, table
from dmabuf.cli.console.size import brief
from dmabuf.cli.console.text import Page, columns_of, cut
from dmabuf.cli.views import buffers, processes
from dmabuf.cli.views.buffers import plural, size_text, unexplained_references
from dmabuf.cli.views.growth import Change, Growing

if TYPE_CHECKING:
    from dmabuf.usage import BufferUsage

_COLUMNS = (
    *processes.COLUMNS,
    Column("SHARE", 9, is_number=True),
    Column("GREW", 9, is_number=True),
    Column("RATE", 8, is_number=True),
    Column("", 2, gap=2),
)
_DEVICES = (
    Column("DEVICE", 31),
    Column("BUFS", 6, is_number=True),
    Column("SIZE", 8, is_number=True),
)
_GROWS = "<<"
_KEYS: dict[str, Callable[[Growing], Any]] = {
    "grew": lambda growing: -growing.grew,
    "rate": lambda growing: -growing.rate,
}
SORTS = (*processes.SORTS, *_KEYS)
"""What the processes can be sorted by, the first unless another is asked for."""
_LEAST_GAP, _LEAST_FIRST = 2, 20


def in_order(growing: Iterable[Growing], sort: str, *, backwards: bool) -> list[Growing]:
    """Return processes sorted: numbers from the largest on, names and pids from the first."""
    if sort in _KEYS:
        return sorted(growing, key=_KEYS[sort], reverse=backwards)
    by_process = {one.process: one for one in growing}
    ordered = processes.in_order(by_process, sort, backwards=backwards)
    return [by_process[process] for process in ordered]


def heads(change: Change, every: float, page: Page, *, exact: bool) -> list[str]:
    """Return the two lines at the top: what there is, and what changes."""
    total = change.usage.total
    clock = time.strftime("%H:%M:%S", time.localtime(change.usage.taken))
    size = size_text(total.bytes, exact=exact)
    sums = f"{size} in {plural(total.buffers, 'buffer')}"
    grew = f"{_signed(change.grew, exact=exact)} in {change.window:.0f} s"
    made = sorted(change.usage.exporters.items(), key=lambda one: -one[1].bytes)
    exporters = [page.show(f"{name} {size_text(sum.bytes, exact=exact)}") for name, sum in made]
    came, went = (_per_second(count, change.seconds) for count in (change.came, change.went))
    unexplained = plural(unexplained_references(change.usage.buffers), "ref")
    rates = f"came {came}  went {went}   unexplained {unexplained}"
    return [
        _sides(f"dmabuf-alloc top - {clock}, every {every:g} s", f"{sums}   {grew}", 46, page),
        _sides("  ".join(exporters), rates, 41, page),
    ]


def _sides(first: str, second: str, at: int, page: Page) -> str:
    """Return a line of two parts, the second at its place.

    Where that does not fit, the second is nearer, then the first is cut, and then the line.
    """
    if page.width is not None:
        at = min(at, page.width - columns_of(second))
        if at - _LEAST_GAP >= _LEAST_FIRST:
            first = cut(first, at - _LEAST_GAP, page.mark)
    gap = max(at - columns_of(first), _LEAST_GAP)
    return page.cut(first + " " * gap + second if first else second)


def process_lines(growing: Sequence[Growing], page: Page, *, exact: bool) -> list[str]:
    """Return the table of processes."""
    rows = [
        [
            *processes.first_cells(one.process, page),
            size_text(one.process.share, exact=exact),
            _signed(one.grew, exact=exact) if one.grew else buffers.NONE,
            _rate(one.rate, exact=exact) if one.grew else buffers.NONE,
            _GROWS if one.keeps_growing else "",
        ]
        for one in growing
    ]
    return table(_COLUMNS, rows, page)


def device_lines(all_buffers: Iterable[BufferUsage], page: Page, *, exact: bool) -> list[str]:
    """Return the table of devices, with what is attached to each; nothing without a device."""
    rows = [
        [page.show(device), str(total["buffers"]), size_text(total["bytes"], exact=exact)]
        for device, total in device_sums(all_buffers).items()
    ]
    return table(_DEVICES, rows, page) if rows else []


def device_sums(all_buffers: Iterable[BufferUsage]) -> dict[str, dict[str, int]]:
    """Return how many buffers, and bytes, are attached to each device, the most bytes first."""
    sums: dict[str, dict[str, int]] = {}
    for buffer in all_buffers:
        for device in set(buffer.devices):
            total = sums.setdefault(device, {"buffers": 0, "bytes": 0})
            total["buffers"] += 1
            total["bytes"] += buffer.size or 0
    return dict(sorted(sums.items(), key=lambda one: (-one[1]["bytes"], one[0])))


def _signed(size: int, *, exact: bool) -> str:
    return f"{'-' if size < 0 else '+'}{size_text(abs(size), exact=exact)}"


def _rate(rate: float, *, exact: bool) -> str:
    """Return bytes per second, as "+0.5M/s"."""
    sign, size = "-" if rate < 0 else "+", abs(rate)
    if exact:
        return f"{sign}{size:.0f}/s"
    for unit, power in (("T", 4), ("G", 3), ("M", 2), ("K", 1)):
        if size >= 0.1 * 1024**power:
            return f"{sign}{size / 1024**power:.1f}{unit}/s"
    return f"{sign}{brief(round(size))}/s"


def _per_second(count: int, seconds: float) -> str:
    return f"{round(count / seconds, 1) if seconds else 0:g}/s"
