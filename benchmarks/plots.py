"""Draw docs/pictures/bench-*.svg of the results in docs/results: `make plots`.

    python benchmarks/plots.py [FOLDER]

Results in FOLDER, where `make bench` has left them, are taken into docs/results before. A test
holds the pictures against the results.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import results
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

PICTURES = results.RESULTS.parent / "pictures"
WITHIN, BEYOND, UNAIMED, AIM = "#00897b", "#ef6c00", "#78909c", "#c2185b"
COLORS = {"dmabuf": "#00897b", "C": "#455a64", "C with epoll": "#455a64"}
OTHERS = "#1e88e5", "#8e24aa"
TICKS = 0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 50
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "dmabuf",  # the same file each time
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def main() -> None:
    """Draw all pictures."""
    if sys.argv[1:]:
        for path in Path(sys.argv[1]).glob("*.json"):
            shutil.copy(path, results.RESULTS)
    rcParams.update(STYLE)
    for picture in results.PICTURES:
        drawn = draw_growth() if picture == results.GROWTH_PICTURE else draw_ratios(picture)
        about = {"Date": None, "Description": results.words(picture)}
        drawn.savefig(PICTURES / f"bench-{picture}.svg", metadata=about)


def draw_ratios(picture: str) -> Figure:
    """Draw a bar for each ratio, from 1 to the left or to the right, and a line at its aim."""
    bars = list(results.ratios(picture))
    figure = Figure(figsize=(7.5, 0.26 * len(bars) + 1.3), layout="constrained")
    axes = figure.subplots()
    places = range(len(bars))
    colors = [
        UNAIMED if bar.wanted is None else WITHIN if bar.ratio <= bar.wanted else BEYOND
        for bar in bars
    ]
    axes.barh(places, [bar.ratio - 1 for bar in bars], left=1, height=0.6, color=colors)
    for place, bar in zip(places, bars, strict=True):
        if bar.wanted is not None:
            axes.plot([bar.wanted] * 2, [place - 0.45, place + 0.45], color=AIM, linewidth=2)
        end = max(bar.ratio, 1, bar.wanted or 0)
        axes.annotate(
            bar.told, (end, place), (5, 0), textcoords="offset points", verticalalignment="center"
        )
    axes.set_yticks(places, [bar.label for bar in bars])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xticks([place for place in TICKS if axes.dataLim.x0 <= place <= axes.dataLim.x1])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.axvline(1, color="#263238", linewidth=1)
    axes.set_xlabel("dmabuf's time divided by the other way's; less is better")
    axes.margins(x=0.12, y=0.02)
    shown = {WITHIN: "within the aim", BEYOND: "beyond the aim", UNAIMED: "without an aim"}
    legend = [Patch(color=color, label=text) for color, text in shown.items() if color in colors]
    if len(legend) > 1:
        legend.append(Line2D([], [], color=AIM, linewidth=2, label="the aim: at most this"))
        figure.legend(handles=legend, loc="outside upper left", ncols=len(legend), frameon=False)
    sign(figure, results.RATIOS[picture])
    return figure


def draw_growth() -> Figure:
    """Draw the time for each thing beside how many there are."""
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    for axes, what in zip(figure.subplots(1, len(results.GROWTH)), results.GROWTH, strict=True):
        others = iter(OTHERS)
        for line in results.lines(what):
            color = COLORS.get(line.way) or next(others)
            axes.plot(line.counts, line.times, color=color, marker="o", label=line.way)
        axes.set(xscale="log", yscale="log", xlabel=what, ylabel="µs for each")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.legend(frameon=False)
    sign(figure, [part for part, _, _ in results.GROWTH.values()])
    return figure


def sign(figure: Figure, parts: Iterable[str]) -> None:
    """Write below a picture where its figures are from."""
    figure.supxlabel(results.origin(parts), fontsize=8, color="#546e7a")


if __name__ == "__main__":
    main()
