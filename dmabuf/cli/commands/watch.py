"""`dmabuf-alloc watch`: a line for each buffer and each device that comes and goes."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from dmabuf._record import plain
from dmabuf.cli.console.failure import one_line
from dmabuf.cli.console.live import STOPS, Signals
from dmabuf.cli.console.output import Output
from dmabuf.cli.console.text import Page
from dmabuf.cli.console.values import parse_count, parse_delay, typed
from dmabuf.cli.views.buffers import changed_lines, totals
from dmabuf.cli.views.selection import (
    add_filters,
    require_possible,
    select,
    tell_unreadable,
)
from dmabuf.errors import UnsupportedError

if TYPE_CHECKING:
    from dmabuf.devices import Event, Watch
    from dmabuf.usage import BufferUsage, Usage

SUMMARY = "Log the buffers and devices that come and go."
EXAMPLES = (
    ("watch", "one line for each, until Ctrl-C"),
    ("watch --min-size 1M --exporter system", "only some buffers"),
    ("watch -d 0.1 --json", "one JSON document per line; finds buffers that live for 0.1 s"),
)
_EPILOG = """\
The first line shows what exists already. + came, - went, ~ changed. Buffers are scanned every S
seconds, so those with a shorter life may be missed; the kernel itself reports devices.
"""
_SIGNS = {"add": "+", "remove": "-", "change": "~"}
_WORDS = {"add": "came", "remove": "went", "change": "changed"}


def add(parser: argparse.ArgumentParser) -> None:
    """Declare its arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add(
        "-d",
        "--delay",
        metavar="S",
        type=typed(parse_delay),
        default=1.0,
        help="seconds between scans (1)",
    )
    add("--count", metavar="N", type=typed(parse_count), help="end after N changes")
    add("--bytes", action="store_true", help="show sizes in bytes")
    add("-w", "--wide", action="store_true", help="do not cut lines on a terminal")
    add_filters(parser)


def run(arguments: argparse.Namespace, output: Output) -> None:
    """Log until somebody says stop, or `--count` have come or gone."""
    require_possible(arguments)
    log = _Log(arguments, output)
    with ExitStack() as stack:
        signals = stack.enter_context(Signals(output))
        devices = _devices(output)
        if devices is not None:
            stack.enter_context(devices)
        usage = _look(arguments)
        log.begin(usage)
        tell_unreadable(usage, output, then=False)
        while not log.is_full:
            until = time.monotonic() + arguments.delay
            if not _wait(until, signals, devices, log) or log.is_full:
                return
            before, usage = usage, _look(arguments)
            log.buffers(before, usage)


def _look(arguments: argparse.Namespace) -> Usage:
    from dmabuf.usage import scan

    return select(scan(explain=False), arguments)


def _devices(output: Output) -> Watch | None:
    """Return what tells of devices; None, and say why, where nothing does."""
    from dmabuf.devices import watch

    try:
        return watch()
    except UnsupportedError as error:
        output.note(f"devices are left out: {one_line(error)}")
        return None


def _wait(until: float, signals: Signals, devices: Watch | None, log: _Log) -> bool:
    """Log the devices until it is time to look again; False when it is to end."""
    while True:
        others = () if devices is None else (devices.fileno(),)
        left = max(until - time.monotonic(), 0)
        came, readable = signals.wait(left, *others)
        if came & STOPS:
            return False
        while readable and devices is not None and not log.is_full:
            try:
                log.device(devices.next(0))
            except TimeoutError:
                break
        if not left or log.is_full:
            return True


class _Log:
    """Writes the lines."""

    def __init__(self, arguments: argparse.Namespace, output: Output) -> None:
        self._left: int | None = arguments.count
        self._exact: bool = arguments.bytes
        self._wide: bool = arguments.wide
        self._output = output

    @property
    def is_full(self) -> bool:
        """Whether there are as many lines as were asked for."""
        return self._left == 0

    def begin(self, usage: Usage) -> None:
        """Write what is there already: from here on nothing is missed but what lives too short."""
        self._write(f"{_clock(usage.taken)} {totals(usage, exact=self._exact)}")
        self._output.record(
            time=usage.taken, event="began", total=usage.total._asdict(), buffer=None, device=None
        )

    def buffers(self, before: Usage, after: Usage) -> None:
        """Write which buffers came and went."""
        diff = before.diff(after)
        for action, changed in (("add", diff.came), ("remove", diff.went)):
            for buffer in changed:
                if self.is_full:
                    return
                self._buffer(action, buffer, after.taken)

    def _buffer(self, action: str, buffer: BufferUsage, at: float) -> None:
        page = Page(wide=self._wide)
        head = f"{_clock(at)} {_SIGNS[action]} buffer"
        for line in changed_lines("", [buffer], Page(wide=True), exact=self._exact):
            self._write(page.cut(f"{head} {line[2:]}"))
        self._record(at, action, buffer=plain(buffer))

    def device(self, event: Event) -> None:
        """Write which device came, went or changed."""
        from dmabuf.cli.checks import devices

        at = time.time()
        page = Page(wide=self._wide)
        head = f"{_clock(at)} {_SIGNS[event.action]} device"
        self._write(page.cut(page.show(f"{head} {event.kind} {event.path}")))
        found = None if event.device is None else devices.document(event.device)
        told = {"kind": event.kind, "path": event.path, "found": found}
        self._record(at, event.action, device=told)

    def _write(self, line: str) -> None:
        self._output.line(line)
        self._output.flush()

    def _record(self, at: float, action: str, **what: object) -> None:
        told = {"total": None, "buffer": None, "device": None} | what
        self._output.record(time=at, event=_WORDS[action], **told)
        if self._left is not None:
            self._left -= 1


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
