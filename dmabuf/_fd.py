"""The owner of a descriptor: the only place that closes one.

A descriptor's number may be reused by the next open(2) of any thread as soon as it is closed. So
whoever is about to use the number takes a *hold* first, and the number is given back with the last:

=============  ==============  ======================  =================  =======================
state          take a hold     close()                 detach()           last hold dropped
=============  ==============  ======================  =================  =======================
open, idle     gives number    number given back       gives the number   -
open, held     gives number    closed; number is kept  OSError, EBUSY     open, idle
closed, held   ValueError      nothing                 ValueError         number given back
closed, idle   ValueError      nothing                 ValueError         -
=============  ==============  ======================  =================  =======================

Fork copies all of it: parent and child each have an open descriptor and close their own. A hold
belongs to the thread that took it; in the child only the forking thread lives on, so its holds
stay and the others are void.

Taking and dropping a hold is one operation on a list, which is atomic with and without the GIL, and
then a look at the mark of a closed descriptor; closing sets the mark, then looks at the list. So
one of the two sees the other. What decides (close, detach, give back) does it under one lock for
all descriptors: re-entrant, since a signal handler or a finalizer may close one in the middle, and
taken by fork, so that no child inherits a decision half made.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import warnings
from _thread import get_ident
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from dmabuf import _libc
from dmabuf.errors import NotADmaBufError, os_error

if TYPE_CHECKING:
    from typing import Protocol

    class HasFileno(Protocol):
        """A file, a socket, a buffer: anything that select(2) takes."""

        def fileno(self) -> int:
            """Return the descriptor's number."""


_DMA_BUF_MAGIC = 0x444D4142  # include/uapi/linux/magic.h
_Self = TypeVar("_Self", bound="Owner")

ANY_THREAD, NO_THREAD = 0, -1
"""Whose hold belongs to the process, and lives on in a fork; and whose never does."""
UNUSED, _USED = -1, -2
"""What stands for the number of a hold that is not taken yet, or not any more."""

_lock = threading.RLock()
_closing: dict[int, Owner] = {}  # closed and held, by id


class _Process(NamedTuple):
    """One process of a line of forks."""

    parent: _Process | None
    survivor: int  # the thread that forked, which lives on here


_process = _Process(None, ANY_THREAD)


class Owner:
    """What owns a number of the kernel's: a descriptor, or a handle of a device.

    Closed once, by `close()`, a `with` block or, with a warning, by GC.
    """

    __slots__ = ("__weakref__", "_closed", "_holds", "_number", "_watchers")
    _give_back: Callable[[int], None]
    _NUMBER = "handle"

    def __init__(self, number: int) -> None:
        self._closed = False
        self._holds: list[Hold] = []
        self._watchers: dict[object, Watcher] = {}
        self._number = number

    @property
    def closed(self) -> bool:
        """Whether `close()` or `detach()` was called; True at once, also while a hold is open."""
        return self._closed

    def close(self) -> None:
        """Close, and give the number back now or with the last hold. Does nothing the second time.

        Thread-safe: every later use raises ValueError, in every thread; a system call or an access
        that is under way ends as it would have.
        """
        try:
            self._settle(True)
        finally:
            self._let_go()
            if self._watchers:
                for watcher in list(self._watchers.values()):
                    watcher.owner_closed()

    def _settle(self, closing: bool = False) -> None:
        """Give the number of a closed descriptor back, unless somebody holds it."""
        number, key = -1, id(self)
        try:
            with _lock:
                if self._holds:
                    self._void_lost_holds()
                # No signal handler runs before the decision.
                if closing:
                    self._closed = True
                if not self._closed:
                    pass  # a detach() was refused
                elif self._holds:
                    _closing[key] = self
                else:
                    number, self._number = self._number, -1
                    if _closing:
                        _closing.pop(key, None)
        finally:
            if number >= 0:
                self._give_back(number)

    def _let_go(self) -> None:
        """Drop what the object keeps beside the number; called once closed."""

    def _require_open(self) -> None:
        """Raise ValueError if closed; called when the mark is seen, and waits for its decision."""
        with _lock:
            if self._closed:
                raise ValueError(f"operation on a closed {type(self).__name__}: {self!r}")

    def _void_lost_holds(self) -> None:
        """Forget the holds of threads that a fork left behind. The lock is held."""
        for hold in self._holds.copy():  # others take and drop theirs meanwhile
            if not hold.survives():
                hold.forget()

    def __enter__(self: _Self) -> _Self:
        if self._closed:
            self._require_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> str:
        name = type(self).__name__
        raise TypeError(f"a {name} can't be copied or pickled: its {self._NUMBER} has one owner")

    def __del__(self) -> None:
        # Nobody holds what is collected: every hold refers to its owner.
        try:
            number, self._number = self._number, -1
        except AttributeError:
            return  # the constructor failed
        if number >= 0:
            try:
                if not self._closed:
                    message = f"unclosed {type(self).__name__} with {self._NUMBER} {number}"
                    warnings.warn(message, ResourceWarning, stacklevel=2, source=self)
            finally:  # the warning may be an error
                self._give_back(number)


