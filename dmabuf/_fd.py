"""The owner of a descriptor: the only place that closes one.

What to know before `with buffer.read()`: a `Buffer` is an `Owner` of a descriptor's number. The
number may be reused by the next open(2) of any thread as soon as it is closed, so whoever is about
to use it has a hold first: a system call for as long as it runs (`held`), a block or a task for as
long as it takes (`Hold`), a scope of access from its SYNC START to its END. `close()` marks the
object closed at once, which ends awaits with ValueError; the number itself is given back with the
last hold. Objects *have* a hold, they are none. Only a scope of access is one, and takes it as
`Hold` does: most programs make nothing as often, and a second object would be a third of its cost.

=============  ==============  ======================  =================  =======================
state          take a hold     close()                 detach()           last hold dropped
=============  ==============  ======================  =================  =======================
open, idle     gives number    number given back       gives the number   -
open, held     gives number    closed; number is kept  OSError, EBUSY     open, idle
closed, held   ValueError      nothing                 ValueError         number given back
closed, idle   ValueError      nothing                 ValueError         -
=============  ==============  ======================  =================  =======================

Fork copies all of it: parent and child each have an open descriptor and close their own. What
another thread held when a child was forked stays held there, where nobody can drop it: the child
keeps such a number until it executes another program or ends.

Taking and dropping a hold is one operation on a list, which is atomic with and without the GIL, and
then a look at the mark of a closed descriptor; closing sets the mark, then looks at the list. So
one of the two sees the other. What decides (close, detach, give back) does it under one lock for
all descriptors: re-entrant, since a signal handler or a finalizer may close one in the middle, and
taken by fork, so that no child inherits a decision half made.

A signal handler that raises, as Python's own for Ctrl-C does, loses nothing:

- What a system call makes goes through `own` of `_owning.py`, or through `keep`: its number is in a
  list before a handler can run, and its owner is there before the call.
- A handler may come where a `with` block has ended and its exit has not begun. A hold that was left
  so is dropped when it is collected, with the exception at the latest: the list of holds counts
  them, and refers to none. Between a call and the `finally` after it none can come: `held`.
- A finalizer may be interrupted before its first line. So there are two: that of the object, and
  that of its list of holds, which has the number once more.

"No signal handler runs here" says that the interpreter looks for signals only where a function
begins, where a call ends and where a loop jumps back. In Python 3.14 one of C's ends so between
`__enter__` and the block of a `with`: for locks see `_locks.py`. `TestSignals` in tests/test_fd.py
and tests/test_interrupted.py run a handler at each such point.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from dmabuf._closing import Closing, require_new
from dmabuf._locks import Lock
from dmabuf.errors import os_error

if TYPE_CHECKING:
    from typing import Protocol

    class Watcher(Protocol):
        """What waits for a descriptor, and is told when it is closed."""

        def owner_closed(self) -> None:
            """Stop waiting. Called in the thread that closes, which may be a finalizer's."""


_Self = TypeVar("_Self", bound="Owner")
_Result = TypeVar("_Result")

UNUSED, USED = -1, -2
"""What stands for the number of a hold that is not taken yet, or not any more."""

lock = Lock()
"""For all descriptors: whoever has it decides."""

on_open: Callable[[Owner, int], None] | None = None
"""Told of each new owner and its number, before it is one's own; set while leaks are looked for."""


class Holds(list[None]):
    """How many holds an owner has: one element each. And its number, for a second finalizer."""

    __slots__ = ("give_back", "number")
    number: int
    give_back: Callable[[int], object]

    def __del__(self) -> None:
        try:
            number = self.number
        except AttributeError:
            return
        if number >= 0:
            self.number = -1
            self.give_back(number)  # the owner's own finalizer was interrupted at its first line


