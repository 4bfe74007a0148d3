"""The picture of `dmabuf-alloc bench`: time and speed by size, a line for each kind of memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from dmabuf.cli.checks.measure import Figures
from dmabuf.cli.console.chart import Line, Panel, Tick, save
from dmabuf.cli.console.size import short

_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_TIMES = [
    (step * unit, f"{step} {name}")
    for unit, name in ((1e-9, "ns"), (1e-6, "us"), (1e-3, "ms"), (1.0, "s"))
    for step in _STEPS
]
_SPEEDS = [
    (step * 1024.0**power, f"{step}{name}/s")
    for power, name in enumerate(("", "K", "M", "G", "T"))
    for step in _STEPS
]


def draw(path: str, memories: Sequence[tuple[str, Sequence[Figures]]]) -> None:
    """Write the picture as a PNG; OSError if the file can't be written."""
    sizes = sorted({one.size for _, figures in memories for one in figures})
    xticks = [(float(size), short(size)) for size in sizes]

    def panel(title: str, value: Callable[[Figures], float | None], ticks: list[Tick]) -> Panel:
        lines = []
        for name, figures in memories:
            values = [(one.size, value(one)) for one in figures]
            lines.append(Line(name, [(size, found) for size, found in values if found]))
        return Panel(title, lines, xticks, ticks)

    panels = (
        panel("until the memory is usable: allocate and map", Figures.usable, _TIMES),
        panel("SYNC: one START and END", lambda one: one.sync, _TIMES),
        panel("the processor writes", lambda one: one.write and one.size / one.write, _SPEEDS),
        panel("the processor reads", lambda one: one.read and one.size / one.read, _SPEEDS),
    )
    system = os.uname()
    title = f"dma-bufs beside ordinary memory, by size: Linux {system.release}, {system.machine}"
    save(path, title, [name for name, _ in memories], panels)
