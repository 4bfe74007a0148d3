"""The results of `make bench` that are kept in docs/results, as what the pictures show of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from aims import AIMS

RESULTS = Path(__file__).parent.parent / "docs" / "results"


class Ratio(NamedTuple):
    """How many times as long as another way dmabuf takes for some work, and may take."""

    label: str
    ratio: float
    wanted: float | None

    @property
    def told(self) -> str:
        """The ratio, with two digits or more."""
        return f"{self.ratio:.0f}" if self.ratio >= 10 else f"{self.ratio:.2g}"


class Line(NamedTuple):
    """How the time of a way, in µs for each thing, goes with how many things there are."""

    way: str
    counts: list[int]
    times: list[float]


RATIOS: dict[str, dict[str, tuple[str, ...]]] = {
    "calls": {
        "core": (
            "empty write scope",
            "write scope of an image",
            "array of 32 x 32",
            "from_fd + close",
            "dmabuf.allocate, 4 KiB",
            "allocate + map + close, 4 KiB",
            "allocate + map + close, 1 MiB",
            "allocate + map + close, 8 MiB",
            "sum 8 MiB",
        ),
        "fences": ("wait, signalled", "merge 1,000 fences"),
    },
    "devices": {
        "frames": ("frame of 640x480", "frame of 1280x720"),
        "flips": ("flip",),
        "opengl": ("camera to screen",),
        "discovery": ("find devices, as a program",),
    },
    "sharing": {"sharing": ("4 KiB to 1 and back", "4 KiB to 10 and back", "12 MB to 10 and back")},
}
"""The rows of each picture of ratios, by the result that has them."""

GROWTH = {
    "fences awaited": ("fences", "await {:,} fences, each", True),
    "descriptors that a scan sees": ("usage", "10 processes, {} descriptors, 10 a buffer", False),
}
"""What grows, by the result and rows that have it, and whether their times are for each of many."""

GROWTH_PICTURE = "growth"
PICTURES = *RATIOS, GROWTH_PICTURE
COUNTS = 10, 100, 1_000, 10_000, 100_000


def result(part: str) -> dict[str, Any]:
    """Return the results of a benchmark."""
    found: dict[str, Any] = json.loads((RESULTS / f"{part}.json").read_text())
    return found


def origin(parts: Iterable[str]) -> str:
    """Return where and when results were measured."""
    about = "Linux {kernel}, Python {python}, {processor}, {when}"
    return "\n".join(sorted({about.format_map(result(part)) for part in parts}))


def ratios(picture: str) -> Iterator[Ratio]:
    """Give the bars of a picture."""
    for part, rows in RATIOS[picture].items():
        found = result(part)
        for row in rows:
            times = found["times_ns"][row]
            for way, time in times.items():
                if not way.startswith("dmabuf"):
                    wanted = AIMS.get(row, {}).get(way)
                    yield Ratio(f"{row} : {way}", times["dmabuf"] / time, wanted)


def lines(what: str) -> Iterator[Line]:
    """Give the lines of one half of the picture of growth."""
    part, row, each = GROWTH[what]
    times = result(part)["times_ns"]
    counts = [count for count in COUNTS if row.format(count) in times]
    for way in times[row.format(counts[0])]:
        those = [count for count in counts if way in times[row.format(count)]]
        figures = [times[row.format(count)][way] / (1 if each else count) for count in those]
        yield Line(way, those, [figure / 1000 for figure in figures])


def words(picture: str) -> str:
    """Return what a picture shows, as text that it carries along."""
    if picture == GROWTH_PICTURE:
        return "\n".join(
            f"{count:,} {what} take {line.way} {time:.3g} µs each"
            for what in GROWTH
            for line in lines(what)
            for count, time in zip(line.counts, line.times, strict=True)
        )
    return "\n".join(
        f"{bar.label}: {bar.told}"
        + ("" if bar.wanted is None else f", and at most {bar.wanted:g} is the aim")
        for bar in ratios(picture)
    )