class Owner(Closing):
    """What owns a number of the kernel's: a descriptor, or a handle of a device.

    Closed once, by `close()`, a `with` block or, with a warning, by GC.
    """

    __slots__ = ("__weakref__", "_closed", "_holds", "_number", "_watchers")
    _give_back: Callable[[int], object]
    """A function of C: a signal handler that raises could keep a method from its first line.

    It refers to no owner, which outlives it.
    """
    _HOLDS = Holds
    _NUMBER = "handle"

    def __init__(self, number: int) -> None:
        require_new(self)
        self._own(number)

    def _own(self, number: int) -> None:
        """Own a number; the last assignments, so whoever raises before them owns nothing."""
        self._closed = False
        self._watchers: dict[object, Watcher] | None = None  # until the first comes
        self._holds = holds = self._HOLDS()
        holds.give_back = self._give_back
        if on_open is not None:
            on_open(self, number)
        # No signal handler runs here, between the two.
        holds.number = number
        self._number = number

    @property
    def closed(self) -> bool:
        """True once `close()` or `detach()` was called, also while an access is still open."""
        return self._closed

    def close(self) -> None:
        """Close the object. Does nothing the second time.

        Every later use raises ValueError, in every thread. An access or a system call that is under
        way ends as it would have, and the descriptor stays open until then. Thread-safe.
        """
        try:
            self._settle(True)
        except BaseException:
            self._let_go()  # a signal handler may have raised before that, or amid it
            raise
        finally:
            if self._watchers:
                for watcher in watchers(self).values():
                    watcher.owner_closed()

    def _settle(self, closing: bool = False) -> None:
        """Give the number of a closed descriptor back, unless somebody holds it; then let go."""
        holds, number = self._holds, -1
        try:
            with lock:
                # No signal handler runs here, before the decision.
                if closing:
                    self._closed = True
                if self._closed and not holds:  # not closed: a detach() was refused
                    number, self._number = self._number, -1
                    holds.number = -1
        finally:
            try:
                if number >= 0:
                    holds.give_back(number)
            finally:
                self._let_go()

    def _let_go(self) -> None:
        """Drop what is kept beside the number: when closed, and when that is given back."""

    def _require_open(self) -> None:
        """Raise ValueError if closed; called when the mark is seen, and waits for its decision."""
        with lock:
            if self._closed:
                raise ValueError(f"operation on a closed {type(self).__name__}: {self!r}")

    def __enter__(self: _Self) -> _Self:
        if self._closed:
            self._require_open()
        return self

    def __reduce__(self) -> str:
        name = type(self).__name__
        raise TypeError(
            f"a {name} can't be copied or pickled: its {self._NUMBER} has one owner; open it again"
            " there, and pass buffers on by dmabuf.share.send or multiprocessing"
        )

    def __del__(self) -> None:
        # Nobody holds what is collected: every hold refers to its owner.
        try:
            number, holds = self._number, self._holds
        except AttributeError:
            return  # the constructor failed
        if number < 0:
            return  # it was given back, and both know
        self._number = -1
        if holds.number < 0:
            return  # it was given back by the list, which in a cycle may be collected first
        holds.number = -1
        try:
            if not self._closed:
                message = f"unclosed {type(self).__name__} with {self._NUMBER} {number}"
                warnings.warn(message, ResourceWarning, stacklevel=2, source=self)
        finally:  # the warning may be an error
            holds.give_back(number)


class Descriptor(Owner):
    """An owned descriptor."""

    __slots__ = ()
    _give_back: Callable[[int], object] = staticmethod(os.close)
    _NUMBER = "descriptor"

    def fileno(self) -> int:
        """Return the descriptor's number, which this object still owns. ValueError if closed."""
        if self._closed:
            self._require_open()
        return self._number

    def detach(self) -> int:
        """Close the object and return its descriptor, which the caller now owns.

        Raises OSError (EBUSY) while an access or a system call uses the descriptor, and ValueError
        if closed.
        """
        with lock:
            if self._closed:
                self._require_open()
            # No signal handler runs here, before the decision.
            self._closed = True  # whoever takes a hold from here on waits for the lock
            if self._holds:
                self._closed = False
                held = f"{self!r} is in use; end its accesses and waits before detach()"
                raise os_error(errno.EBUSY, held)
            number, self._number = self._number, -1
            self._holds.number = -1
        self._let_go()
        return number


