"""What is shown on standard error while work goes on, in front of a terminal alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from dmabuf.cli.console.output import abandon

_PATIENCE = 0.5  # seconds; shorter work shows no bar
_PERIOD = 0.25  # seconds between two looks at what goes on without an end
_CLEAR = "\r\x1b[K"


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give a function that is told each step done, out of `total`."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda step: None
        return
    with ExitStack() as stack:
        begun = time.monotonic()
        done = 0
        show: Callable[[int], None] | None = None

        def advance(step: int) -> None:
            nonlocal done, show
            done += step
            if show is None and done < total and time.monotonic() - begun > _PATIENCE:
                show = _bar(stack, what, total)
            if show is not None:
                show(done)

        yield advance


def _bar(stack: ExitStack, what: str, total: int) -> Callable[[int], None]:
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        return lambda done: None  # the work goes on without it
    bar = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
    task = bar.add_task(what, total=total)
    return lambda done: bar.update(task, completed=done)


@contextmanager
def status() -> Iterator[Callable[[Callable[[], str]], None]]:
    """Give a function that shows a line, four times a second at most, over the one before."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda line: None
        return
    shown = 0.0

    def show(line: Callable[[], str]) -> None:
        nonlocal shown
        if time.monotonic() - shown > _PERIOD:
            shown = time.monotonic()
            _write(f"{_CLEAR}{line()}")

    try:
        yield show
    finally:
        _write(_CLEAR)


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:  # the terminal has gone, and nobody looks
        abandon(sys.stderr)
