"""`dmabuf-alloc SIZE`: allocate buffers, fill, verify and hold them."""

from __future__ import annotations

import argparse
import os
import time
from contextlib import ExitStack
from typing import Any, NamedTuple

from dmabuf import _memory
from dmabuf.buffer import Buffer, checked_name
from dmabuf.cli.checks import contents
from dmabuf.cli.checks.contents import Content, FileContent
from dmabuf.cli.checks.exporters import allocator, is_contiguous
from dmabuf.cli.console import described
from dmabuf.cli.console.failure import Failure, UsageError, one_line
from dmabuf.cli.console.hold import stop_signals_blocked, wait_for_stop
from dmabuf.cli.console.output import Output
from dmabuf.cli.console.progress import progress
from dmabuf.cli.console.size import duration, exact, parse_size, rough
from dmabuf.cli.console.values import parse_count, parse_heap, parse_name, parse_seconds, typed

SUMMARY = "Allocate buffers, fill, verify and hold them."
EXAMPLES = (
    ("64M --fill-pattern --verify", "does the memory keep what is written?"),
    ("64M", "from the best exporter"),
    ("8M --count 4 --name cam --hold", "cam-0 to cam-3, kept until Ctrl-C"),
    ("1.5M --fill-from frame.raw --hold-for 10", "a frame, kept for 10 s"),
)
_EPILOG = """\
SIZE is in bytes, or has a unit K, M, G, T (or KiB, MiB ...), a power of 1024; 1.5G is possible.
Memory is allocated in whole pages and is zero unless filled. --verify compares it with what it was
filled with, or with zero.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare its arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("size", metavar="SIZE", type=typed(parse_size), help="bytes of each buffer, such as 64M")
    add(
        "--heap",
        metavar="HEAP",
        type=typed(parse_heap),
        help="a heap's name or path, or udmabuf; default: the best",
    )
    add(
        "--count", metavar="N", type=typed(parse_count), default=1, help="the number of buffers (1)"
    )
    add(
        "--name",
        type=typed(parse_name),
        help="the buffers' name; NAME-0, NAME-1 ... if several; at most 31 bytes",
    )
    fill = parser.add_mutually_exclusive_group()
    fill.add_argument(
        "--fill", metavar="BYTE", type=typed(_byte), help="fill with a byte, 0 to 255 or 0x.."
    )
    fill.add_argument(
        "--fill-pattern", action="store_true", help="fill with words that contain their own offset"
    )
    fill.add_argument(
        "--fill-from", metavar="FILE", help="fill with a file, then zeros; - is standard input"
    )
    add("--verify", action="store_true", help="read the memory back; exit status 1 if it differs")
    hold = parser.add_mutually_exclusive_group()
    hold.add_argument(
        "--hold", action="store_true", help="keep the buffers until SIGINT or SIGTERM"
    )
    hold.add_argument(
        "--hold-for", metavar="SECONDS", type=typed(parse_seconds), help="the same, for this time"
    )


def _byte(text: str) -> int:
    wrong = ValueError(f"{text!r} is not a byte; write 0 to 255, or 0x00 to 0xff")
    if len(text) > 4:
        raise wrong
    try:
        byte = int(text, 16 if text[:2].lower() == "0x" else 10)
    except ValueError:
        raise wrong from None
    if byte not in range(256):
        raise wrong
    return byte


class Filling(NamedTuple):
    """What the buffers are filled with."""

    content: Content
    label: str
    document: dict[str, Any]


def run(arguments: argparse.Namespace, output: Output) -> None:
    """Allocate, fill, verify, say so, and hold; whatever happens, release."""
    _check_names(arguments)
    with ExitStack() as stack:
        _require(arguments)
        filling = _filling(arguments, stack)
        began = time.monotonic()
        buffers = _allocated(arguments, stack)
        seconds = {"allocate": time.monotonic() - began}
        _tell(buffers, seconds["allocate"], output)
        if filling is not None:
            seconds["fill"] = _fill(buffers, filling, output)
        if arguments.verify:
            content = contents.constant(0) if filling is None else filling.content
            seconds["verify"] = _verify(buffers, content, output)
        fields = {
            "buffers": [described.document(index, buffer) for index, buffer in enumerate(buffers)],
            "fill": filling and filling.document,
            "verified": arguments.verify,
            "seconds": {
                step: round(seconds[step], 6) if step in seconds else None
                for step in ("allocate", "fill", "verify")
            },
        }
        if not arguments.hold and arguments.hold_for is None:
            output.document(**fields, hold=None)
            return
        with stop_signals_blocked():
            _say_how_to_stop(arguments.hold_for, output)
            output.document(**fields, hold={"pid": os.getpid(), "seconds": arguments.hold_for})
            output.flush()
            wait_for_stop(arguments.hold_for)
            stack.close()
        output.line("released")


def _check_names(arguments: argparse.Namespace) -> None:
    if arguments.name is None:
        return
    try:
        checked_name(_buffer_name(arguments.name, arguments.count - 1, arguments.count))
    except ValueError as error:
        raise UsageError(str(error)) from None


def _buffer_name(name: str, index: int, count: int) -> str:
    """Return what one of `count` buffers is called: NAME alone, or NAME-0 and so on."""
    return name if count == 1 else f"{name}-{index}"


def _filling(arguments: argparse.Namespace, stack: ExitStack) -> Filling | None:
    if arguments.fill is not None:
        byte = arguments.fill
        return Filling(contents.constant(byte), f"{byte:#04x}", {"kind": "byte", "byte": byte})
    if arguments.fill_pattern:
        return Filling(contents.pattern, "the pattern", {"kind": "pattern"})
    if arguments.fill_from is not None:
        file = FileContent(arguments.fill_from, arguments.size)
        stack.callback(file.close)
        short = file.length < _memory.rounded(arguments.size)
        label = f"{file.name} ({file.length} bytes, then zeros)" if short else file.name
        document = {"kind": "file", "file": file.name, "length": file.length}
        return Filling(file, label, document)
    return None


def _allocated(arguments: argparse.Namespace, stack: ExitStack) -> list[Buffer]:
    count = arguments.count
    buffers: list[Buffer] = []
    with allocator(arguments.heap) as allocate, progress("allocating", count) as advance:
        for index in range(count):
            name = arguments.name and _buffer_name(arguments.name, index, count)
            try:
                buffers.append(stack.enter_context(allocate(arguments.size, name=name)))
            except OSError as error:
                if not buffers:
                    raise
                raise Failure(
                    f"{len(buffers)} of {count} buffers were allocated, and released again:"
                    f" {one_line(error)}",
                    error.errno,
                ) from None
            advance(1)
    return buffers


def _require(arguments: argparse.Namespace) -> None:
    """Refuse what is too much in all: the library looks at each buffer alone."""
    sizes = exact(arguments.size)
    if arguments.count > 1:
        sizes = f"{arguments.count} x {sizes}"
    total = arguments.count * _memory.rounded(arguments.size)
    _memory.require(total, sizes, cma=is_contiguous(arguments.heap))


def _tell(buffers: list[Buffer], seconds: float, output: Output) -> None:
    rows = [described.row(index, buffer) for index, buffer in enumerate(buffers)]
    output.table(f"Allocated in {duration(seconds)}", described.COLUMNS, rows)


def _fill(buffers: list[Buffer], filling: Filling, output: Output) -> float:
    total = sum(buffer.size for buffer in buffers)
    began = time.monotonic()
    with progress("filling", total) as advance:
        for index, buffer in enumerate(buffers):
            contents.fill(buffer, index, filling.content, advance)
    seconds = time.monotonic() - began
    output.line(f"filled with {filling.label} in {_pace(total, seconds)}")
    return seconds


def _verify(buffers: list[Buffer], content: Content, output: Output) -> float:
    total = sum(buffer.size for buffer in buffers)
    began = time.monotonic()
    with progress("verifying", total) as advance:
        for index, buffer in enumerate(buffers):
            found = contents.difference(buffer, index, content, advance)
            if found is not None:
                raise Failure(str(found), document={"difference": found._asdict()})
    seconds = time.monotonic() - began
    output.line(f"verified in {_pace(total, seconds)}")
    return seconds


def _pace(size: int, seconds: float) -> str:
    return f"{duration(seconds)}, {rough(size / max(seconds, 1e-9))}/s"


def _say_how_to_stop(seconds: float | None, output: Output) -> None:
    until = "until" if seconds is None else f"for {seconds:g} s, or until"
    output.line(f"holding {until} Ctrl-C or kill {os.getpid()}")