class HoldUsedError(ValueError):
    """A hold was taken for the second time."""


class Hold:
    """The right to use a descriptor's number until `drop()`: `with Hold(owner) as number`.

    Single use. Any thread may drop it, one of them. Collection does, at the latest.
    """

    __slots__ = ("number", "owner")

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.number = UNUSED

    def take(self) -> int:
        """Return the number, which can't be closed or reused before `drop()`."""
        if self.number != UNUSED:
            raise HoldUsedError("this is for a single use; make a new one")
        owner = self.owner
        number = owner._number
        if number < 0:
            owner._require_open()
        try:
            # No signal handler runs here, between the two.
            self.number = number
            owner._holds.append(None)
            if owner._closed:
                owner._require_open()
        except BaseException:
            self.drop()
            raise
        return number

    def drop(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """End the hold; the last one of a closed descriptor gives the number back."""
        if self.number >= 0:
            owner = self.owner
            self.number = USED
            # No signal handler runs here, between the two.
            try:
                owner._holds.pop()
            finally:
                if owner._closed:
                    owner._settle()

    __enter__ = take
    __exit__ = drop

    def __del__(self) -> None:
        try:
            left = self.number >= 0
        except AttributeError:
            return  # the constructor was interrupted
        if left and self.owner._number >= 0:  # else it was collected before, in a cycle
            self._left()

    def _left(self) -> None:
        """End what a signal handler that raised has left."""
        self.drop()


def held(owner: Owner, call: Callable[..., _Result], *arguments: Any) -> _Result:
    """Return what a call returns that is given an owner's number, and has a hold of it meanwhile.

    As `with Hold(owner)`, for one call. Nothing can be left of it: no signal handler runs between
    the call and the end of the hold, so it needs no object of its own, whose making, two methods
    and finalizer are four calls of Python's.
    """
    holds = owner._holds
    try:
        holds.append(None)
        if owner._closed:
            owner._require_open()
        return call(owner._number, *arguments)
    finally:
        # No signal handler runs here, before the hold is dropped.
        try:
            holds.pop()
        finally:
            if owner._closed:
                owner._settle()


def held_all(owners: Sequence[Owner], call: Callable[..., _Result], *arguments: Any) -> _Result:
    """Return what a call returns that is given the numbers of one or more owners, all held."""
    first, *others = owners
    if not others:
        return held(first, lambda number: call([number], *arguments))

    def hold_others(number: int) -> _Result:
        return held_all(others, lambda numbers: call([number, *numbers], *arguments))

    return held(first, hold_others)


def require_open(owner: Owner) -> None:
    """Raise ValueError if it is closed; `fileno()` is for numbers that are given out."""
    if owner._closed:
        owner._require_open()


def watch(owner: Owner, key: object, watcher: Watcher) -> None:
    """Have somebody told, under a key of theirs, when a descriptor is closed."""
    with lock:
        if owner._watchers is None:
            owner._watchers = {}
    owner._watchers[key] = watcher


def unwatch(owner: Owner, key: object) -> None:
    """Forget who watches under a key; nothing if nobody does."""
    if owner._watchers is not None:
        owner._watchers.pop(key, None)


def watchers(owner: Owner) -> dict[object, Watcher]:
    """Return who watches a descriptor now, by their keys."""
    there = owner._watchers
    return {} if there is None else there.copy()


def close_kept(made: list[int], *places: int) -> None:
    """Close what `keep` has added to a list, at these places one after the other, or the first."""
    if made:
        # No signal handler runs between the two.
        tuple(map(os.close, map(made.pop, places or (0,))))


os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
