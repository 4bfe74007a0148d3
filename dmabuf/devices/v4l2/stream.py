"""A running V4L2 queue, from which frames are taken one after the other."""

from __future__ import annotations

import errno
import warnings
from typing import TypeVar

from dmabuf.buffer import Buffer
from dmabuf.devices.v4l2._frames import Frames
from dmabuf.devices.v4l2._ring import Loan, Ring, SlotState
from dmabuf.devices.v4l2._source import Source
from dmabuf.devices.v4l2.format import Format
from dmabuf.devices.v4l2.frame import Frame
from dmabuf.errors import os_error

_Self = TypeVar("_Self", bound="Stream")


class Stream(Frames):
    """The frames of a capture queue while it runs: `with camera.stream(…) as frames`.

        with camera.stream(count=4) as frames:
            for frame in frames:
                with frame:
                    frame.image.save("frame.png")
                    break

    Iterate it with `for` or `async for`, or take one frame with `frame()`. Give each frame back by
    leaving its scope, `with frame`. Entering the stream gives every buffer to the device and starts
    it; leaving stops it and takes the buffers back. A stream can be used once.

    Thread-safe: threads may take frames and give them back in any order. If all frames are held,
    taking one waits until a thread gives one back. A forked child may read the frames that are
    held; it takes none and stops nothing.

    V4L2 neither waits for fences nor adds any. So entering the stream and giving a frame back wait
    until nobody else uses the buffers; with `async with` they wait in the event loop.
    """

    __slots__ = ("__weakref__", "_ring")

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    @property
    def format(self) -> Format:
        """The format of the frames."""
        return self._ring.format

    @property
    def running(self) -> bool:
        """True from entering until the stream is stopped or its device is closed."""
        return self._ring.session.running

    @property
    def buffers(self) -> list[tuple[Buffer, ...]]:
        """The buffers of each slot: those given to `stream()`, or the device's own after entering.

        The device's own are closed with the stream: `dup()` those that must outlive it.
        """
        return self._ring.buffers

    def __enter__(self: _Self) -> _Self:
        self._ring.wait_to_start()
        self._ring.start()
        return self

    async def __aenter__(self: _Self) -> _Self:
        await self._ring.ready_to_start()
        self._ring.start()
        return self

    def _end(self) -> None:
        self._ring.stop()

    def stop(self) -> None:
        """Stop the device and free its buffers; the device's own are closed.

        Iterations end, in other threads too. Frames that are held do not need to be given back. If
        the device is gone, it counts as stopped. OSError (EBUSY) from drivers that can't free their
        buffers while somebody has a duplicate or a mapping. After an error the device may still
        have the buffers, and is busy for other streams until it is closed. Does nothing the second
        time. Follows VIDIOC_STREAMOFF.
        """
        self._ring.stop()

    def take(self) -> Frame | None:
        """Return a frame without waiting; None if there is none yet.

        The errors are those of `frame()`.
        """
        loan = Loan()
        try:
            return Frame(self._ring, loan) if self._ring.take(loan) else None
        except BaseException:
            self._ring.leave(loan)
            raise

    def _is_late(self) -> bool:
        return self._ring.is_late()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until there may be a frame, or the stream is over. Return False on a timeout.

        `timeout` is in seconds.
        """
        return self._ring.session.wait(timeout)

    async def ready(self) -> None:
        """Wait in asyncio until there may be a frame, or the stream is over."""
        await self._ring.session.ready()

    def _timed_out(self, timeout: float | None) -> OSError:
        path, held, all_of_them = self._ring.path, self._ring.count(SlotState.HELD), self.buffers
        message = f"no frame from {path} within {timeout:g} s"
        if held == len(all_of_them):
            message = (
                f"no frame from {path} within {timeout:g} s: all {held} are held;"
                " leave a frame's `with`, or queue() one"
            )
        return os_error(errno.ETIMEDOUT, message)

    def __del__(self) -> None:
        try:
            ring = self._ring
        except AttributeError:
            return  # the constructor was interrupted
        try:
            if ring.session.running:
                warnings.warn(f"unstopped {self!r}", ResourceWarning, stacklevel=2, source=self)
        finally:
            ring.stop()

    def __repr__(self) -> str:
        state = self._ring.session.state.name.lower()
        return f"<dmabuf.devices.v4l2.{type(self).__name__} {self._ring.path} [{state}]>"


class OutputStream(Stream):
    """The frames of an output queue while it runs: `with output.stream(…) as frames`.

        with output.stream(count=3) as frames:
            with frames.frame() as frame, frame.image.write() as (pixels,):
                pixels[:] = 0

    It works as a `Stream`, but frames are empty: fill one and leave its scope, which queues it. If
    an exception leaves the scope, the frame is not queued. Queueing waits for pending writers of
    the buffers.
    """

    __slots__ = ()

    def queue(self, source: Source, timeout: float | None = None) -> tuple[Buffer, ...] | None:
        """Queue a frame on your own buffers as soon as the device has a free slot.

        Returns the buffers that were in the slot before, which the device no longer uses; None if
        the slot was unused. TimeoutError if `timeout` seconds pass first. RefusedError if the
        buffers do not fit the format, or the stream uses the device's own. ValueError if the device
        still has one of them.
        """
        with self.frame(timeout) as frame:
            done = frame.buffers if frame.was_queued else None
            frame.replace(source)
        return done
