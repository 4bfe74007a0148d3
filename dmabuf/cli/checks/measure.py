"""How fast memory is: a dma-buf's beside ordinary memory, which the same code measures.

Each figure is the best of some rounds, as a Python program sees it.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from dmabuf import _memory
from dmabuf.access import Access
from dmabuf.buffer import Buffer
from dmabuf.cli.console.failure import one_line

ORDINARY = "ordinary"
_REPEATED = 1 << 20  # bytes; smaller copies are repeated up to so many, for the clock's sake


class Figures(NamedTuple):
    """What one size of one memory costs, in seconds. None is what this memory has not."""

    size: int
    allocate: float | None = None
    """Until the memory is there, zeroed."""
    map: float | None = None
    """Until the processor has touched each page; ordinary memory is allocated by that."""
    sync: float | None = None
    """SYNC START and END around nothing, on memory that was written."""
    write: float | None = None
    """The processor copies into it, within one SYNC."""
    read: float | None = None
    """The processor copies out of it, within one SYNC."""
    error: str | None = None

    def usable(self) -> float | None:
        """Return the time until the processor can use new memory."""
        return None if self.allocate is None else self.allocate + (self.map or 0)

    def against(self, ordinary: Figures) -> dict[str, float | None]:
        """Return how many times as long as ordinary memory it takes."""
        pairs = {
            "allocate": (self.usable(), ordinary.usable()),
            "write": (self.write, ordinary.write),
            "read": (self.read, ordinary.read),
        }
        return {
            name: None if own is None or other is None else round(own / other, 3)
            for name, (own, other) in pairs.items()
        }

    def document(self, ordinary: Figures) -> dict[str, Any]:
        """Return it as docs/json.md has it."""
        times = ("allocate", "map", "sync", "write", "read")
        seconds = {name: getattr(self, name) for name in times}
        return {
            "size": self.size,
            "seconds": {
                name: None if value is None else round(value, 9) for name, value in seconds.items()
            },
            "bytes_per_second": {
                name: None if seconds[name] is None else int(self.size / seconds[name])
                for name in ("write", "read")
            },
            "times_ordinary": self.against(ordinary),
            "error": self.error,
        }


def ordinary(size: int, rounds: int) -> Figures:
    """Measure anonymous memory of this process."""
    length = _memory.rounded(size)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_POPULATE", 0x8000)
    allocating: list[float] = []
    for _ in range(rounds):
        with _clocked(allocating):
            memory = mmap.mmap(-1, length, flags=flags)
        memory.close()
    with mmap.mmap(-1, length, flags=flags) as memory, memoryview(memory) as view:
        write, read = _copies(view, rounds)
    return Figures(length, min(allocating), None, None, write, read)


def dma_buf(size: int, rounds: int, allocate: Callable[[int], Buffer]) -> Figures:
    """Measure an exporter's memory; what it refuses is the figures' error."""
    allocating: list[float] = []
    mapping: list[float] = []
    syncing: list[float] = []
    length = _memory.rounded(size)
    try:
        for _ in range(rounds):
            with _clocked(allocating):
                buffer = allocate(size)
            with buffer:
                length = buffer.size
                with _clocked(mapping), buffer.memory as memory:
                    memory[:: mmap.PAGESIZE].tobytes()
        with allocate(size) as buffer:
            buffer.begin_access(Access.READ_WRITE)
            try:
                with buffer.memory as memory:
                    write, read = _copies(memory, rounds)
            finally:
                buffer.end_access(Access.READ_WRITE)
            for _ in range(rounds):
                with _clocked(syncing):
                    buffer.begin_access(Access.READ_WRITE)
                    buffer.end_access(Access.READ_WRITE)
    except OSError as error:
        return Figures(length, error=one_line(error))
    return Figures(length, min(allocating), min(mapping), min(syncing), write, read)


def _copies(memory: memoryview, rounds: int) -> tuple[float, float]:
    """Return the seconds of one copy into the memory, and of one out of it."""
    size = memory.nbytes
    other = bytearray(size)
    repeats = max(1, _REPEATED // size)
    writing: list[float] = []
    reading: list[float] = []
    for _ in range(rounds):
        with _clocked(writing):
            for _ in range(repeats):
                memory[:] = other
        with _clocked(reading):
            for _ in range(repeats):
                other[:] = memory
    return min(writing) / repeats, min(reading) / repeats


@contextmanager
def _clocked(times: list[float]) -> Iterator[None]:
    """Add the time that the block takes; never 0, whatever the clock's steps are."""
    began = time.perf_counter()
    yield
    times.append(max(time.perf_counter() - began, 1e-9))
