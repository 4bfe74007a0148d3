"""Fences that a test signals: of vgem, which every distribution has, or of a software timeline."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from dmabuf import sw_sync
from dmabuf._closing import Closing
from dmabuf._record import record
from dmabuf.access import Access
from dmabuf.buffer import Buffer
from dmabuf.devices.drm import Vgem
from dmabuf.errors import UnsupportedError, message_of
from dmabuf.exporters import allocate as allocate_best
from dmabuf.fence import Fence


@record
class PendingFence(NamedTuple):
    """A pending fence, and the call that signals it.

    For example:

        with open_source() as source, source.pending().fence as fence:
            assert not fence.signaled
    """

    fence: Fence
    """The fence, active until it is signalled. Whoever asked for it closes it."""
    signal: Callable[[], None]
    """Signals the fence, once."""


class VgemSource(Closing):
    """Fences of vgem, which expire after 10 s: a test that comes too late fails in `signal()`.

    Each is that of vgem as the writer of a buffer of its own. Thread-safe. Use it as a context
    manager, or call `close()`.

        with VgemSource() as source:
            pending = source.pending()
            pending.signal()
            assert pending.fence.wait(timeout=1)
            pending.fence.close()
    """

    driver = "vgem"
    """The driver's name, as `FencePoint.driver` has it."""

    def __init__(self) -> None:
        """Open vgem. UnsupportedError where there is none."""
        self._device = Vgem()

    def pending(self) -> PendingFence:
        """Return a new fence, on a timeline of its own. UnsupportedError before Linux 6.0."""
        with allocate_here(4096) as buffer:
            return self._attach(buffer)

    def many(self, count: int) -> list[PendingFence]:
        """Return new fences, quickly after each other: their 10 s begin together."""
        with ExitStack() as stack:
            buffers = [stack.enter_context(allocate_here(4096)) for _ in range(count)]
            return [self._attach(buffer) for buffer in buffers]

    def _attach(self, buffer: Buffer) -> PendingFence:
        with self._device.import_buffer(buffer) as gem:
            fence = self._device.attach_fence(gem, Access.WRITE)
            return PendingFence(buffer.export_fence(Access.READ), fence.signal)

    def close(self) -> None:
        """Signal all, and close vgem."""
        self._device.close()

    def __enter__(self) -> VgemSource:
        return self


class SwSyncSource(Closing):
    """Fences of software timelines: needs CONFIG_SW_SYNC, debugfs and root.

    They never expire. Use it as a context manager, or call `close()`.

        with SwSyncSource() as source:
            pending = source.pending()
            pending.signal()
            assert pending.fence.signaled
            pending.fence.close()
    """

    driver = "sw_sync"
    """The driver's name, as `FencePoint.driver` has it."""

    def __init__(self) -> None:
        """Prepare for fences. UnsupportedError where the kernel has none; PermissionError."""
        sw_sync.Timeline().close()
        self._timelines: list[sw_sync.Timeline] = []

    def pending(self) -> PendingFence:
        """Return a new fence, on a timeline of its own."""
        timeline = sw_sync.Timeline()
        self._timelines.append(timeline)
        return PendingFence(timeline.fence(1), timeline.advance)

    def many(self, count: int) -> list[PendingFence]:
        """Return new fences, quickly after each other."""
        return [self.pending() for _ in range(count)]

    def close(self) -> None:
        """Signal all that is pending, with the error ENOENT."""
        while self._timelines:
            self._timelines.pop().close()

    def __enter__(self) -> SwSyncSource:
        return self


def open_source() -> VgemSource | SwSyncSource:
    """Return the source of fences that works here: vgem's, or else software timelines.

    UnsupportedError with both reasons where neither does.
    """
    try:
        return _open_vgem()
    except OSError as error:
        vgem = message_of(error)
    try:
        return SwSyncSource()
    except OSError as error:
        text = f"there are no fences to be signalled by hand: {vgem}; {message_of(error)}"
        raise UnsupportedError(errno.ENODEV, text) from None


def _open_vgem() -> VgemSource:
    source = VgemSource()
    try:
        trial = source.pending()  # the kernel may be too old
        trial.fence.close()
        trial.signal()
    except BaseException:
        source.close()
        raise
    return source


def allocate_here(size: int, *, name: str | None = None) -> Buffer:
    """Allocate from the best exporter that works here: heaps, udmabuf, and vgem as the last.

    AllocationError lists the reasons of all but vgem where none works.
    """
    try:
        return allocate_best(size, name=name)
    except OSError as error:
        try:
            device = Vgem()
        except OSError:
            raise error from None
    with device, device.create_dumb(-(-size // 4), 1, 32) as gem:
        buffer = gem.export()
    try:
        if name is not None:
            buffer.name = name
    except BaseException:
        buffer.close()
        raise
    return buffer
