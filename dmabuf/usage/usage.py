"""The result of a scan: what it adds up to, what changed since another, and its JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dmabuf._record import record
from dmabuf.usage import _document
from dmabuf.usage.records import BufferUsage, Diff, Growth, ProcessUsage, Total

UNKNOWN = "unknown"
"""What stands in `exporters` for buffers whose exporter nothing tells."""


@record
class Usage(NamedTuple):
    """Who held which buffer at one time; made by `usage.scan()`.

    Immutable, and free of everything it tells about: it keeps no buffer and no process.

        usage.scan().total.bytes
    """

    buffers: tuple[BufferUsage, ...]
    """The buffers, by inode. Root is told of all, where debugfs is mounted; without it those that
    are held by processes which could be read."""
    processes: tuple[ProcessUsage, ...]
    """The processes that hold buffers, by number."""
    unreadable: tuple[int, ...]
    """Processes that could not be read, for lack of permission."""
    gone: tuple[int, ...]
    """Processes that ended before they were read, or that were asked for and can't be seen."""
    in_flight: int
    """Descriptors of any kind that wait in sockets to be received. They are looked for where
    references to a buffer are unexplained, else this is 0."""
    taken: float
    """When, in seconds since 1970."""
    boot: str | None
    """The kernel's name for the time since it booted: inodes and process numbers belong to it."""
    debugfs: bool
    """Whether the kernel's own list (debugfs) was read, as root may. It alone tells devices and
    fences: without it there are none in the records, and nothing is known of them."""

    @property
    def total(self) -> Total:
        """What all buffers are together, each counted once."""
        return _total(self.buffers)

    @property
    def exporters(self) -> dict[str, Total]:
        """What the buffers of each exporter are together; "unknown" for those without."""
        by_exporter: dict[str, list[BufferUsage]] = {}
        for buffer in self.buffers:
            name = UNKNOWN if buffer.exporter is None else buffer.exporter
            by_exporter.setdefault(name, []).append(buffer)
        return {name: _total(buffers) for name, buffers in sorted(by_exporter.items())}

    def diff(self, after: Usage) -> Diff:
        """Return which buffers came and went, and which processes grew, from this to `after`.

        Buffers and processes of another boot are others, whatever their numbers.
        """
        if not isinstance(after, Usage):
            raise TypeError(f"a Usage differs from another, not from {type(after).__name__}")
        same_boot = self.boot == after.boot
        return Diff(
            came=_without(after.buffers, self.buffers if same_boot else ()),
            went=_without(self.buffers, after.buffers if same_boot else ()),
            grew=_growth(self.processes if same_boot else (), after.processes),
        )

    def to_json(self) -> str:
        """Return everything as a JSON document; snapshot.schema.json describes it."""
        return _document.write(self._asdict(), self.total, self.exporters)

    @classmethod
    def from_json(cls, text: str | bytes) -> Usage:
        """Return what `to_json` wrote. ValueError, with the place, for anything else.

        Fields that this version does not know are ignored.
        """
        return cls(**_document.read(text))


def _total(buffers: Iterable[BufferUsage]) -> Total:
    sizes = [buffer.size for buffer in buffers]
    known = [size for size in sizes if size is not None]
    return Total(bytes=sum(known), buffers=len(sizes), unsized=len(sizes) - len(known))


def _without(
    buffers: Iterable[BufferUsage], others: Iterable[BufferUsage]
) -> tuple[BufferUsage, ...]:
    inodes = {buffer.inode for buffer in others}
    return tuple(buffer for buffer in buffers if buffer.inode not in inodes)


def _growth(before: Iterable[ProcessUsage], after: Iterable[ProcessUsage]) -> tuple[Growth, ...]:
    held = {(process.pid, process.started): process for process in before}
    grown = []
    for process in after:
        pid, started, command = process.pid, process.started, process.command
        size, buffers = process.bytes, process.buffers
        if (old := held.get((pid, started))) is not None:
            size, buffers = size - old.bytes, buffers - old.buffers
        if (size, buffers) > (0, 0):
            grown.append(Growth(pid, started, command, size, buffers))
    return tuple(sorted(grown, key=lambda one: (-one.bytes, -one.buffers, one.pid)))
