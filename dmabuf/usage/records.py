"""The records of a scan."""

from __future__ import annotations

from typing import NamedTuple

from dmabuf._holders import Holder
from dmabuf._record import record

__all__ = ["BufferFence", "BufferUsage", "Diff", "Growth", "Holder", "ProcessUsage", "Total"]


@record
class BufferFence(NamedTuple):
    """A fence on a buffer, as debugfs shows it. Only root can read these.

        busy = [buffer for buffer in usage.scan().buffers if buffer.fences]

    `BufferUsage.fences` lists them.
    """

    use: str
    """The use of the buffer that the fence protects: "write", "read", "kernel" (moves the memory)
    or "bookkeep"."""
    driver: str
    """The driver that signals the fence."""
    timeline: str
    """The driver's name of the timeline, the sequence of its work."""
    signaled: bool
    """True if the work is done."""


@record
class BufferUsage(NamedTuple):
    """A buffer, with the processes and devices that hold it, as far as they are visible.

        nobody_visible = [buffer for buffer in usage.scan().buffers if not buffer.holders]

    `Usage.buffers` lists them.
    """

    inode: int
    """The inode number, which identifies the buffer in fdinfo, maps and bufinfo. Linux 6.1 and
    later never use a number again."""
    size: int | None
    """The size in bytes; None if no readable source has it."""
    name: str | None
    """The name; None while unset. Do not trust it: every holder can set it."""
    exporter: str | None
    """The exporter, such as "system" or "udmabuf"; None if no readable source has it."""
    count: int | None  # type: ignore[assignment]  # which hides tuple.count
    """The kernel's count of references; None if no readable source has it."""
    holders: tuple[Holder, ...]
    """The visible processes that hold it, sorted by process id."""
    devices: tuple[str, ...]
    """The devices that are attached to it. Only root can read them, with debugfs mounted."""
    fences: tuple[BufferFence, ...]
    """The fences on it. Only root can read them, with debugfs mounted."""
    unexplained: int | None
    """The number of references beyond the descriptors and mappings that were seen, at least 0; None
    if `count` is None. It does not prove a leak: `notes` lists what they may be."""
    notes: tuple[str, ...]
    """Sentences to read before drawing a conclusion."""


@record
class ProcessUsage(NamedTuple):
    """What one process holds.

        largest = max(usage.scan().processes, key=lambda process: process.share)

    `Usage.processes` lists them.
    """

    pid: int
    """The process id."""
    started: int
    """The start time of the process, in clock ticks since boot. With `pid` it identifies the
    process, since process ids are used again."""
    command: str
    """The name of the process (comm), at most 15 bytes; a program can choose its own."""
    user: str
    """The name of its user, or the user id if that has no name."""
    buffers: int
    """The number of buffers that it holds."""
    descriptors: int
    """The number of its descriptors of buffers."""
    pieces: int
    """The number of its mappings of buffers."""
    bytes: int
    """The sum of the sizes of its buffers, in bytes; each counts in full."""
    share: int
    """Its share of them in bytes: the size of each buffer is divided among the processes that hold
    it. The shares of all processes add up to the size of all buffers that are held."""


@record
class Total(NamedTuple):
    """A sum over several buffers, each counted once.

        usage.scan().exporters["system"].bytes

    `Usage.total` is the sum of all, and `Usage.exporters` has one for each exporter.
    """

    bytes: int
    """The sum of the known sizes, in bytes."""
    buffers: int
    """The number of buffers."""
    unsized: int
    """The number of those whose size is unknown."""


@record
class Growth(NamedTuple):
    """A process that holds more than in the earlier scan.

        [(growth.command, growth.bytes) for growth in before.diff(usage.scan()).grew]

    `Diff.grew` lists them, the largest growth first.
    """

    pid: int
    """The process id."""
    started: int
    """The start time of the process, in clock ticks since boot."""
    command: str
    """The name of the process (comm)."""
    bytes: int
    """The increase in bytes; each buffer counts in full."""
    buffers: int
    """The increase in the number of buffers."""


@record
class Diff(NamedTuple):
    """The difference between two scans.

        before.diff(usage.scan()).came

    `Usage.diff()` returns it.
    """

    came: tuple[BufferUsage, ...]
    """The buffers that are only in the later scan."""
    went: tuple[BufferUsage, ...]
    """The buffers that are only in the earlier scan."""
    grew: tuple[Growth, ...]
    """The processes that hold more bytes, or as many bytes in more buffers; the largest growth
    first."""
