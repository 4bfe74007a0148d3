"""A signal at each point of the package's code at which Python runs signal handlers.

CPython looks for signals where a function starts and after a C function has returned. A profiler
sees both, so a handler can be run at the first such point, then at the second, and so on.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeVar

import dmabuf

# Python 3.10 also looks where a call of a function of Python's has ended.
_POINTS = ("call", "c_return") if sys.version_info >= (3, 11) else ("call", "c_return", "return")
_PACKAGE = str(Path(dmabuf.__file__).parent)


_Result = TypeVar("_Result")


class Interrupted(BaseException):
    """What a handler raises, as Python's own raises KeyboardInterrupt."""


class Moment:
    """The `point`-th point: `reached` once the signal has come, and `where` that was."""

    def __init__(self, point: int, passed_over: Collection[CodeType], finalizers: bool) -> None:
        self._left = point
        self._passed_over = passed_over
        self._finalizers = finalizers
        self.reached = False
        self.where = "nowhere"

    @contextlib.contextmanager
    def runs(self, handler: Callable[[], object]) -> Iterator[None]:
        """Have the signal come in the block, and run its handler."""
        before = signal.signal(signal.SIGUSR1, lambda *_: handler())
        report = sys.unraisablehook
        sys.unraisablehook = partial(_report_others, report)
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            sys.unraisablehook = report
            signal.signal(signal.SIGUSR1, before)

    def interrupts(self, call: Callable[[], _Result]) -> _Result | None:
        """Return what a call returns; None if the signal's handler has raised in it."""
        with contextlib.suppress(Interrupted), self.runs(raise_interrupted):
            return call()
        return None

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if not _ours(frame) or event not in _POINTS:
            return
        if not self._finalizers and _in_finalizer(frame):
            return
        if sys.version_info < (3, 11) and frame.f_code.co_flags & inspect.CO_GENERATOR:
            return  # one that goes on, maybe with an exception, before which no handler runs
        back = frame.f_back
        if frame.f_code in self._passed_over or (back and back.f_code in self._passed_over):
            return
        if self._left:
            self._left -= 1
            return
        sys.setprofile(None)
        self.reached = True
        self.where = f"{event} in {frame.f_code.co_name}, line {frame.f_lineno}"
        if event == "c_return":
            self.where += f", {argument.__name__}"
        signal.raise_signal(signal.SIGUSR1)


def every_point(
    *passed_over: Callable[..., object], finalizers: bool = False, step: int = 1
) -> Iterator[Moment]:
    """Give a moment for each point of the same code, until it ends before the signal comes.

    Or for each `step`-th, where the code takes too long for all.

    Points in these functions, and where they begin to call others, are passed over. So are those in
    finalizers, unless asked for: there Python reports what a handler raises, and goes on.
    """
    codes = {function.__code__ for function in passed_over}
    for point in itertools.count(0, step):
        moment = Moment(point, codes, finalizers)
        yield moment
        if not moment.reached:
            assert point, "no code of the package ran"
            return


def raise_interrupted() -> None:
    """Raise `Interrupted`: the handler of a signal that is to end the program."""
    raise Interrupted


def _report_others(report: Callable[[Any], object], unraisable: Any) -> None:
    if not isinstance(unraisable.exc_value, Interrupted):
        report(unraisable)


def _in_finalizer(frame: FrameType | None) -> bool:
    while frame is not None and _ours(frame):
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _ours(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_code.co_filename.startswith(_PACKAGE)
