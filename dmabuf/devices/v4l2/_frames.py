"""What frames are taken from, one after the other: in loops, with a time-out, in asyncio."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

from dmabuf import _wait
from dmabuf._timeout import deadline, seconds_left
from dmabuf.devices.v4l2._session import StreamOverError
from dmabuf.devices.v4l2.frame import Frame

_Self = TypeVar("_Self", bound="Frames")


class Frames:
    """An iterator of frames, also for `async for`, and the end of its scope."""

    __slots__ = ()

    def _end(self) -> None:
        """End the work, at the end of a `with` or an `async with` block."""
        raise NotImplementedError

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def take(self) -> Frame | None:
        """Return a frame without waiting; None if there is none yet."""
        raise NotImplementedError

    def _is_late(self) -> bool:
        """Whether the next frame had better be waited for before it is looked for."""
        return False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until there may be a frame. False if `timeout` seconds pass first."""
        raise NotImplementedError

    async def ready(self) -> None:
        """Wait in asyncio until there may be a frame."""
        raise NotImplementedError

    def _timed_out(self, timeout: float | None) -> OSError:
        """Say that no frame has come."""
        raise NotImplementedError

    def frame(self, timeout: float | None = None) -> Frame:
        """Return the next frame. The caller has it until it is given back: `with frame`.

        TimeoutError if `timeout` seconds pass first. ValueError after the end of the stream.
        OSError: ENODEV if the device is gone, EIO if it has failed; BrokenPipeError (EPIPE) after
        the last frame of a codec.
        """
        end = deadline(timeout)
        left: float | None = None
        looks = not self._is_late()
        while not looks or (frame := self.take()) is None:
            looks = True
            late, left = left == 0.0, seconds_left(end)
            if late or not self.wait(left):
                raise self._timed_out(timeout)
        return frame

    def __iter__(self: _Self) -> _Self:
        return self

    def __next__(self) -> Frame:
        try:
            return self.frame()
        except (StreamOverError, BrokenPipeError):
            raise StopIteration from None

    def __aiter__(self: _Self) -> _Self:
        return self

    async def __anext__(self) -> Frame:
        await _wait.turn()
        try:
            if self._is_late():
                await self.ready()
            while (frame := self.take()) is None:
                await self.ready()
            return frame
        except (StreamOverError, BrokenPipeError):
            raise StopAsyncIteration from None
