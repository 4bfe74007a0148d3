"""An exporter put to the test: whether it allocates, maps and keeps data, and how fast."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from dmabuf.buffer import Buffer
from dmabuf.cli.checks import contents
from dmabuf.cli.checks.exporters import Exporter, allocator
from dmabuf.errors import os_error

_TRIED = 64 << 10
MEASURED = 4 << 20
_ROUNDS = 3  # the best of them counts


class Speed(NamedTuple):
    """How fast one buffer of `size` bytes is had, and is written and read by the processor."""

    size: int
    allocate_seconds: float
    write_bytes_per_second: int
    read_bytes_per_second: int


class Result(NamedTuple):
    """How far an exporter came. None is what was not tried."""

    exporter: Exporter
    allocates: bool = False
    maps: bool | None = None
    keeps_data: bool | None = None
    speed: Speed | None = None
    error: OSError | None = None

    @property
    def works(self) -> bool:
        """Whether it does what it is there for; protected memory is not for mapping."""
        return self.allocates and (self.exporter.protected or self.keeps_data is True)

    def document(self) -> dict[str, Any]:
        """Return it as docs/json.md has it, the exporter's own fields first."""
        return self.exporter.document() | {
            "works": self.works,
            "allocates": self.allocates,
            "maps": self.maps,
            "keeps_data": self.keeps_data,
            "speed": self.speed and self.speed._asdict(),
        }


def probe(exporter: Exporter) -> Result:
    """Allocate from an exporter and use the memory."""
    result = Result(exporter)
    try:
        with allocator(exporter.path) as allocate:
            with allocate(_TRIED) as buffer:
                result = result._replace(allocates=True)
                if exporter.protected:
                    return result
                result = result._replace(maps=False)
                buffer.memory.release()
                result = result._replace(maps=True, keeps_data=False)
                _require_kept_data(buffer)
            result = result._replace(keeps_data=True)
            return result._replace(speed=_measure(allocate))
    except OSError as error:
        return result._replace(error=error)


def _require_kept_data(buffer: Buffer) -> None:
    """Write through one mapping, read through another."""
    contents.fill(buffer, 0, contents.pattern, contents.unheard)
    with buffer.dup() as other:
        found = contents.difference(other, 0, contents.pattern, contents.unheard)
    if found is not None:
        raise os_error(errno.EIO, f"{found}; look for its driver's message in dmesg")


def _measure(allocate: Callable[[int], Buffer]) -> Speed:
    allocating = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        with allocate(MEASURED):
            allocating.append(time.perf_counter() - began)
    copy = bytearray(MEASURED)
    with allocate(MEASURED) as buffer:
        writing = min(_write_seconds(buffer, copy) for _ in range(_ROUNDS))
        reading = min(_read_seconds(buffer, copy) for _ in range(_ROUNDS))
    return Speed(
        MEASURED, round(min(allocating), 6), int(MEASURED / writing), int(MEASURED / reading)
    )


def _write_seconds(buffer: Buffer, source: bytearray) -> float:
    began = time.perf_counter()
    with buffer.write() as memory:
        memory[:] = source
    return time.perf_counter() - began


def _read_seconds(buffer: Buffer, target: bytearray) -> float:
    began = time.perf_counter()
    with buffer.read() as memory:
        target[:] = memory
    return time.perf_counter() - began
