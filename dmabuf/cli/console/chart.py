"""A picture of measurements: panels with a line for each thing, both axes logarithmic.

Needs Pillow 10.1, whose own font is used; it is imported when something is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import IO, NamedTuple

from dmabuf._whole_file import whole_file

# Okabe and Ito's colours, which the colour-blind can tell apart as well, behind a slate.
COLOURS = ("#5b6770", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""The lines' colours, in their order; they come again if there are more lines."""

WIDTH, HEIGHT = 1200, 900
_FINE = 3  # drawn so many times larger and made smaller: smooth lines
_MARGIN, _TOP, _LEFT, _BELOW = 24, 96, 70, 46
_INK, _GRID, _PAPER = "#222222", "#dddddd", "#ffffff"

Point = tuple[float, float]
Tick = tuple[float, str]


class Line(NamedTuple):
    """The points of one thing in one panel, x and y greater than 0."""

    name: str
    points: Sequence[Point]


class Panel(NamedTuple):
    """One diagram; a line is left out where it has no points."""

    title: str
    lines: Sequence[Line]
    xticks: Sequence[Tick]
    yticks: Sequence[Tick]
    """All that there could be, in their order; those that the lines need are drawn."""


class _Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float


def require_pillow() -> None:
    """Raise ImportError where nothing can be drawn."""
    from PIL import ImageFont

    try:
        ImageFont.load_default(12)
    except TypeError:  # it took no size before
        raise ImportError("Pillow is older than 10.1") from None


def save(path: str, title: str, names: Sequence[str], panels: Sequence[Panel]) -> None:
    """Write a PNG of up to four panels, with a legend of the lines' names; OSError if it can't."""
    pen = _Pen()
    pen.text((_MARGIN, 18), title, size=22)
    left = float(_MARGIN)
    for number, name in enumerate(names):
        pen.line([(left, 66), (left + 26, 66)], _colour(number))
        pen.dot((left + 13, 66), _colour(number))
        pen.text((left + 34, 58), name, size=14)
        left += 34 + pen.width(name, 14) + 28
    width, height = (WIDTH - _MARGIN) / 2, (HEIGHT - _TOP) / 2
    for number, panel in enumerate(panels):
        column, row = number % 2, number // 2
        x, y = _MARGIN + column * width, _TOP + row * height
        box = _Box(x + _LEFT, y + 36, x + width - _MARGIN, y + height - _BELOW)
        pen.text((x, y + 6), panel.title, size=16)
        _draw(pen, box, panel, names)
    with whole_file(path) as file:
        pen.save(file)


class _Pen:
    """Draws in the picture's own pixels on the larger one."""

    def __init__(self) -> None:
        from PIL import Image, ImageDraw, ImageFont

        self._image = Image.new("RGB", (WIDTH * _FINE, HEIGHT * _FINE), _PAPER)
        self._draw = ImageDraw.Draw(self._image)
        self._font = ImageFont.load_default

    def save(self, file: IO[bytes]) -> None:
        self._image.reduce(_FINE).save(file, "PNG")

    def line(self, points: Sequence[Point], colour: str, width: float = 2) -> None:
        scaled = [(x * _FINE, y * _FINE) for x, y in points]
        self._draw.line(scaled, colour, round(width * _FINE), joint="curve")

    def dot(self, at: Point, colour: str, radius: float = 4) -> None:
        x, y = at
        edges = (x - radius, y - radius, x + radius, y + radius)
        self._draw.ellipse([edge * _FINE for edge in edges], colour)

    def text(self, at: Point, text: str, *, size: int, anchor: str = "la") -> None:
        place = (at[0] * _FINE, at[1] * _FINE)
        self._draw.text(place, text, _INK, self._font(size * _FINE), anchor)

    def width(self, text: str, size: int) -> float:
        return self._draw.textlength(text, self._font(size * _FINE)) / _FINE


def _draw(pen: _Pen, box: _Box, panel: Panel, names: Sequence[str]) -> None:
    points = [point for line in panel.lines for point in line.points]
    if not points:
        pen.text((box.left, box.top), "nothing was measured", size=13)
        return
    xticks = _needed(panel.xticks, [x for x, _ in points])
    yticks = _needed(panel.yticks, [y for _, y in points])
    for x, label in xticks:
        at = _place(x, xticks, box.left, box.right)
        pen.line([(at, box.top), (at, box.bottom)], _GRID, 1)
        pen.text((at, box.bottom + 8), label, size=13, anchor="ma")
    for y, label in yticks:
        at = _place(y, yticks, box.bottom, box.top)
        pen.line([(box.left, at), (box.right, at)], _GRID, 1)
        pen.text((box.left - 8, at), label, size=13, anchor="rm")
    for line in panel.lines:
        colour = _colour(names.index(line.name))
        places = [
            (
                _place(x, xticks, box.left, box.right),
                _place(y, yticks, box.bottom, box.top),
            )
            for x, y in line.points
        ]
        if len(places) > 1:
            pen.line(places, colour)
        for place in places:
            pen.dot(place, colour)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _needed(ticks: Sequence[Tick], values: Sequence[float]) -> list[Tick]:
    """Return the ticks around the values, not more than can be read."""
    first = max((n for n, tick in enumerate(ticks) if tick[0] <= min(values)), default=0)
    last = min(
        (n for n, tick in enumerate(ticks) if tick[0] >= max(values)), default=len(ticks) - 1
    )
    if first == last:
        first, last = max(0, first - 1), min(len(ticks) - 1, last + 1)
    step = math.ceil((last - first) / 8) or 1
    last = min(len(ticks) - 1, first + -(-(last - first) // step) * step)
    found = list(ticks[first : last + 1 : step])
    return found if found[-1][0] >= max(values) else [*found, ticks[-1]]


def _place(value: float, ticks: Sequence[Tick], low: float, high: float) -> float:
    """Return where a value stands between the first tick's place and the last one's."""
    first, last = math.log(ticks[0][0]), math.log(ticks[-1][0])
    share = 0.5 if first == last else (math.log(value) - first) / (last - first)
    return low + share * (high - low)
