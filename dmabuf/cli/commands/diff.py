"""`dmabuf-alloc diff`: what changed between two looks at the buffers."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from dmabuf._record import plain
from dmabuf.cli.console.failure import FAILED, Answered, UsageError
from dmabuf.cli.console.output import Output
from dmabuf.cli.console.text import Page
from dmabuf.cli.views.buffers import changed_lines, plural, size_text
from dmabuf.cli.views.selection import read, tell_unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dmabuf.usage import BufferUsage, Diff, Growth

SUMMARY = "Show the buffers that came and went since a snapshot, and the processes that grew."
EXAMPLES = (
    ("diff before.json", "what changed since ps --json wrote before.json?"),
    ("diff before.json after.json", "between two snapshots"),
    ("diff before.json --exit-code", "exit status 1 if a test changed anything"),
)
_EPILOG = """\
FILE is the output of ps --json; - is standard input. Buffers and processes of another boot count
as different, whatever their numbers. With --exit-code the status is 1 if a buffer came or went or a
process grew, else 0.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare its arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("before", metavar="FILE", help="the earlier snapshot")
    add("after", metavar="FILE", nargs="?", help="the later snapshot; default: now")
    add("--exit-code", action="store_true", help="exit with status 1 if anything differs")
    add("--bytes", action="store_true", help="show sizes in bytes")
    add("-w", "--wide", action="store_true", help="do not cut lines on a terminal")


def run(arguments: argparse.Namespace, output: Output) -> None:
    """Compare; no difference is an answer too."""
    if (arguments.before, arguments.after) == ("-", "-"):
        raise UsageError("only one of the two can be standard input")
    from dmabuf.usage import scan

    before = read(arguments.before)
    after = scan() if arguments.after is None else read(arguments.after)
    diff = before.diff(after)
    page, exact = Page(wide=arguments.wide), arguments.bytes
    for line in (
        *changed_lines("+", diff.came, page, exact=exact),
        *changed_lines("-", diff.went, page, exact=exact),
        *(page.cut(page.show(_grown(growth, exact=exact))) for growth in diff.grew),
        page.cut(_sums(diff, exact=exact)),
    ):
        output.line(line)
    if before.boot != after.boot:
        output.note("the machine was rebooted between the two: nothing is the same")
    output.document(**plain(diff))
    output.flush()
    tell_unreadable(after, output, then=arguments.after is not None)
    if arguments.exit_code and any(diff):
        raise Answered(FAILED)


def _grown(growth: Growth, *, exact: bool) -> str:
    who = f"{growth.command} {growth.pid}"
    buffers = plural(abs(growth.buffers), "buffer")
    more = "fewer" if growth.buffers < 0 else "more"
    return f"{who} grew by {size_text(growth.bytes, exact=exact)}, {buffers} {more}"


def _sums(diff: Diff, *, exact: bool) -> str:
    if not any(diff):
        return "no difference"
    came, went = _sum(diff.came, exact=exact), _sum(diff.went, exact=exact)
    return f"{came} came, {went} went, {plural(len(diff.grew), 'process', 'processes')} grew"


def _sum(buffers: Iterable[BufferUsage], *, exact: bool) -> str:
    sizes = [buffer.size or 0 for buffer in buffers]
    text = plural(len(sizes), "buffer")
    return f"{text} ({size_text(sum(sizes), exact=exact)})" if sizes else text
