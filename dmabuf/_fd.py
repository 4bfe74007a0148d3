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

Holds are counted under one lock for all descriptors, for a few attributes at a time. It is
re-entrant, since a signal handler or a finalizer may close a descriptor in the middle, and fork
takes it, so that no child inherits a half-done count.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import warnings
from _thread import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from dmabuf import _libc
from dmabuf.errors import NotADmaBufError, os_error

if TYPE_CHECKING:
    from typing import Protocol

    class HasFileno(Protocol):
        """A file, a socket, a buffer: anything that select(2) takes."""

        def fileno(self) -> int:
            """Return the descriptor's number."""


_DMA_BUF_MAGIC = 0x444D4142  # include/uapi/linux/magic.h
_Self = TypeVar("_Self", bound="Descriptor")

ANY_THREAD = 0
"""The holder of what no thread owns, such as an access begun without a scope."""

_lock = threading.RLock()
_closing: set[Descriptor] = set()  # closed, and held
_survivors: list[int] = []  # the thread that forked, for each fork between the first process and us


class Descriptor:
    """An owned descriptor: closed once, by `close()`, a `with` block or, with a warning, by GC."""

    __slots__ = ("__weakref__", "_closed", "_forks", "_holders", "_number")

    def __init__(self, number: int) -> None:
        self._number = number
        self._closed = False
        self._holders: list[int] = []
        self._forks = len(_survivors)

    @property
    def closed(self) -> bool:
        """Whether `close()` or `detach()` was called; True at once, also while a hold is open."""
        return self._closed

    def fileno(self) -> int:
        """Return the descriptor's number, which stays this object's. ValueError when closed."""
        if self._closed:
            raise self._is_closed()
        return self._number

    def close(self) -> None:
        """Close, and give the number back now or with the last hold. Does nothing the second time.

        Thread-safe: every later use raises ValueError, in every thread; a system call or an access
        that is under way ends as it would have.
        """
        number = -1
        try:
            with _lock:
                self._void_lost_holds()
                self._closed = True
                if self._holders:
                    _closing.add(self)
                else:
                    number, self._number = self._number, -1
            self._let_go()
        finally:
            if number >= 0:
                os.close(number)

    def detach(self) -> int:
        """Return the number and leave it to the caller; the object is closed.

        OSError with EBUSY while an access or a system call holds the descriptor; ValueError when
        closed.
        """
        with _lock:
            self._void_lost_holds()
            if self._closed:
                raise self._is_closed()
            if self._holders:
                held = f"{self!r} is in use; end its accesses and waits before detach()"
                raise os_error(errno.EBUSY, held)
            self._closed = True
            number, self._number = self._number, -1
        self._let_go()
        return number

    def _let_go(self) -> None:
        """Drop what the object keeps beside the number; called once closed."""

    def _is_closed(self) -> ValueError:
        return ValueError(f"operation on a closed {type(self).__name__}: {self!r}")

    def _void_lost_holds(self) -> None:
        """Forget the holds of threads that a fork left behind. The lock is held."""
        lost = _survivors[self._forks :]
        if lost:
            self._forks = len(_survivors)
            self._holders = [
                thread
                for thread in self._holders
                if thread == ANY_THREAD or all(thread == survivor for survivor in lost)
            ]

    def __enter__(self: _Self) -> _Self:
        if self._closed:
            raise self._is_closed()
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
        raise TypeError(f"a {name} can't be copied or pickled: its descriptor has one owner")

    def __del__(self) -> None:
        # Nobody holds what is collected: every hold refers to its owner.
        number, self._number = getattr(self, "_number", -1), -1
        if number >= 0:
            if not self._closed:
                message = f"unclosed {type(self).__name__} with descriptor {number}"
                warnings.warn(message, ResourceWarning, stacklevel=2, source=self)
            os.close(number)


class HoldUsedError(ValueError):
    """A hold was taken for the second time."""


class Hold:
    """The right to use a descriptor's number until `drop()`. Single use."""

    __slots__ = ("_number", "_owner", "_thread")

    def __init__(self, owner: Descriptor) -> None:
        self._owner = owner
        self._thread: int | None = None  # None before take()
        self._number = -1

    def take(self, thread: int | None = None) -> int:
        """Return the number, which can't be closed or reused before `drop()`."""
        owner = self._owner
        if thread is None:
            thread = get_ident()
        with _lock:
            if owner._forks != len(_survivors):
                owner._void_lost_holds()
            if owner._closed:
                raise owner._is_closed()
            if self._thread is not None:
                raise HoldUsedError(f"a {type(self).__name__} is for a single use; make a new one")
            # No signal handler runs between the two stores and the append.
            self._thread = thread
            self._number = number = owner._number
            owner._holders.append(thread)
        return number

    def drop(self) -> None:
        """End the hold; the last one of a closed descriptor gives the number back."""
        owner = self._owner
        number = -1
        try:
            with _lock:
                if self._number < 0:
                    return
                if owner._forks != len(_survivors):
                    owner._void_lost_holds()
                if owner._closed and len(owner._holders) == 1:
                    number, owner._number = owner._number, -1
                    _closing.discard(owner)
                self._number = -1
                owner._holders.remove(self._thread)  # type: ignore[arg-type]
        finally:
            if number >= 0:
                os.close(number)

    def __enter__(self) -> int:
        return self.take()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.drop()


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
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            target = "something else"
        raise NotADmaBufError(f"descriptor {number} is no dma-buf but {target}; it was left open")


def _after_fork_in_child() -> None:
    _survivors.append(get_ident())
    for owner in list(_closing):
        owner._void_lost_holds()
        if not owner._holders:
            _closing.discard(owner)
            number, owner._number = owner._number, -1
            os.close(number)
    _lock.release()


os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork_in_child
)
