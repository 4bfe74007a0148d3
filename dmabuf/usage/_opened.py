"""What this package opens while leaks are looked for, and where in the program that was."""

from __future__ import annotations

import os
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator
from types import CodeType, FrameType

from dmabuf import _fd
from dmabuf._locks import Lock

Stack = tuple[tuple[CodeType, int], ...]
"""Places in the program, the innermost first."""

_DEPTH = 32  # places of a stack that are kept
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_BETWEEN = (_OURS, os.path.dirname(os.__file__) + os.sep + "contextlib.py")

_lock = Lock()
_recorders: tuple[Recorder, ...] = ()


class Recorder:
    """Notes owners as they are made."""

    def __init__(self, ends: Callable[[FrameType], bool] | None) -> None:
        """Note stacks too, within the first frame for which `ends` is true; none without it."""
        self._ends = ends
        self._descriptors: dict[int, Stack] = {}
        self._handles: dict[int, tuple[weakref.ref[_fd.Owner], Stack]] = {}

    def start(self) -> None:
        """Note what is opened from now on, in all threads."""
        _set(add=self)

    def stop(self) -> None:
        """Note no more; what was noted is kept."""
        _set(remove=self)

    def note(self, owner: _fd.Owner, number: int) -> None:
        """Note an owner; what had its number before has been closed."""
        stack = self._stack() if self._ends is not None else ()
        if isinstance(owner, _fd.Descriptor):
            self._descriptors[number] = stack
        else:
            self._handles[id(owner)] = weakref.ref(owner), stack

    def knows(self, number: int) -> bool:
        """Whether the last who had a descriptor's number was made here."""
        return number in self._descriptors

    def stack(self, number: int) -> Stack:
        """Return where a descriptor was made; nothing if that was not noted."""
        return self._descriptors.get(number, ())

    def open_handles(self) -> Iterator[tuple[_fd.Owner, Stack]]:
        """Give what is still open and is no descriptor: handles of a device."""
        for reference, stack in list(self._handles.values()):
            owner = reference()
            if owner is not None and not owner.closed:
                yield owner, stack

    def _stack(self) -> Stack:
        """Return the places of the program that led here, within the frame that ends it."""
        places: list[tuple[CodeType, int]] = []
        frame: FrameType | None = sys._getframe(3)
        while frame is not None and len(places) < _DEPTH:
            if self._ends is not None and self._ends(frame):
                break
            if not frame.f_code.co_filename.startswith(_BETWEEN):
                places.append((frame.f_code, frame.f_lineno))
            frame = frame.f_back
        return tuple(places)


def _set(*, add: Recorder | None = None, remove: Recorder | None = None) -> None:
    global _recorders
    with _lock:
        _recorders = tuple(
            one for one in (*_recorders, add) if one is not None and one is not remove
        )
        _fd.on_open = _note if _recorders else None


def _note(owner: _fd.Owner, number: int) -> None:
    for recorder in _recorders:
        recorder.note(owner, number)


def written(stack: Stack) -> list[str]:
    """Return a stack as Python writes it, the innermost last."""
    places = [(code.co_filename, line, code.co_name, None) for code, line in reversed(stack)]
    lines = traceback.StackSummary.from_list(places).format()
    return [line.rstrip("\n") for entry in lines for line in entry.splitlines()]
