"""`dmabuf-alloc bench`: what a heap's memory costs by its size, beside ordinary memory."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from dmabuf import _memory
from dmabuf.cli.checks import measure
from dmabuf.cli.checks.exporters import allocator, exporters
from dmabuf.cli.checks.measure import Figures
from dmabuf.cli.console.failure import Failure, UsageError, one_line
from dmabuf.cli.console.output import Output, to_the_right
from dmabuf.cli.console.progress import progress
from dmabuf.cli.console.size import duration, exact, parse_size, short
from dmabuf.cli.console.values import parse_count, parse_heap, typed

SUMMARY = "Measure the memory of heaps by size, and compare it with ordinary memory."
EXAMPLES = (
    ("bench", "all heaps and udmabuf, 4 KiB to 16 MiB"),
    ("bench --heap system --sizes 64K,1M,32M", "one heap, and your own sizes"),
    ("bench --plot bench.png", "also draw a picture"),
)
_SIZES = "4K,64K,1M,16M"
_EPILOG = """\
allocate: the time until the memory is allocated and zeroed. map: the time until the CPU has touched
each page. SYNC: one START and END. writes, reads: a copy of the whole buffer within one SYNC.
x: the time relative to ordinary memory, measured in the same run; the first x is for allocate and
map together. Each figure is the best of all rounds, as a Python program sees it.
"""
_COLUMNS = ("size", "allocate", "map", "x", "SYNC", "writes", "x", "reads", "x")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare its arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add(
        "--heap",
        metavar="HEAP",
        action="append",
        type=typed(parse_heap),
        help="a heap's name or path, or udmabuf; repeatable; default: all that work",
    )
    add(
        "--sizes",
        metavar="SIZE,...",
        type=typed(_sizes),
        default=_sizes(_SIZES),
        help=f"the buffers' sizes ({_SIZES})",
    )
    add(
        "--rounds",
        metavar="N",
        type=typed(parse_count),
        default=5,
        help="measure N times, take the best (5)",
    )
    add("--plot", metavar="FILE", type=typed(_picture), help="also write a picture, FILE.png")


def _sizes(text: str) -> list[int]:
    return sorted({_memory.rounded(parse_size(one)) for one in text.split(",")})


def _picture(text: str) -> str:
    if not text.lower().endswith(".png"):
        raise ValueError(f"{text!r} does not end in .png, the only supported picture format")
    return text


class Measured(NamedTuple):
    """One kind of memory, with its figures by size; an error if it can't be had at all."""

    name: str
    path: str | None
    figures: list[Figures]
    error: str | None = None


def run(arguments: argparse.Namespace, output: Output) -> None:
    """Measure, print, draw; Failure if no exporter could be measured."""
    if arguments.plot is not None:
        _require_folder(arguments.plot)
        _require_pillow()
    largest = arguments.sizes[-1]
    # Beside the memory itself there is what is copied to it. Nobody's process is to die for it.
    _memory.require(2 * largest, f"twice {exact(largest)}, the largest size")
    wanted = _wanted(arguments.heap)
    with progress("measuring", (1 + len(wanted)) * len(arguments.sizes)) as advance:
        ordinary = []
        for size in arguments.sizes:
            ordinary.append(measure.ordinary(size, arguments.rounds))
            advance(1)
        measured = [Measured(measure.ORDINARY, None, ordinary)]
        for name, path in wanted:
            measured.append(_measure(name, path, arguments))
            advance(len(arguments.sizes))
    for one in measured:
        _tell(one, ordinary, output)
    document: dict[str, object] = {
        "rounds": arguments.rounds,
        "memories": [_document(one, ordinary) for one in measured],
        "plot": arguments.plot,
    }
    failed = [one for one in measured if one.error is not None]
    if failed and arguments.heap is not None:
        raise Failure(f"{failed[0].name}: {failed[0].error}", document=document)
    for one in failed:
        output.note(f"{one.name}: {one.error}")
    if len(failed) == len(wanted):
        raise Failure(
            "no exporter could be measured; run dmabuf-alloc check to see why", document=document
        )
    if arguments.plot is not None:
        from dmabuf.cli.checks import plot

        with _writing(arguments.plot, document):
            plot.draw(
                arguments.plot, [(one.name, one.figures) for one in measured if not one.error]
            )
        output.line(f"picture: {arguments.plot}")
    output.document(**document)


def _wanted(heaps: list[str] | None) -> list[tuple[str, str]]:
    """Return the names and paths to measure; protected memory is not for the processor."""
    if heaps is not None:
        return [(os.path.basename(heap), heap) for heap in dict.fromkeys(heaps)]
    return [(one.name, one.path) for one in exporters() if not one.protected]


def _measure(name: str, path: str, arguments: argparse.Namespace) -> Measured:
    try:
        with allocator(path) as allocate:
            figures = [
                measure.dma_buf(size, arguments.rounds, allocate) for size in arguments.sizes
            ]
    except OSError as error:
        return Measured(name, path, [], one_line(error))
    if all(one.error is not None for one in figures):
        return Measured(name, path, figures, figures[0].error)
    return Measured(name, path, figures)


def _tell(measured: Measured, ordinary: list[Figures], output: Output) -> None:
    if measured.error is not None:
        return
    rows = []
    for own, other in zip(measured.figures, ordinary, strict=True):
        times = own.against(other)
        is_other = measured.name != measure.ORDINARY
        cells = (
            short(own.size),
            _time(own.allocate),
            _time(own.map),
            _factor(times["allocate"]) if is_other else "",
            _time(own.sync),
            _pace(own.size, own.write),
            _factor(times["write"]) if is_other else "",
            _pace(own.size, own.read),
            _factor(times["read"]) if is_other else "",
        )
        rows.append(cells)
    columns, *cells_to_the_right = to_the_right([_COLUMNS, *rows], *range(len(_COLUMNS)))
    title = "ordinary memory" if measured.path is None else measured.name
    output.table(title, columns, cells_to_the_right)
    for one in measured.figures:
        if one.error is not None:
            output.line(f"{measured.name}, {exact(one.size)}: {one.error}")


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _pace(size: int, seconds: float | None) -> str:
    return "-" if seconds is None else f"{short(size / seconds)}/s"


def _factor(times: float | None) -> str:
    if times is None:
        return "-"
    return f"{times:.0f}x" if times >= 100 else f"{times:.3g}x" if times >= 1 else f"{times:.2f}x"


def _document(measured: Measured, ordinary: list[Figures]) -> dict[str, object]:
    sizes = zip(measured.figures, ordinary, strict=False)
    return {
        "name": measured.name,
        "path": measured.path,
        "sizes": [own.document(other) for own, other in sizes],
        "error": measured.error,
    }


def _require_pillow() -> None:
    from dmabuf.cli.console.chart import require_pillow

    try:
        require_pillow()
    except ImportError:
        raise Failure("--plot needs Pillow 10.1; run pip install 'dmabuf[plot]'") from None


def _require_folder(path: str) -> None:
    """Refuse what could not be written in the end, before it takes its time."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise UsageError(f"{path}: there is no folder {folder}")


@contextmanager
def _writing(path: str, document: dict[str, object]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise Failure(f"{path}: {reason}", error.errno, document=document) from None
