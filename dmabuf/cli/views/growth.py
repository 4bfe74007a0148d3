"""What grows, and how fast: several looks one after the other."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dmabuf.usage import ProcessUsage, Usage

WINDOW = 60.0  # seconds that growth is told of
_LOOKS = 4  # before it is said that anybody keeps growing

_Who = tuple[int, int]


class Growing(NamedTuple):
    """A process, and how what it holds has changed."""

    process: ProcessUsage
    """What it holds now."""
    grew: int
    """Bytes more than at the window's start, each buffer in full; less than 0 if it shrank."""
    rate: float
    """The same in bytes per second."""
    keeps_growing: bool
    """Whether it grew in both halves of the window and never shrank."""


class Change(NamedTuple):
    """What a look tells beside those before it."""

    usage: Usage
    """The look."""
    seconds: float
    """Since the look before; 0 for the first."""
    window: float
    """Seconds since the look that growth is counted from; 0 for the first."""
    grew: int
    """Bytes that all buffers are more than then."""
    came: int
    """Buffers that were not there at the look before."""
    went: int
    """Buffers that were."""
    processes: tuple[Growing, ...]
    """The processes, by number."""


class _Look(NamedTuple):
    at: float
    total: int
    bytes: dict[_Who, int]


class History:
    """The looks of the last minute."""

    def __init__(self) -> None:
        self._looks: deque[_Look] = deque()
        self._last: Usage | None = None

    def add(self, usage: Usage, at: float) -> Change:
        """Return what a look tells, `at` seconds on any clock that never goes back."""
        held = {(one.pid, one.started): one.bytes for one in usage.processes}
        before = self._looks[-1].at if self._looks else at
        self._looks.append(_Look(at, usage.total.bytes, held))
        while len(self._looks) > 2 and at - self._looks[1].at >= WINDOW:
            self._looks.popleft()
        first = self._looks[0]
        diff = (self._last or usage).diff(usage)
        self._last = usage
        return Change(
            usage=usage,
            seconds=at - before,
            window=at - first.at,
            grew=usage.total.bytes - first.total,
            came=len(diff.came),
            went=len(diff.went),
            processes=tuple(self._growing(process) for process in usage.processes),
        )

    def _growing(self, process: ProcessUsage) -> Growing:
        who = (process.pid, process.started)
        sizes = [look.bytes.get(who, 0) for look in self._looks]
        grew, window = sizes[-1] - sizes[0], self._looks[-1].at - self._looks[0].at
        middle = sizes[len(sizes) // 2]
        keeps_growing = (
            len(sizes) >= _LOOKS
            and sizes[0] < middle < sizes[-1]
            and all(one <= other for one, other in pairwise(sizes))
        )
        return Growing(process, grew, grew / window if window else 0.0, keeps_growing)
