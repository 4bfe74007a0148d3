"""One frame of a V4L2 stream: its buffers, for as long as the device has not got them."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Sequence
from enum import IntFlag
from types import TracebackType
from typing import TYPE_CHECKING

from dmabuf.devices.v4l2 import _ioctl
from dmabuf.errors import RefusedError

if TYPE_CHECKING:
    from dmabuf.buffer import Buffer
    from dmabuf.devices.v4l2._slot import Slot, Source
    from dmabuf.devices.v4l2.stream import Stream
    from dmabuf.image import Image


class FrameFlag(IntFlag):
    """What a driver says of a frame: the V4L2_BUF_FLAG bits that are for programs."""

    KEYFRAME = _ioctl.V4L2_BUF_FLAG_KEYFRAME
    """It is coded without reference to others."""
    PFRAME = _ioctl.V4L2_BUF_FLAG_PFRAME
    """It is coded as the difference to an earlier one."""
    BFRAME = _ioctl.V4L2_BUF_FLAG_BFRAME
    """It is coded as the difference to an earlier and a later one."""
    ERROR = _ioctl.V4L2_BUF_FLAG_ERROR
    """Its data may be damaged."""
    LAST = _ioctl.V4L2_BUF_FLAG_LAST
    """It is the last one of a codec that was told to end."""


_FLAGS = sum(FrameFlag)


class Frame:
    """A frame that the device has filled or, of an output, one to be filled; given back once.

    `with frame` (or `async with`) gives it back on leaving, `queue()` at once: an output's goes to
    the device then. From any thread. Its image and buffers are for the time before: ValueError
    later. Arrays that outlive it stay valid memory, into which the device writes.
    """

    __slots__ = ("__weakref__", "_done", "_kept", "_stream", "_timestamp", "_used")

    def __init__(self, stream: Stream, slot: Slot, done: _ioctl.Dequeued | None) -> None:
        self._stream = stream
        self._kept = [slot]  # until given back: the thread that pops it gives it back
        self._done = done
        self._used = stream._unused
        self._timestamp = 0.0
        if done is not None and not stream._fills:
            self._used = tuple(used for used, _ in done.planes)
            self._timestamp = done.timestamp

    def _slot(self) -> Slot:
        try:
            return self._kept[0]
        except IndexError:
            raise ValueError("operation on a frame that was given back") from None

    @property
    def image(self) -> Image:
        """The picture. ValueError if its format is not in dmabuf's table of pixel formats."""
        slot = self._slot()
        offsets = (0,) * len(slot.buffers)
        if self._done is not None and not self._stream._fills:
            offsets = tuple(offset for _, offset in self._done.planes)
        return slot.image(self._stream, offsets)

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """Its buffer, or one for each plane."""
        return self._slot().buffers

    @property
    def sequence(self) -> int:
        """Its number: a gap tells of frames that were lost. 0 if the device has not had it."""
        return self._done.sequence if self._done is not None else 0

    @property
    def used(self) -> bool:
        """Whether the device has had its buffers."""
        return self._slot().used

    @property
    def flags(self) -> FrameFlag:
        """What the driver says of it; of an output, of what it held before."""
        return FrameFlag(self._done.flags & _FLAGS if self._done is not None else 0)

    @property
    def error(self) -> bool:
        """Whether the driver says that its data may be damaged."""
        return bool(self.flags & FrameFlag.ERROR)

    @property
    def timestamp(self) -> float:
        """When it was captured, in `time.monotonic()` seconds.

        An output's may be set: memory-to-memory devices hand it on to what they make of the frame.
        """
        return self._timestamp

    @timestamp.setter
    def timestamp(self, seconds: float) -> None:
        self._require_output("timestamp")
        self._timestamp = float(seconds)

    @property
    def bytes_used(self) -> tuple[int, ...]:
        """The bytes of each buffer that hold data, those before it included.

        An output's may be set, and are sizeimage otherwise.
        """
        return self._used

    @bytes_used.setter
    def bytes_used(self, used: Sequence[int]) -> None:
        self._require_output("bytes_used")
        limits = self._stream.format.sizeimage
        numbers = tuple(used)
        if len(numbers) != len(limits) or not all(
            0 < number <= limit for number, limit in zip(numbers, limits, strict=False)
        ):
            raise ValueError(f"bytes_used of a frame are 1 to {limits}, not {numbers}")
        self._used = numbers

    def _require_output(self, what: str) -> None:
        if not self._stream._fills:
            raise AttributeError(f"the {what} of a captured frame can't be set")

    def replace(self, source: Source) -> None:
        """Put other buffers in the place of the frame's, which are the caller's from then on.

        For streams on buffers of the caller's: RefusedError (EINVAL) otherwise, and if they don't
        fit the stream's format.
        """
        slot = self._slot()
        if not self._stream._imports:
            what = "the stream has its device's own buffers; begin one on buffers of yours to"
            raise RefusedError(errno.EINVAL, f"{what} replace them")
        slot.replace(self._stream._checked(source))

    def queue(self) -> None:
        """Give it to the device now, after waiting for its buffers' fences; nothing if it stopped.

        ValueError the second time. It stays the caller's if this fails.
        """
        slot = self._take()
        try:
            self._stream._give(slot, self._used, self._timestamp)
        except BaseException:
            self._kept.append(slot)
            raise

    def _take(self) -> Slot:
        try:
            return self._kept.pop()
        except IndexError:
            raise ValueError("operation on a frame that was given back") from None

    def __enter__(self) -> Frame:
        self._slot()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        slot = self._left(error)
        if slot is not None:
            try:
                self._stream._give(slot, self._used, self._timestamp)
            except BaseException:
                self._stream._abandon(slot)
                raise

    async def __aenter__(self) -> Frame:
        self._slot()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        slot = self._left(error)
        if slot is not None:
            try:
                await self._stream._give_later(slot, self._used, self._timestamp)
            except BaseException:
                self._stream._abandon(slot)
                raise

    def _left(self, error: BaseException | None) -> Slot | None:
        """Return what is to be queued as the scope is left; None if `queue()` has done it."""
        try:
            slot = self._kept.pop()
        except IndexError:
            return None
        if error is not None and self._stream._fills:
            self._stream._abandon(slot)  # half a picture isn't shown
            return None
        return slot

    def __del__(self) -> None:
        try:
            slot = self._kept.pop()
        except (AttributeError, IndexError):
            return
        if self._stream.running:
            self._stream._abandon(slot)
            message = f"a frame of {self._stream!r} was not given back; use `with frame`"
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        state = f"buffers={self._kept[0].buffers}" if self._kept else "[given back]"
        return f"<dmabuf.devices.v4l2.Frame {self.sequence} {state}>"
