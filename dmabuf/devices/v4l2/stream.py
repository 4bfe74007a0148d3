"""A running V4L2 queue: its buffers are queued, waited for and taken, and all freed at the end."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Sequence
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from dmabuf import _wait
from dmabuf._fd import Descriptor, Hold
from dmabuf.access import Access
from dmabuf.buffer import Buffer, own_buffer
from dmabuf.devices.v4l2 import _ioctl
from dmabuf.devices.v4l2._slot import Slot, Source, checked
from dmabuf.devices.v4l2.frame import Frame
from dmabuf.errors import RefusedError, os_error

if TYPE_CHECKING:
    from dmabuf.devices.v4l2.device import Device
    from dmabuf.devices.v4l2.format import Format

_Self = TypeVar("_Self", bound="Stream")


class _State(Enum):
    NEW, RUNNING, OVER = range(3)


class _StreamOverError(ValueError):
    """The stream was stopped, or its device closed."""


class Stream:
    """The frames of a capture queue while it runs: `with camera.stream(…) as frames`.

    Iterate it (`for`, `async for`), or take one with `frame()`; each is given back by leaving its
    own scope, `with frame`. Entering gives the device every buffer and starts it, leaving stops it
    and takes them back. Single use. Thread-safe: threads may take frames and give them back in any
    order. While all frames are out, taking one waits until some thread has given one back.

    V4L2 waits for no fence and adds none: entering, and giving a frame back, waits for whoever
    still uses the buffers, with `async` in the event loop.
    """

    __slots__ = (
        "__weakref__",
        "_abandoned",
        "_awaiting",
        "_changed",
        "_count",
        "_device",
        "_exported",
        "_format",
        "_free",
        "_kind",
        "_memory",
        "_pollers",
        "_queued",
        "_slots",
        "_state",
        "_stopped",
        "_unused",
    )
    _fills = False
    """Whether frames come empty, to be filled."""
    _access = Access.WRITE
    """What the device does to a buffer."""
    _events = _wait.READABLE

    def __init__(
        self,
        device: Device,
        kind: int,
        format: Format,
        sources: Sequence[Source] | None,
        count: int,
    ) -> None:
        self._state = _State.NEW
        self._device = device
        self._kind = kind
        self._format = format
        self._exported: list[Buffer] = []
        self._slots: list[Slot] = []
        self._free: deque[Slot] = deque()
        self._abandoned: deque[Slot] = deque()
        self._changed = threading.Condition()
        self._pollers: list[int] = []  # their threads
        self._awaiting: list[int] = []  # those of tasks
        self._queued = 0
        self._stopped: Descriptor | None = None
        self._unused = format.sizeimage if self._fills else (0,) * len(format.sizeimage)
        if sources is None:
            self._memory, self._count = _ioctl.V4L2_MEMORY_MMAP, count
        else:
            self._memory, self._count = _ioctl.V4L2_MEMORY_DMABUF, len(sources)
            owners = map(self._checked, sources)
            self._slots = [Slot(place, buffers) for place, buffers in enumerate(owners)]
        most = _ioctl.VIDEO_MAX_FRAME
        if not 1 <= self._count <= most:
            raise ValueError(f"a stream has 1 to {most} buffers, not {self._count}")

    @property
    def format(self) -> Format:
        """What the frames are."""
        return self._format

    @property
    def _imports(self) -> bool:
        """Whether the buffers are the caller's; the stream's own end with it (dup them)."""
        return self._memory == _ioctl.V4L2_MEMORY_DMABUF

    @property
    def running(self) -> bool:
        """Whether it was entered, and neither stopped nor its device closed."""
        return self._state is _State.RUNNING and not self._device.closed

    @property
    def buffers(self) -> list[tuple[Buffer, ...]]:
        """The buffers of each frame."""
        return [slot.buffers for slot in self._slots]

    def _checked(self, source: Source) -> tuple[Buffer, ...]:
        return checked(source, self._format, self._device.path)

    def __enter__(self: _Self) -> _Self:
        self._require(_State.NEW)
        for slot in self._before():
            slot.wait(self._access)
        self._start()
        return self

    async def __aenter__(self: _Self) -> _Self:
        self._require(_State.NEW)
        for slot in self._before():
            await slot.ready(self._access)
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _require(self, state: _State) -> None:
        if self._state is state and not self._device.closed:
            return
        if state is _State.NEW:
            self._device.fileno()  # ValueError if closed
            raise ValueError("a stream is for a single use; make a new one")
        if self._state is _State.NEW:
            raise ValueError("the stream has not begun: use it as `with … as frames`")
        raise _StreamOverError(f"the stream from {self._device.path} is over")

    def _before(self) -> list[Slot]:
        """Return what is to be queued before the start."""
        return self._slots

    def _start(self) -> None:
        kind, memory = self._kind, self._memory
        with self._device._use("stream") as fd:
            count, _ = _ioctl.reqbufs(fd, kind, memory, self._count)
            self._state = _State.RUNNING
            try:
                self._stopped = Descriptor(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
                if self._imports:
                    self._require_count(count)
                else:
                    self._export(fd, count)
                for slot in self._before():
                    self._queue_slot(slot, self._unused, 0.0)
                _ioctl.streamon(fd, kind)
            except BaseException:
                self.stop()
                raise

    def _require_count(self, count: int) -> None:
        if count != self._count:
            limit = f"{count} buffers at the {'least' if count > self._count else 'most'}"
            what = f"{self._device.path} wants {limit}, not {self._count}"
            raise RefusedError(errno.EINVAL, what)

    def _export(self, fd: int, count: int) -> None:
        for place in range(count):
            for plane in range(len(self._format.sizeimage)):
                number = _ioctl.expbuf(fd, self._kind, place, plane)
                self._exported.append(own_buffer(number))
            self._slots.append(Slot(place, tuple(self._exported[-plane - 1 :])))

    def stop(self) -> None:
        """Stop the device and free its buffers; the stream's own are closed. Idempotent.

        Iterations end, in other threads too, and frames that are out need not be given back. A
        device that has gone is as good as stopped. OSError (EBUSY) from drivers that can't let go
        of their buffers while somebody has a duplicate or a mapping.
        """
        with self._changed:
            if self._state is not _State.RUNNING:
                return
            self._state = _State.OVER
        try:
            with contextlib.suppress(ValueError), self._device._use("stop") as fd:
                _ioctl.streamoff(fd, self._kind)
                nobody_polls = self._end_waits()
                self._close_exported()
                if nobody_polls:
                    _ioctl.reqbufs(fd, self._kind, self._memory, 0)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
        finally:
            self._close_exported()
            if self._stopped is not None:
                self._stopped.close()

    def _end_waits(self) -> bool:
        """End all polls, since a poll of a queue without buffers would start read(2) on it.

        False if one goes on, in the thread that a signal handler stops, or in an event loop of
        another thread: then the buffers are left to the next stream, or to the device's close.
        """
        woken = _wait.wake(self._device, self._events)
        if self._stopped is not None:
            with Hold(self._stopped) as number:
                os.eventfd_write(number, 1)
        own = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: all(thread == own for thread in self._pollers))
            mine = all(thread == own for thread in self._awaiting)  # woken, if they are
            return woken and mine and not self._pollers

    def _close_exported(self) -> None:
        while self._exported:
            self._exported.pop().close()

    def frame(self, timeout: float | None = None) -> Frame:
        """Return the next frame, which is the caller's until given back: `with frame`.

        Waits `timeout` seconds at the most: TimeoutError. ValueError once the stream is over.
        OSError (ENODEV) if the device has gone, EIO if it has failed, BrokenPipeError (EPIPE) after
        a codec's last frame.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            frame = self._ready()
            if frame is not None:
                return frame
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            if not self._wait(left):
                what = f"no frame from {self._device.path} within {timeout} s"
                raise os_error(errno.ETIMEDOUT, what)

    def _wait(self, timeout: float | None) -> bool:
        """Wait for the device, or for the end; False on a time-out."""
        own = threading.get_ident()
        with self._changed:
            if not self.running:
                return True
            self._pollers.append(own)
        try:
            return _wait.wait(self._device, self._events, timeout, self._stopped)
        finally:
            with self._changed:
                self._pollers.remove(own)
                self._changed.notify_all()

    def _ready(self) -> Frame | None:
        """Return a frame if there is one now."""
        self._require(_State.RUNNING)
        self._take_abandoned()
        try:
            with self._device._use("take a frame") as fd:
                done = _ioctl.dqbuf(fd, self._kind, self._memory)
        except BlockingIOError:
            if self._device.m2m and not self._queued:
                what = f"the device has none of the stream's {len(self._slots)} buffers"
                raise ValueError(f"{what}; give a frame back before the next") from None
            return None
        except (OSError, ValueError):
            self._require(_State.RUNNING)  # or stopped meanwhile
            raise
        with self._changed:
            self._queued -= 1
        return Frame(self, self._slots[done.slot], done)

    def _take_abandoned(self) -> None:
        """Queue what frames left behind that were collected, or could not be given back."""
        for _ in range(len(self._abandoned)):
            slot = self._abandoned.popleft()
            if all(buffer.is_idle(self._access) for buffer in slot.buffers):
                self._queue_slot(slot, self._unused, 0.0)
            else:
                self._abandoned.append(slot)

    def _abandon(self, slot: Slot) -> None:
        """Take a slot back that no frame has any more. Called by finalizers."""
        self._abandoned.append(slot)

    def _give(self, slot: Slot, bytes_used: Sequence[int], timestamp: float) -> None:
        """Give the device a slot once it may have the buffers; nothing once the stream is over."""
        try:
            if self.running:
                slot.wait(self._access)
                self._queue_slot(slot, bytes_used, timestamp)
        except ValueError:
            if self.running:
                raise  # else the stream has closed its buffers

    async def _give_later(self, slot: Slot, bytes_used: Sequence[int], timestamp: float) -> None:
        """Give, and wait in asyncio."""
        try:
            if self.running:
                await slot.ready(self._access)
                self._queue_slot(slot, bytes_used, timestamp)
        except ValueError:
            if self.running:
                raise

    def _queue_slot(self, slot: Slot, bytes_used: Sequence[int], timestamp: float) -> None:
        """Give the device a slot now; nothing once the stream is over."""
        with contextlib.ExitStack() as stack:
            parts = [
                (stack.enter_context(Hold(buffer)), buffer.size, used, 0)
                for buffer, used in zip(slot.buffers, bytes_used, strict=True)
            ]
            with self._changed:
                if not self.running:
                    return
                with self._device._use("queue a buffer") as fd:
                    _ioctl.qbuf(fd, self._kind, self._memory, slot.place, parts, timestamp)
                slot.used = True
                self._queued += 1

    def __iter__(self: _Self) -> _Self:
        return self

    def __next__(self) -> Frame:
        try:
            return self.frame()
        except (_StreamOverError, BrokenPipeError):
            raise StopIteration from None

    def __aiter__(self: _Self) -> _Self:
        return self

    async def __anext__(self) -> Frame:
        try:
            while (frame := self._ready()) is None:
                await self._wait_in_loop()
            return frame
        except (_StreamOverError, BrokenPipeError):
            raise StopAsyncIteration from None

    async def _wait_in_loop(self) -> None:
        own = threading.get_ident()
        with self._changed:
            self._require(_State.RUNNING)
            self._awaiting.append(own)
        try:
            await _wait.ready(self._device, self._events)
        except ValueError:
            self._require(_State.RUNNING)
            raise
        finally:
            with self._changed:
                self._awaiting.remove(own)

    def __del__(self) -> None:
        if self._state is _State.RUNNING and not self._device.closed:
            try:
                warnings.warn(f"unstopped {self!r}", ResourceWarning, stacklevel=2, source=self)
            finally:
                self.stop()

    def __repr__(self) -> str:
        state = self._state.name.lower()
        return f"<dmabuf.devices.v4l2.{type(self).__name__} {self._device.path} [{state}]>"
