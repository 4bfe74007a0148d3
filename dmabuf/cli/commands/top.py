"""`dmabuf-alloc top`: who holds how much, again and again, and who grows."""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext

from dmabuf.cli.commands.ps import checked_sort
from dmabuf.cli.console.live import GO_ON, PAUSE, RESIZE, STOPS, Screen, Signals, can_draw
from dmabuf.cli.console.output import Output
from dmabuf.cli.console.text import Page
from dmabuf.cli.console.values import parse_count, parse_delay, typed
from dmabuf.cli.views import buffers, picture
from dmabuf.cli.views.growth import Change, History
from dmabuf.cli.views.selection import tell_unreadable

SUMMARY = "Show repeatedly how much each process holds, and how fast it grows."
EXAMPLES = (
    ("top", "live; q ends it"),
    ("top --sort rate", "which process grows fastest?"),
    ("top --count 1", "once, for a log"),
    ("top -d 60 --json", "one JSON document per line, each minute"),
)
_EPILOG = """\
keys: q quit; s sort by the next column; r reverse the order; b buffers; p processes; space update
at once. GREW and RATE cover the last 60 seconds; each buffer counts in full. << marks a process
that has grown in both halves of that time and never shrunk. Without a terminal the tables are
printed one after the other.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare its arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add(
        "-d",
        "--delay",
        metavar="S",
        type=typed(parse_delay),
        default=2.0,
        help="seconds between updates (2)",
    )
    add("--count", metavar="N", type=typed(parse_count), help="end after N updates")
    add("-b", "--buffers", action="store_true", help="list buffers instead of processes")
    of_processes, of_buffers = ", ".join(picture.SORTS), ", ".join(buffers.SORTS)
    add("--sort", metavar="KEY", help=f"{of_processes}; with -b {of_buffers}")
    add("-r", "--reverse", action="store_true", help="reverse the order")
    add("--bytes", action="store_true", help="show sizes in bytes")
    add(
        "--devices",
        action="store_true",
        help="also show the buffers attached to each device (root)",
    )


def run(arguments: argparse.Namespace, output: Output) -> None:
    """Look until somebody says stop, or `--count` times."""
    view = _View(arguments)
    is_drawn = can_draw() and not arguments.json
    wanted = (PAUSE, GO_ON, RESIZE) if is_drawn else ()
    with Signals(output, *wanted) as signals, Screen() if is_drawn else nullcontext() as screen:
        last = _go_on(view, signals, screen, output)
    if is_drawn:
        for line in view.lines(last):
            output.line(line)
    output.flush()
    tell_unreadable(last.usage, output, then=False)


def _go_on(view: _View, signals: Signals, screen: Screen | None, output: Output) -> Change:
    """Show look after look; return the last one."""
    from dmabuf.usage import scan

    history = History()
    looks = 0
    while True:
        begun = time.monotonic()
        change = history.add(scan(explain=view.devices), begun)
        looks += 1
        if screen is None:
            view.print(change, output)
        else:
            screen.draw(view.lines(change, screen.height))
        if looks == view.count or not _wait(begun + view.every, view, change, signals, screen):
            return change


def _wait(
    until: float, view: _View, change: Change, signals: Signals, screen: Screen | None
) -> bool:
    """Wait for the next look, and answer keys and signals; False when it is to end."""
    while (left := until - time.monotonic()) > 0:
        came, readable = signals.wait(left, *(screen.keyboard if screen else ()))
        if came & STOPS:
            return False
        if screen is None or not (came or readable):
            continue
        if PAUSE in came:
            with screen.left():
                signals.pause()
        elif GO_ON in came:
            screen.enter()
        keys = screen.keys() if readable else ""
        if "q" in keys:
            return False
        for key in keys:
            view.press(key)
        if " " in keys:
            return True
        screen.draw(view.lines(change, screen.height))
    came, _ = signals.wait(0)
    return not came & STOPS


class _View:
    """What is shown of a look, which keys change."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.count: int | None = arguments.count
        self.every: float = arguments.delay
        self.devices: bool = arguments.devices
        self._exact: bool = arguments.bytes
        self._backwards: bool = arguments.reverse
        self._shows_buffers: bool = arguments.buffers
        self._sort = checked_sort(arguments.sort, self._sorts)
        self._printed = False

    @property
    def _sorts(self) -> tuple[str, ...]:
        return buffers.SORTS if self._shows_buffers else picture.SORTS

    def press(self, key: str) -> None:
        """Change what is shown; other keys do nothing."""
        if key == "r":
            self._backwards = not self._backwards
        elif key == "s":
            self._sort = self._sorts[(self._sorts.index(self._sort) + 1) % len(self._sorts)]
        elif key in "bp" and self._shows_buffers != (key == "b"):
            self._shows_buffers = key == "b"
            self._sort = self._sorts[0]

    def lines(self, change: Change, most: int | None = None) -> list[str]:
        """Return what is shown, of no more processes or buffers than there is room for."""
        page, exact = Page(), self._exact
        lines = picture.heads(change, self.every, page, exact=exact)
        if self._shows_buffers:
            found = change.usage
            ordered = buffers.in_order(found.buffers, self._sort, backwards=self._backwards)
            lines += buffers.buffer_lines(ordered[:most], page, exact=exact, debugfs=found.debugfs)
        else:
            growing = picture.in_order(change.processes, self._sort, backwards=self._backwards)
            lines += picture.process_lines(growing[:most], page, exact=exact)
        if self.devices:
            lines += picture.device_lines(change.usage.buffers, page, exact=exact)
        return lines

    def print(self, change: Change, output: Output) -> None:
        """Print it where nothing can be drawn, an empty line after the one before."""
        for line in [""] * self._printed + self.lines(change):
            output.line(line)
        self._printed = True
        output.record(**_document(change, devices=self.devices))
        output.flush()


def _document(change: Change, *, devices: bool) -> dict[str, object]:
    usage = change.usage
    return {
        "taken": usage.taken,
        "seconds": round(change.seconds, 3),
        "window": round(change.window, 3),
        "total": usage.total._asdict(),
        "exporters": {name: total._asdict() for name, total in usage.exporters.items()},
        "grew": change.grew,
        "came": change.came,
        "went": change.went,
        "unexplained": buffers.unexplained_references(usage.buffers),
        "unreadable": len(usage.unreadable),
        "processes": [
            one.process._asdict()
            | {"grew": one.grew, "rate": round(one.rate, 1), "keeps_growing": one.keeps_growing}
            for one in change.processes
        ],
        "devices": picture.device_sums(usage.buffers) if devices else None,
    }
