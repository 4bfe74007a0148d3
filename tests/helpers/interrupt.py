"""A signal at each point of the package's code at which Python runs signal handlers.

CPython looks for signals where a function starts and after a C function has returned. A profiler
sees both, so a handler can be run at the first such point, then at the second, and so on.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import dmabuf
from dmabuf._fd import Hold
from dmabuf.access import AccessScope
from dmabuf.image import ImageScope

_PACKAGE = str(Path(dmabuf.__file__).parent)
# Where a `with` block has ended and its exit has not begun, no code can guard against a handler
# that raises. The standard library has the same gap.
_UNGUARDED = {scope.__exit__.__code__ for scope in (Hold, AccessScope, ImageScope)}
_UNGUARDED |= {scope.__aexit__.__code__ for scope in (AccessScope, ImageScope)}


class Interrupted(BaseException):
    """What a handler raises, as Python's own raises KeyboardInterrupt."""


class Moment:
    """The `point`-th point: `reached` once the signal has come, and `where` that was."""

    def __init__(self, point: int, passed_over: Collection[CodeType]) -> None:
        self._left = point
        self._passed_over = passed_over
        self.reached = False
        self.where = "nowhere"

    @contextlib.contextmanager
    def runs(self, handler: Callable[[], object]) -> Iterator[None]:
        """Have the signal come in the block, and run its handler."""
        before = signal.signal(signal.SIGUSR1, lambda *_: handler())
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            signal.signal(signal.SIGUSR1, before)

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if not _ours(frame) or event not in ("call", "c_return") or _in_finalizer(frame):
            return
        if event == "call" and frame.f_code in _UNGUARDED and not _ours(frame.f_back):
            return
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


def every_point(*passed_over: Callable[..., object]) -> Iterator[Moment]:
    """Give a moment for each point of the same code, until it ends before the signal comes.

    Points in these functions, and where they begin to call others, are passed over.
    """
    codes = {function.__code__ for function in passed_over}
    for point in itertools.count():
        moment = Moment(point, codes)
        yield moment
        if not moment.reached:
            assert point, "no code of the package ran"
            return


@contextlib.contextmanager
def quick_collections() -> Iterator[None]:
    """Have gc.collect() look in the block at what is made there alone, not at all modules again."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def raise_interrupted() -> None:
    """Raise `Interrupted`: the handler of a signal that is to end the program."""
    raise Interrupted


def _in_finalizer(frame: FrameType | None) -> bool:
    """Whether an object is being collected: Python reports what a handler raises, and goes on."""
    while frame is not None and _ours(frame):
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _ours(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_code.co_filename.startswith(_PACKAGE)
