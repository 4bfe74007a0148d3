"""What a look at the machine's buffers tells: records, read by name."""

from __future__ import annotations

from typing import NamedTuple

from dmabuf._holders import Holder
from dmabuf._record import record

__all__ = ["BufferFence", "BufferUsage", "Diff", "Growth", "Holder", "ProcessUsage", "Total"]


@record
class BufferFence(NamedTuple):
    """A fence on a buffer, as debugfs shows it.

        busy = [buffer for buffer in usage.scan().buffers if buffer.fences]

    Root alone is told of them.
    """

    use: str
    """What the device does: "write", "read", "kernel" (moves the memory) or "bookkeep"."""
    driver: str
    """The driver that will signal it."""
    timeline: str
    """The driver's name for the order in which it does its work."""
    signaled: bool
    """Whether the work is done."""


@record
class BufferUsage(NamedTuple):
    """A buffer, and the processes and devices that are seen to hold it.

        nobody_visible = [buffer for buffer in usage.scan().buffers if not buffer.holders]

    `Usage.buffers` lists them.
    """

    inode: int
    """Its identity: the number in fdinfo, maps and bufinfo. Linux 6.1 and later never reuse one."""
    size: int | None
    """Bytes; None if nothing that may be read tells it."""
    name: str | None
    """What somebody called it; None while unset. Not to be trusted: anybody who holds it may."""
    exporter: str | None
    """Who made it, such as "system" or "udmabuf"; None if nothing that may be read tells it."""
    count: int | None  # type: ignore[assignment]  # which hides tuple.count
    """The kernel's own count of references; None if nothing that may be read tells it."""
    holders: tuple[Holder, ...]
    """The processes that are seen to hold it, by number."""
    devices: tuple[str, ...]
    """The devices that are attached to it. Only root is told, where debugfs is mounted."""
    fences: tuple[BufferFence, ...]
    """The fences on it. Only root is told, where debugfs is mounted."""
    unexplained: int | None
    """References beyond the descriptors and mappings that were seen, at least 0; None with `count`.
    No claim of a leak: `notes` has what they may be."""
    notes: tuple[str, ...]
    """What to know before drawing a conclusion, one sentence each."""


@record
class ProcessUsage(NamedTuple):
    """What one process holds.

        largest = max(usage.scan().processes, key=lambda process: process.share)

    `Usage.processes` lists them.
    """

    pid: int
    """The number of the process."""
    started: int
    """When it started, in clock ticks since the machine booted: its number may be used again."""
    command: str
    """The name of its program, at most 15 bytes, as the program itself has chosen it."""
    user: str
    """The name of the user it runs as, or the number of one without a name."""
    buffers: int
    """How many buffers it holds."""
    descriptors: int
    """How many descriptors of buffers it has."""
    pieces: int
    """How many pieces of mappings of buffers it has."""
    bytes: int
    """The sizes of its buffers, each in full."""
    share: int
    """Its part of them: each buffer's size is split between the processes that hold it, in whole
    bytes. The shares of all processes add up to what they hold together."""


@record
class Total(NamedTuple):
    """A sum over buffers, each counted once.

        usage.scan().exporters["system"].bytes

    `Usage.total` is that of all, and `Usage.exporters` that of each exporter.
    """

    bytes: int
    """The sum of the sizes that are known."""
    buffers: int
    """How many buffers."""
    unsized: int
    """How many of them have no known size."""


@record
class Growth(NamedTuple):
    """A process that holds more than it did.

        [(growth.command, growth.bytes) for growth in before.diff(usage.scan()).grew]

    `Diff.grew` lists them, the most grown first.
    """

    pid: int
    """The number of the process."""
    started: int
    """When it started, in clock ticks since the machine booted."""
    command: str
    """The name of its program."""
    bytes: int
    """How many bytes more than before, each buffer in full."""
    buffers: int
    """How many buffers more than before."""


@record
class Diff(NamedTuple):
    """What changed between two looks.

        before.diff(usage.scan()).came

    `Usage.diff()` makes it.
    """

    came: tuple[BufferUsage, ...]
    """The buffers that were not there before, as they are after."""
    went: tuple[BufferUsage, ...]
    """The buffers that are not there any more, as they were before."""
    grew: tuple[Growth, ...]
    """The processes that hold more bytes, or as many in more buffers; the most grown first."""
