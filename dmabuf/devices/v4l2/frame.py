"""One frame of a V4L2 stream: its buffers, while the device does not have them."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Sequence
from enum import IntFlag
from types import TracebackType

from dmabuf.access import AccessScope
from dmabuf.buffer import Buffer
from dmabuf.devices.v4l2 import _ioctl
from dmabuf.devices.v4l2._data import DataScope
from dmabuf.devices.v4l2._ring import GivenBackError, Loan, Ring
from dmabuf.devices.v4l2._source import Source, source_buffers
from dmabuf.errors import RefusedError
from dmabuf.image import Image


class FrameFlag(IntFlag):
    """What a driver reports about a frame: the V4L2_BUF_FLAG bits that concern programs.

        with frames.frame() as frame:
            is_last = v4l2.FrameFlag.LAST in frame.flags

    `Frame.flags` holds them.
    """

    KEYFRAME = _ioctl.V4L2_BUF_FLAG_KEYFRAME
    """The frame is coded without reference to other frames."""
    PFRAME = _ioctl.V4L2_BUF_FLAG_PFRAME
    """The frame is coded as the difference from an earlier frame."""
    BFRAME = _ioctl.V4L2_BUF_FLAG_BFRAME
    """The frame is coded as the difference from an earlier and a later frame."""
    ERROR = _ioctl.V4L2_BUF_FLAG_ERROR
    """The data may be damaged."""
    LAST = _ioctl.V4L2_BUF_FLAG_LAST
    """The last frame of a codec that was told to stop."""


_FLAGS = sum(FrameFlag)

Data = bytes | bytearray | memoryview
"""What has the buffer protocol; arrays of numpy, too."""


class Frame:
    """A frame that a capture device has filled or, for an output, an empty frame to fill.

        with frames.frame(timeout=2) as frame, frame.image.read() as (pixels,):
            print(frame.sequence, pixels.mean())

    The caller has the frame until it is given back, once: at the end of `with frame` or `async with
    frame`, or earlier by `queue()`. An output's frame then goes to the device. Any thread may give
    it back; if several try, one succeeds and the others get ValueError. Afterwards `image` and
    `buffers` raise ValueError. An array that outlives the frame stays valid memory, and the device
    writes into it. A frame that is garbage collected is given back with a ResourceWarning.
    """

    __slots__ = ("__weakref__", "_loan", "_ring", "_timestamp", "_used")

    def __init__(self, ring: Ring, loan: Loan) -> None:
        self._ring = ring
        self._loan = loan
        self._used = ring.unused
        self._timestamp = 0.0

    @property
    def image(self) -> Image:
        """The frame as an `Image`. ValueError if its pixel format is not in dmabuf's table."""
        ring, told = self._ring, self._captured()
        slot = ring.slot(self._loan)
        offsets = (0,) * len(slot.buffers) if told is None else told.offsets
        return slot.image(ring.format, offsets)

    def _captured(self) -> _ioctl.BufferStruct | None:
        """Return what the driver says of a frame that it has filled; None of one to be filled."""
        return None if self._ring.fills else self._loan.done

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The buffers of the frame: one, or one per plane."""
        return self._ring.slot(self._loan).buffers

    @property
    def sequence(self) -> int:
        """The driver's frame counter; gaps mean dropped frames. 0 for an output's first frames."""
        return self._loan.done.sequence if self._loan.done is not None else 0

    @property
    def was_queued(self) -> bool:
        """True if this slot's buffers have been queued at least once in this stream."""
        return self._ring.slot(self._loan).was_queued

    @property
    def flags(self) -> FrameFlag:
        """What the driver reports about the frame; for an output, about the slot's last frame."""
        return FrameFlag(self._loan.done.flags & _FLAGS if self._loan.done is not None else 0)

    @property
    def damaged(self) -> bool:
        """True if the driver reports that the data may be damaged (V4L2_BUF_FLAG_ERROR)."""
        return bool(self.flags & FrameFlag.ERROR)

    @property
    def timestamp(self) -> float:
        """The time of capture, in `time.monotonic()` seconds.

        For an output it can be set. A memory-to-memory device copies it to the frame that it makes.
        """
        told = self._captured()
        return self._timestamp if told is None else told.timestamp

    @timestamp.setter
    def timestamp(self, seconds: float) -> None:
        self._require_output("timestamp")
        self._timestamp = float(seconds)

    @property
    def bytes_used(self) -> tuple[int, ...]:
        """The end of the data in each buffer, in bytes from the start of the buffer.

        For an output it can be set; the default is `Format.sizeimage`.
        """
        told = self._captured()
        return self._used if told is None else told.bytes_used

    @bytes_used.setter
    def bytes_used(self, used: Sequence[int]) -> None:
        self._require_output("bytes_used")
        limits = self._ring.format.sizeimage
        numbers = tuple(used)
        if len(numbers) != len(limits) or not all(
            0 < number <= limit for number, limit in zip(numbers, limits, strict=False)
        ):
            raise ValueError(f"bytes_used of a frame must be from 1 to {limits}, not {numbers}")
        self._used = numbers

    @property
    def data(self) -> AccessScope:
        """A scope of the frame's data: `with frame.data as data` gives a read-only memoryview.

        For compressed formats (MJPG, H264), which have no `image`. The memoryview covers only the
        bytes in use; copy them with `bytes(data)` or pass it to a decoder. Entering blocks until
        pending writers are done; in asyncio use `async with`. The errors are those of
        `Buffer.read()`. ValueError if the frame has several buffers.
        """
        buffers, told = self.buffers, self._captured()
        if len(buffers) != 1:
            raise ValueError(
                f"this frame has {len(buffers)} buffers, one per plane; use read() of each of them"
            )
        return DataScope(buffers[0], 0 if told is None else told.offsets[0], self.bytes_used[0])

    def fill(self, data: Data) -> None:
        """Copy bytes into an output's frame, and set `bytes_used` to their number.

        For the coded data that a decoder takes. `data` is bytes, or any contiguous object with the
        buffer protocol. ValueError if it is empty or too large, or if the frame has several
        buffers. Waits, and raises other errors, as `Buffer.write()` does.
        """
        self._require_output("data")
        view, buffers = memoryview(data).cast("B"), self.buffers
        limits = self._ring.format.sizeimage
        if len(buffers) != 1:
            raise ValueError(
                f"this frame has {len(buffers)} buffers, one per plane; use write() of each of them"
            )
        if not 0 < view.nbytes <= limits[0]:
            raise ValueError(
                f"a frame of {self._ring.path} takes 1 to {limits[0]} bytes, not {view.nbytes};"
                " set a format of a larger size for more"
            )
        with buffers[0].write() as memory:
            memory[: view.nbytes] = view
        self.bytes_used = (view.nbytes,)

    def _require_output(self, what: str) -> None:
        if not self._ring.fills:
            raise AttributeError(f"the {what} of a captured frame can't be set")

    def replace(self, source: Source) -> None:
        """Replace the frame's buffers by others. The old ones may then be used for anything.

        RefusedError (EINVAL) if the stream uses the device's own buffers, or if the new ones do not
        fit its format. ValueError if the device already has one of them or, for a capture, will get
        it with another frame.
        """
        self._ring.slot(self._loan)
        if not self._ring.session.imports:
            text = "the stream has its device's own buffers; to replace them give stream() yours"
            raise RefusedError(errno.EINVAL, text)
        buffers = source_buffers(source, self._ring.format, self._ring.path)
        self._ring.replace(self._loan, buffers)

    def queue(self) -> None:
        """Give the frame to the device now. Blocks until the fences of its buffers have signalled.

        After the end of the stream the frame is only given back. ValueError the second time. If
        this fails, the caller still has the frame. Follows VIDIOC_QBUF.
        """
        self._ring.queue(self._loan, self._used, self._timestamp)

    def leave(self) -> None:
        """Give the frame back without waiting.

        The device gets its buffers now or, if their fences are pending, when a later frame is
        taken. An output does not show it. ValueError the second time. If this fails, the caller
        still has the frame.
        """
        self._ring.queue_now(self._loan, self._used, self._timestamp)

    def __enter__(self) -> Frame:
        self._ring.slot(self._loan)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None or not self._ring.fills:  # half a picture is not shown
                self._ring.queue(self._loan, self._used, self._timestamp)
            else:
                self._ring.leave(self._loan)
        except GivenBackError:
            pass  # by queue(), or by another thread
        except BaseException:
            self._ring.leave(self._loan)  # it could not be queued
            raise

    async def __aenter__(self) -> Frame:
        self._ring.slot(self._loan)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None or not self._ring.fills:
                await self._ring.queue_later(self._loan, self._used, self._timestamp)
            else:
                self._ring.leave(self._loan)
        except GivenBackError:
            pass
        except BaseException:
            self._ring.leave(self._loan)
            raise

    def __del__(self) -> None:
        try:
            if not self._ring.holds(self._loan):
                return
        except AttributeError:
            return  # the constructor was interrupted
        self._ring.collect(self._loan)
        if self._ring.session.running:
            message = f"a frame from {self._ring.path} was not given back; use `with frame`"
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        try:
            state = f"buffers={self.buffers}"
        except GivenBackError:
            state = "[given back]"
        return f"<dmabuf.devices.v4l2.Frame {self.sequence} {state}>"
