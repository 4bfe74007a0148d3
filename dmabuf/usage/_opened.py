"""What this package opens while leaks are looked for, and where in the program that was."""

from __future__ import annotations

import os
import sys
import threading
import traceback
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType

from dmabuf import _fd

Stack = tuple[tuple[CodeType, int], ...]
"""Places in the program, the innermost first."""

_DEPTH = 32  # places of a stack that are kept
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_BETWEEN = (_OURS, os.path.dirname(os.__file__) + os.sep + "contextlib.py")

_lock = threading.Lock()
_recorders: tuple[Recorder, ...] = ()


class Recorder:
    """Notes owners as they are made."""

    def __init__(self, block: int | None) -> None:
        self._block = block  # the identity of the frame that has the block, if stacks are wanted
        self._descriptors: dict[int, Stack] = {}
        self._handles: dict[int, tuple[weakref.ref[_fd.Owner], Stack]] = {}

    def note(self, owner: _fd.Owner, number: int) -> None:
        """Note an owner; what had its number before has been closed."""
        stack = self._stack() if self._block is not None else ()
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
        """Return the places of the program, from the block on, that led here."""
        places: list[tuple[CodeType, int]] = []
        frame: FrameType | None = sys._getframe(3)
        while frame is not None and len(places) < _DEPTH:
            if not frame.f_code.co_filename.startswith(_BETWEEN):
                places.append((frame.f_code, frame.f_lineno))
            if id(frame) == self._block:
                break
            frame = frame.f_back
        return tuple(places)


@contextmanager
def recording(*, trace: bool, block: FrameType | None) -> Iterator[Recorder]:
    """Note what is opened in the `with`, in all threads; with `trace` where, from `block` on."""
    recorder = Recorder(id(block) if trace else None)
    try:
        _set(add=recorder)
        yield recorder
    finally:
        _set(remove=recorder)


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
