"""Who shares which buffer with whom, as a tree."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from dmabuf.cli.console.text import Page, can_encode, left, right
from dmabuf.cli.views.buffers import NOT_VISIBLE, UNKNOWN, size_text

if TYPE_CHECKING:
    from dmabuf.usage import BufferFence, BufferUsage, Holder, ProcessUsage

_SUMS_AT, _SIZE_END, _REFERENCES_AT = 54, 30, 40
_SIZE, _EXPORTER = 7, 8  # columns


class _Strokes(NamedTuple):
    """What a tree is drawn with."""

    branch: str
    last: str
    trunk: str
    nothing: str = "   "


_LINES = _Strokes("├─ ", "└─ ", "│  ")
_ASCII = _Strokes("|- ", "`- ", "|  ")


class Tree:
    """Draws a tree for each process, and one of what nobody holds."""

    def __init__(self, page: Page, *, exact: bool, ascii_only: bool) -> None:
        self._page = page
        self._exact = exact
        is_poor = ascii_only or not can_encode("".join(_LINES), sys.stdout)
        self._strokes = _ASCII if is_poor else _LINES

    def lines(
        self, processes: Sequence[ProcessUsage], buffers: Sequence[BufferUsage]
    ) -> Iterator[str]:
        """Give the lines; processes and buffers stand in the given order.

        A process has its buffers as branches. These have all others that use them: processes,
        devices, fences.
        """
        held: dict[int, list[tuple[BufferUsage, Holder | None]]] = {}
        for buffer in buffers:
            for holder in buffer.holders:
                held.setdefault(holder.pid, []).append((buffer, holder))
        for process in processes:
            head = self._page.show(f"{process.command} {process.pid} ({process.user})")
            yield self._cut(f"{left(head, _SUMS_AT)}{self._sums(process)}")
            yield from self._branches(held.get(process.pid, []))
        unheld: list[tuple[BufferUsage, Holder | None]]
        unheld = [(buffer, None) for buffer in buffers if not buffer.holders]
        if unheld:
            yield self._cut(NOT_VISIBLE)
            yield from self._branches(unheld)

    def _sums(self, process: ProcessUsage) -> str:
        size = size_text(process.bytes, exact=self._exact)
        return f"{size}, share {size_text(process.share, exact=self._exact)}"

    def _branches(self, held: Sequence[tuple[BufferUsage, Holder | None]]) -> Iterator[str]:
        for number, (buffer, holder) in enumerate(held):
            is_last = number == len(held) - 1
            stroke = self._strokes.last if is_last else self._strokes.branch
            trunk = self._strokes.nothing if is_last else self._strokes.trunk
            yield self._cut(f"{stroke}{self._buffer(buffer)} {_references(holder)}")
            twigs = self._twigs(buffer, holder)
            for at, (label, references) in enumerate(twigs):
                end = self._strokes.last if at == len(twigs) - 1 else self._strokes.branch
                yield self._cut(f"{left(trunk + end + label, _REFERENCES_AT)}{references}")

    def _buffer(self, buffer: BufferUsage) -> str:
        label = self._page.show(f"{buffer.inode} {buffer.name or ''}".rstrip())
        size = right(size_text(buffer.size, exact=self._exact), _SIZE)
        room = _SIZE_END - _SIZE - len(self._strokes.branch)
        exporter = UNKNOWN if buffer.exporter is None else self._page.show(buffer.exporter)
        return f"{left(label, room)}{size} {left(exporter, _EXPORTER)}"

    def _twigs(self, buffer: BufferUsage, holder: Holder | None) -> list[tuple[str, str]]:
        others = [one for one in buffer.holders if holder is None or one.pid != holder.pid]
        twigs = [(f"{one.command} {one.pid}", _references(one)) for one in others]
        twigs += [(f"{device} (device)", "") for device in buffer.devices]
        twigs += [(_fence(fence), "") for fence in buffer.fences]
        return [(self._page.show(label), references) for label, references in twigs]

    def _cut(self, line: str) -> str:
        return self._page.cut(line.rstrip())


def _references(holder: Holder | None) -> str:
    """Return a process's descriptors, and how many pieces of mappings it has."""
    if holder is None:
        return ""
    parts = [f"fds {_ranges(holder.descriptors)}"] if holder.descriptors else []
    parts += [f"maps {holder.pieces}"] if holder.pieces else []
    return " ".join(parts)


def _ranges(numbers: Sequence[int]) -> str:
    """Return "5,9,12-14"."""
    parts = []
    for _, group in groupby(enumerate(numbers), key=lambda one: one[1] - one[0]):
        run = [number for _, number in group]
        parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ",".join(parts)


def _fence(fence: BufferFence) -> str:
    state = "signaled" if fence.signaled else "pending"
    return f"{fence.driver} {fence.timeline} ({fence.use} fence, {state})"
