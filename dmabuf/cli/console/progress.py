"""A progress bar on standard error, for work that takes a while in front of a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

_PATIENCE = 0.5  # seconds; shorter work shows no bar


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
    from rich.console import Console
    from rich.progress import Progress

    bar = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
    task = bar.add_task(what, total=total)
    return lambda done: bar.update(task, completed=done)
