"""The result of a scan: what it adds up to, what changed since another, and its JSON."""

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


class Usage(_Look):
    """Who held which buffer at one time; made by `usage.scan()`.

    Immutable, and free of everything it tells about: it keeps no buffer and no process.

        usage.scan().total.bytes
    """

    __slots__ = ()

    @property
    def buffers(self) -> tuple[BufferUsage, ...]:
        """The buffers, by inode.

        Root is told of all, where debugfs is mounted; without it those that are held by processes
        which could be read. A look keeps a few bytes a buffer, and the records are made anew
        whenever this is read: in a loop, keep them in a variable.
        """
        return tuple(self[0])

    @property
    def _packed(self) -> Packed:
        kept = self[0]
        return kept if isinstance(kept, Packed) else Packed.of(kept)

    @property
    def total(self) -> Total:
        """What all buffers are together, each counted once."""
        return _total([size for _, size in self._packed.exporters()])

    @property
    def exporters(self) -> dict[str, Total]:
        """What the buffers of each exporter are together; "unknown" for those without."""
        by_exporter: dict[str, list[int | None]] = {}
        for exporter, size in self._packed.exporters():
            by_exporter.setdefault(UNKNOWN if exporter is None else exporter, []).append(size)
        return {name: _total(sizes) for name, sizes in sorted(by_exporter.items())}

    def diff(self, after: Usage) -> Diff:
        """Return which buffers came and went, and which processes grew, from this to `after`.

        Buffers and processes of another boot are others, whatever their numbers.
        """
        if not isinstance(after, Usage):
            raise TypeError(f"a Usage differs from another, not from {type(after).__name__}")
        same_boot = self.boot == after.boot
        return Diff(
            came=_without(after._packed, self._packed.inodes if same_boot else ()),
            went=_without(self._packed, after._packed.inodes if same_boot else ()),
            grew=_growth(self.processes if same_boot else (), after.processes),
        )

    def to_json(self) -> str:
        """Return everything as a JSON document; snapshot.schema.json describes it."""
        fields = {**self._asdict(), "buffers": self.buffers}
        return _document.write(fields, self.total, self.exporters)

    @classmethod
    def from_json(cls, text: str | bytes) -> Usage:
        """Return what `to_json` wrote. ValueError, with the place, for anything else.

        Fields that this version does not know are ignored.
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
