"""Fences that a test signals: of vgem, or of the kernel's software timeline."""

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
    """A pending fence, and the function that signals it.

        with open_source() as source, source.pending().fence as fence:
            assert not fence.signaled

    A source's `pending()` returns it.
    """

    fence: Fence
    """The fence, active until it is signalled. The caller closes it."""
    signal: Callable[[], None]
    """Call it once to signal the fence."""


class VgemSource(Closing):
    """Fences of vgem. They expire after 10 seconds, and then `signal()` raises TimeoutError.

        with VgemSource() as source:
            pending = source.pending()
            pending.signal()
            assert pending.fence.wait(timeout=1)
            pending.fence.close()

    Each is the write fence of a buffer of its own. Thread-safe. Use it as a context manager, or
    call `close()`.
    """

    driver = "vgem"
    """The driver's name, as `FencePoint.driver` has it."""

    def __init__(self) -> None:
        """Open vgem. UnsupportedError if there is none."""
        self._device = Vgem()

    def pending(self) -> PendingFence:
        """Return a new fence, on its own timeline. Needs Linux 6.0: UnsupportedError."""
        with allocate_here(4096) as buffer:
            return self._attach(buffer)

    def many(self, count: int) -> list[PendingFence]:
        """Return `count` new fences, made together, so that their 10 seconds begin together."""
        with ExitStack() as stack:
            buffers = [stack.enter_context(allocate_here(4096)) for _ in range(count)]
            return [self._attach(buffer) for buffer in buffers]

    def _attach(self, buffer: Buffer) -> PendingFence:
        with self._device.import_buffer(buffer) as gem:
            fence = self._device.attach_fence(gem, Access.WRITE)
            return PendingFence(buffer.export_fence(Access.READ), fence.signal)

    def close(self) -> None:
        """Signal all fences and close vgem."""
        self._device.close()

    def __enter__(self) -> VgemSource:
        return self


class SwSyncSource(Closing):
    """Fences of software timelines, which never expire. Needs CONFIG_SW_SYNC, debugfs and root.

        with SwSyncSource() as source:
            pending = source.pending()
            pending.signal()
            assert pending.fence.signaled
            pending.fence.close()

    Use it as a context manager, or call `close()`.
    """

    driver = "sw_sync"
    """The driver's name, as `FencePoint.driver` has it."""

    def __init__(self) -> None:
        """Prepare. UnsupportedError if the kernel lacks sw_sync; PermissionError without root."""
        sw_sync.Timeline().close()
        self._timelines: list[sw_sync.Timeline] = []

    def pending(self) -> PendingFence:
        """Return a new fence, on its own timeline."""
        timeline = sw_sync.Timeline()
        self._timelines.append(timeline)
        return PendingFence(timeline.fence(1), timeline.advance)

    def many(self, count: int) -> list[PendingFence]:
        """Return `count` new fences."""
        return [self.pending() for _ in range(count)]

    def close(self) -> None:
        """End all pending fences with the error ENOENT."""
        while self._timelines:
            self._timelines.pop().close()

    def __enter__(self) -> SwSyncSource:
        return self


def open_source() -> VgemSource | SwSyncSource:
    """Return a source of fences that works here: `VgemSource`, otherwise `SwSyncSource`.

    UnsupportedError with both reasons if neither works.
    """
    try:
        return _open_vgem()
    except OSError as error:
        vgem = message_of(error)
    try:
        return SwSyncSource()
    except OSError as error:
        text = f"no source of fences works here: {vgem}; {message_of(error)}"
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
    """Allocate from the best exporter that works here: a heap, udmabuf, or vgem as the last.

    AllocationError lists the reasons of all but vgem if none works.
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
