"""The result of a scan: its sums, its difference to another scan, and its JSON form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dmabuf._record import record
from dmabuf.usage import _document
from dmabuf.usage._packed import Packed
from dmabuf.usage.records import BufferUsage, Diff, Growth, ProcessUsage, Total

UNKNOWN = "unknown"
"""What stands in `exporters` for buffers whose exporter nothing tells."""


@record
class _Look(NamedTuple):
    """What is kept of a look; the records of its buffers in columns."""

    buffers: Packed | tuple[BufferUsage, ...]
    """The buffers, by inode."""
    processes: tuple[ProcessUsage, ...]
    """The processes that hold buffers, sorted by process id."""
    unreadable: tuple[int, ...]
    """The ids of the processes that this user may not read."""
    gone: tuple[int, ...]
    """The ids of the processes that ended before they were read, or were requested and can't be
    seen."""
    in_flight: int
    """The number of descriptors of any kind that wait in sockets to be received. Counted only if a
    buffer has unexplained references; otherwise 0."""
    taken: float
    """The time of the scan, in seconds since 1970."""
    boot: str | None
    """The kernel's boot id: inodes and process ids have a meaning only within one boot."""
    debugfs: bool
    """True if the kernel's own list (debugfs) was read, which needs root. Otherwise devices and
    fences are unknown and the records have none."""


class Usage(_Look):
    """The buffers of the machine and their holders at one time; `usage.scan()` returns it.

        usage.scan().total.bytes

    Immutable. It keeps no buffer and no process alive.
    """

    __slots__ = ()

    @property
    def buffers(self) -> tuple[BufferUsage, ...]:
        """The buffers, sorted by inode.

        Root sees all of them if debugfs is mounted. Otherwise they are those that the readable
        processes hold. The records are made anew at each access: in a loop keep them in a variable.
        """
        return tuple(self[0])

    @property
    def _packed(self) -> Packed:
        kept = self[0]
        return kept if isinstance(kept, Packed) else Packed.of(kept)

    @property
    def total(self) -> Total:
        """The sum over all buffers."""
        return _total([size for _, size in self._packed.exporters()])

    @property
    def exporters(self) -> dict[str, Total]:
        """The sum for each exporter; "unknown" stands for buffers without one."""
        by_exporter: dict[str, list[int | None]] = {}
        for exporter, size in self._packed.exporters():
            by_exporter.setdefault(UNKNOWN if exporter is None else exporter, []).append(size)
        return {name: _total(sizes) for name, sizes in sorted(by_exporter.items())}

    def diff(self, after: Usage) -> Diff:
        """Return the buffers that came and went, and the processes that grew, from this to `after`.

        Buffers and processes of another boot count as different, whatever their numbers.
        """
        if not isinstance(after, Usage):
            raise TypeError(f"diff() takes another Usage, not {type(after).__name__}")
        same_boot = self.boot == after.boot
        return Diff(
            came=_without(after._packed, self._packed.inodes if same_boot else ()),
            went=_without(self._packed, after._packed.inodes if same_boot else ()),
            grew=_growth(self.processes if same_boot else (), after.processes),
        )

    def to_json(self) -> str:
        """Return everything as a JSON document, which snapshot.schema.json describes."""
        fields = {**self._asdict(), "buffers": self.buffers}
        return _document.write(fields, self.total, self.exporters)

    @classmethod
    def from_json(cls, text: str | bytes) -> Usage:
        """Return the `Usage` that `to_json` wrote. ValueError, with the place, for anything else.

        Unknown fields are ignored.
        """
        fields = _document.read(text)
        return cls(**{**fields, "buffers": Packed.of(fields["buffers"])})


def _total(sizes: Sequence[int | None]) -> Total:
    known = [size for size in sizes if size is not None]
    return Total(bytes=sum(known), buffers=len(sizes), unsized=len(sizes) - len(known))


def _without(buffers: Packed, others: Sequence[int]) -> tuple[BufferUsage, ...]:
    """Return the records of buffers but for those with some inodes."""
    inodes = set(others)
    if inodes.issuperset(buffers.inodes):
        return ()
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
