"""An iterator of what comes to a descriptor: events of devices, for example."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Generic, TypeVar

from dmabuf import _wait
from dmabuf._fd import Descriptor
from dmabuf._timeout import deadline, seconds_left

_Event = TypeVar("_Event")


class Arrivals(Descriptor, Generic[_Event]):
    """A descriptor that is readable when there is more to take. Also for `async for`."""

    __slots__ = ()

    def next(self, timeout: float | None = None) -> _Event:
        """Wait for the next event and return it. TimeoutError if `timeout` seconds pass first.

        Other threads run meanwhile. A signal handler that raises ends the wait.
        """
        end = deadline(timeout)
        left: float | None = None
        while (event := self.take()) is None:
            late, left = left == 0.0, seconds_left(end)
            if late or not _wait.wait(self, _wait.READABLE, left):
                raise self._late(timeout)
        return event

    def take(self) -> _Event | None:
        """Return the next event without waiting; None if there is none yet."""
        raise NotImplementedError

    def _late(self, timeout: float | None) -> OSError:
        """Return the error of a wait that took too long."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[_Event]:
        return self

    def __next__(self) -> _Event:
        return self.next()

    def __aiter__(self) -> AsyncIterator[_Event]:
        return self

    async def __anext__(self) -> _Event:
        await _wait.turn()
        while (event := self.take()) is None:
            await _wait.ready(self, _wait.READABLE)
        return event
