"""The processor's access to an image: the brackets of all its buffers, and its planes as arrays."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from dmabuf import _wait
from dmabuf._fd import HoldUsedError
from dmabuf.access import Access, abandon
from dmabuf.image.layout import PixelFormat
from dmabuf.image.planes import Plane

if TYPE_CHECKING:
    import numpy


class ImageScope:
    """The brackets of one access on all buffers of an image. Single use.

        with image.write() as (luma, chroma):
            luma[:] = 16

    `async with` waits in the event loop until the access can begin; `with` blocks. Each buffer gets
    its SYNC END, also when the body raises, and when the START or END of another buffer fails.
    """

    __slots__ = ("_access", "_format", "_planes", "_scopes")

    def __init__(self, format: PixelFormat, planes: tuple[Plane, ...], access: Access) -> None:
        """See `Image.read`, `Image.write` and `Image.read_write`."""
        self._format = format
        self._planes = planes
        self._access = access
        # One scope per distinct buffer.
        self._scopes = {plane.buffer: plane.buffer.access(access) for plane in planes}

    def __enter__(self) -> tuple[numpy.ndarray[Any, Any], ...]:
        """Block until the fences in the way have signalled, and return the planes as arrays."""
        from dmabuf._array import array_on

        scopes = self._scopes
        try:
            memories = {buffer: scopes[buffer].__enter__() for buffer in scopes}
            arrays = []
            for plane, layout in zip(self._planes, self._format.planes, strict=True):
                shape = (plane.height, plane.width, layout.channels)
                strides = (plane.stride, layout.channels * layout.itemsize, layout.itemsize)
                axes = 2 if layout.channels == 1 else 3
                memory = memories[plane.buffer]
                arrays.append(
                    array_on(memory, shape[:axes], layout.dtype, plane.offset, strides[:axes])
                )
            return tuple(arrays)
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
            for scope in self._scopes.values():
                scope.__exit__()
        except BaseException:
            self._abandon()
            raise

    async def __aenter__(self) -> tuple[numpy.ndarray[Any, Any], ...]:
        """Wait in the event loop until all buffers are idle, and return the planes as arrays."""
        await _wait.turn()
        access = self._access
        # While one is awaited, another can get a new fence.
        while busy := [buffer for buffer in self._scopes if not buffer.is_idle(access)]:
            for buffer in busy:
                await buffer.ready(access)
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
        for scope in self._scopes.values():
            abandon(scope)