class Descriptor(Owner):
    """An owned descriptor."""

    __slots__ = ()
    # Not a method, which a signal handler that raises could keep from closing.
    _give_back: Callable[[int], None] = staticmethod(os.close)
    _NUMBER = "descriptor"

    def fileno(self) -> int:
        """Return the descriptor's number, which stays this object's. ValueError when closed."""
        if self._closed:
            self._require_open()
        return self._number

    def detach(self) -> int:
        """Return the number and leave it to the caller; the object is closed.

        OSError with EBUSY while an access or a system call holds the descriptor; ValueError when
        closed.
        """
        with _lock:
            self._void_lost_holds()
            if self._closed:
                self._require_open()
            # No signal handler runs before the decision.
            self._closed = True  # whoever takes a hold from here on waits for the lock
            if self._holds:
                self._closed = False
                held = f"{self!r} is in use; end its accesses and waits before detach()"
                raise os_error(errno.EBUSY, held)
            number, self._number = self._number, -1
        self._let_go()
        return number


class Watcher:
    """Somebody who waits for a descriptor, and is told when it is closed."""

    __slots__ = ()

    def owner_closed(self) -> None:
        """Stop waiting. Called in the thread that closes, which may be a finalizer's."""


class HoldUsedError(ValueError):
    """A hold was taken for the second time."""


class Hold:
    """The right to use a descriptor's number until `drop()`. Single use."""

    __slots__ = ("_owner", "_process", "number", "thread")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.number = UNUSED

    def take(self) -> int:
        """Return the number, which can't be closed or reused before `drop()`."""
        if self.number != UNUSED:
            raise HoldUsedError(f"a {type(self).__name__} is for a single use; make a new one")
        owner = self._owner
        self._process = _process
        self.thread = get_ident()
        number = owner._number
        if number < 0:
            owner._require_open()
        try:
            # No signal handler runs between these two lines.
            self.number = number
            owner._holds.append(self)
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
            owner = self._owner
            self.number = _USED
            try:
                owner._holds.remove(self)
            except ValueError:
                pass  # void since a fork
            finally:
                if owner._closed:
                    owner._settle()

    __enter__ = take
    __exit__ = drop

    def forget(self) -> None:
        """Make the hold void, in a child whose thread it is not."""
        self.number = _USED
        with contextlib.suppress(ValueError):
            self._owner._holds.remove(self)

    def survives(self) -> bool:
        """Whether the thread that took it lives in this process."""
        process = _process
        while process is not self._process:
            if self.thread not in (ANY_THREAD, process.survivor) or process.parent is None:
                return False
            process = process.parent
        return True


def owned_number(descriptor: int) -> int:
    """Return the number of a descriptor that is handed over; an object would keep its own."""
    if not isinstance(descriptor, int) and hasattr(descriptor, "fileno"):
        kind = type(descriptor).__name__
        raise TypeError(f"a {kind} keeps its descriptor: use from_fd(), or detach() it first")
    return descriptor_number(descriptor)


def descriptor_number(descriptor: int | HasFileno) -> int:
    """Return the number of a descriptor, or of an object with a `fileno()`."""
    if isinstance(descriptor, bool):
        raise TypeError("a descriptor is an int or has a fileno(), not bool")
    number = descriptor if isinstance(descriptor, int) else _fileno(descriptor)
    if number < 0:
        raise ValueError(f"a descriptor can't be negative: {number}")
    return number


def _fileno(owner: HasFileno) -> int:
    try:
        fileno = owner.fileno
    except AttributeError:
        kind = type(owner).__name__
        raise TypeError(f"a descriptor is an int or has a fileno(), not {kind}") from None
    return fileno()


def duplicate(number: int) -> int:
    """Return a new descriptor of the same open file, closed on exec."""
    return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 0)


def check_dma_buf(number: int) -> None:
    """Raise NotADmaBufError, with what it is instead, unless the descriptor is a dma-buf."""
    if _libc.filesystem_magic(number) != _DMA_BUF_MAGIC:
        what = f"descriptor {number} is no dma-buf but {open_file(number)}; it was left open"
        raise NotADmaBufError(what)


def open_file(number: int) -> str:
    """Return what /proc says of a descriptor's open file, for messages."""
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return "something else"


def _after_fork_in_child() -> None:
    global _process
    _process = _Process(_process, get_ident())
    try:
        for owner in list(_closing.values()):
            owner._settle()
    finally:
        _lock.release()


os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork_in_child
)
