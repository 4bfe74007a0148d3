"""Who shares which buffer with whom, as a tree."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from dmabuf.cli.console.text import Page, can_encode, columns_of, left, right
from dmabuf.cli.views.buffers import NOT_VISIBLE, UNKNOWN, size_text

if TYPE_CHECKING:
    from dmabuf.usage import BufferFence, BufferUsage, Holder, ProcessUsage

_SUMS_AT, _LABEL, _SIZE, _EXPORTER = 54, 20, 7, 8  # columns, more where a text is wider


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
        devices, fences. What is wide widens its column in all trees.
        """
        heads = [self._head(process) for process in processes]
        sums_at = _wide(_SUMS_AT, heads, gap=1)
        self._fit(buffers)
        held: dict[int, list[tuple[BufferUsage, Holder | None]]] = {}
        for buffer in buffers:
            for holder in buffer.holders:
                held.setdefault(holder.pid, []).append((buffer, holder))
        for process, head in zip(processes, heads, strict=True):
            yield self._cut(f"{left(head, sums_at)}{self._sums(process)}")
            yield from self._branches(held.get(process.pid, []))
        unheld: list[tuple[BufferUsage, Holder | None]]
        unheld = [(buffer, None) for buffer in buffers if not buffer.holders]
        if unheld:
            yield self._cut(NOT_VISIBLE)
            yield from self._branches(unheld)

    def _fit(self, buffers: Sequence[BufferUsage]) -> None:
        """Choose the columns' widths, which are those of all buffers."""
        indent = len(self._strokes.branch)
        self._label = _wide(_LABEL, map(self._named, buffers))
        self._size = _wide(_SIZE, map(self._size_of, buffers), gap=1)
        self._exporter = _wide(_EXPORTER, map(self._exporter_of, buffers))
        label_end = indent + self._label + self._size
        holders = (self._page.show(_who(one)) for buffer in buffers for one in buffer.holders)
        self._references_at = _wide(
            label_end + 1 + self._exporter + 1, (" " * 2 * indent + who for who in holders), gap=1
        )

    def _head(self, process: ProcessUsage) -> str:
        return self._page.show(f"{process.command} {process.pid} ({process.user})")

    def _sums(self, process: ProcessUsage) -> str:
        size = size_text(process.bytes, exact=self._exact)
        return f"{size}, share {size_text(process.share, exact=self._exact)}"

    def _branches(self, held: Sequence[tuple[BufferUsage, Holder | None]]) -> Iterator[str]:
        for number, (buffer, holder) in enumerate(held):
            is_last = number == len(held) - 1
            stroke = self._strokes.last if is_last else self._strokes.branch
            trunk = self._strokes.nothing if is_last else self._strokes.trunk
            yield self._cut(self._twig(stroke + self._buffer(buffer), _references(holder)))
            twigs = self._twigs(buffer, holder)
            for at, (label, references) in enumerate(twigs):
                end = self._strokes.last if at == len(twigs) - 1 else self._strokes.branch
                yield self._cut(self._twig(trunk + end + label, references))

    def _twig(self, start: str, references: str) -> str:
        return left(start, self._references_at) + references

    def _buffer(self, buffer: BufferUsage) -> str:
        label = left(self._named(buffer), self._label)
        return f"{label}{right(self._size_of(buffer), self._size)} {self._exporter_of(buffer)}"

    def _named(self, buffer: BufferUsage) -> str:
        return self._page.show(f"{buffer.inode} {buffer.name or ''}".rstrip())

    def _size_of(self, buffer: BufferUsage) -> str:
        return size_text(buffer.size, exact=self._exact)

    def _exporter_of(self, buffer: BufferUsage) -> str:
        return UNKNOWN if buffer.exporter is None else self._page.show(buffer.exporter)

    def _twigs(self, buffer: BufferUsage, holder: Holder | None) -> list[tuple[str, str]]:
        others = [one for one in buffer.holders if holder is None or one.pid != holder.pid]
        twigs = [(_who(one), _references(one)) for one in others]
        twigs += [(f"{device} (device)", "") for device in buffer.devices]
        twigs += [(_fence(fence), "") for fence in buffer.fences]
        return [(self._page.show(label), references) for label, references in twigs]

    def _cut(self, line: str) -> str:
        return self._page.cut(line.rstrip())


def _wide(least: int, texts: Iterable[str], *, gap: int = 0) -> int:
    """Return how wide a column of texts is, with some blanks behind or before the widest."""
    return max(least, max(map(columns_of, texts), default=0) + gap)


def _who(holder: Holder) -> str:
    return f"{holder.command} {holder.pid}"


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
