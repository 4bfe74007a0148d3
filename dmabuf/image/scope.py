"""The processor's access to an image: the brackets of all its buffers, and its planes as arrays."""

from __future__ import annotations

from itertools import repeat
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dmabuf import _wait
from dmabuf._fd import UNUSED, HoldUsedError
from dmabuf.access import EVENTS, Bracket, end_left, enter, leave
from dmabuf.buffer import Buffer
from dmabuf.image.planes import Places

if TYPE_CHECKING:
    import numpy


def _arrays(*arguments: Any) -> tuple[numpy.ndarray[Any, Any], ...]:
    """Return `plane_arrays`; numpy comes with the first call, and is not looked up again."""
    global _arrays
    from dmabuf.image._arrays import plane_arrays

    _arrays = plane_arrays
    return plane_arrays(*arguments)


class ImageScope(Bracket):
    """The brackets of one access to all buffers of an image. It can be used once.

        with image.write() as (luma, chroma):
            luma[:] = 16

    Entering returns the planes as numpy arrays. `with` blocks until the access can begin; `async
    with` waits in the event loop. Each buffer gets its SYNC END, also when the body raises, or the
    START or END of another buffer fails.
    """

    __slots__ = ("_others", "_places")

    def __init__(self, places: Places, buffers: tuple[Buffer, ...], bits: int) -> None:
        """See `Image.read`, `Image.write` and `Image.read_write`; the buffers are distinct."""
        self._buffer, self._bits, self._number = buffers[0], bits, UNUSED
        self._others = tuple(map(Bracket, buffers[1:], repeat(bits))) if len(buffers) > 1 else ()
        self._places = places

    def __enter__(self) -> tuple[numpy.ndarray[Any, Any], ...]:
        """Block until the access can begin, and return the planes as arrays."""
        try:
            return _arrays(self._places, [enter(self), *map(enter, self._others)])
        except HoldUsedError:
            raise  # somebody else entered this scope, and that access goes on
        except BaseException:
            self._abandon()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Issue SYNC END on every buffer."""
        try:
            leave(self)
            for other in self._others:
                leave(other)
        except BaseException:
            self._abandon()
            raise

    async def __aenter__(self) -> tuple[numpy.ndarray[Any, Any], ...]:
        """Wait in the event loop until the access can begin, and return the planes."""
        await _wait.turn()
        events = EVENTS[self._bits]
        buffers = [scope._buffer for scope in (self, *self._others)]
        # While one is awaited, another can get a new fence.
        while busy := [buffer for buffer in buffers if not _wait.is_ready(buffer, events)]:
            for buffer in busy:
                await _wait.ready(buffer, events)
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Issue SYNC END on every buffer."""
        try:
            self.__exit__()
        except BaseException:
            self._abandon()  # a signal handler may have raised before __exit__ could begin
            raise

    def _abandon(self) -> None:
        """End what is open, wherever `__enter__` or `__exit__` was left."""
        for scope in (self, *self._others):
            end_left(scope)
