"""How a descriptor gets its owner: a new one, a duplicate, or a number that others give.

`own` is the one way from a system call that makes something to the object that owns it. A signal
handler that raises amid it loses nothing; see the head of `_fd.py`.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from dmabuf import _libc
from dmabuf._closing import require_new
from dmabuf._fd import Descriptor, Owner, held
from dmabuf._keep import keep
from dmabuf._procfs import open_file
from dmabuf.errors import NotADmaBufError, os_error

if TYPE_CHECKING:
    from typing import Protocol

    class HasFileno(Protocol):
        """A file, a socket, a buffer: anything that select(2) takes."""

        def fileno(self) -> int:
            """Return the descriptor's number."""

    Identity = tuple[int, int, int]  # of a dma-buf: its device, its inode, and its size

_Owned = TypeVar("_Owned", bound=Owner)

_dma_buf_device = -1
"""The device of all dma-bufs' files, once one was seen: the kernel has one such file system."""


def owned_number(descriptor: int) -> int:
    """Return the number of a descriptor that is handed over; an object would keep its own."""
    if not isinstance(descriptor, int) and hasattr(descriptor, "fileno"):
        kind = type(descriptor).__name__
        raise TypeError(f"a {kind} owns its descriptor: use from_fd(), or detach() it first")
    return descriptor_number(descriptor)


def descriptor_number(descriptor: int | HasFileno) -> int:
    """Return the number of a descriptor, or of an object with a `fileno()`."""
    if type(descriptor) is int:
        number = descriptor
    elif isinstance(descriptor, bool):
        raise TypeError("a descriptor must be an int or have a fileno(), not bool")
    else:
        number = descriptor if isinstance(descriptor, int) else _fileno(descriptor)
    if not 0 <= number < 1 << 31:
        raise ValueError(f"a descriptor must be from 0 to {(1 << 31) - 1}, not {number}")
    return number


def _fileno(owner: HasFileno) -> int:
    try:
        fileno = owner.fileno
    except AttributeError:
        kind = type(owner).__name__
        raise TypeError(f"a descriptor must be an int or have a fileno(), not {kind}") from None
    return fileno()


def own(owner: _Owned, make: Callable[[list[int]], object], *details: Any) -> _Owned:
    """Have a new object own the number that `make` adds to a list, and return the object.

    The one way from a system call that makes something to its owner. `make` adds the number as the
    call returns, before a signal handler can run: `keep` does that, and the ioctls that take a
    list. `details` are what the object's `_own` takes beside the number. Where anything raises, the
    number is given back.
    """
    require_new(owner)
    made: list[int] = []
    try:
        make(made)
        owner._own(made[0], *details)
        return owner
    except BaseException:
        if getattr(owner, "_number", -1) >= 0:
            owner.close()
        elif made:
            owner._give_back(made[0])
        raise


def own_descriptor(make: Callable[[list[int]], object]) -> Descriptor:
    """Return the owner of a descriptor that `make` adds to a list; see `own`."""
    return own(Descriptor.__new__(Descriptor), make)


def own_result(call: Callable[..., int], *arguments: Any) -> Descriptor:
    """Return the owner of a descriptor that a function of C returns; see `own`."""
    return own_descriptor(lambda made: keep(made, call, *arguments))


def duplicate(number: int, made: list[int]) -> None:
    """Add to a list a new descriptor of the same open file, closed on exec."""
    try:
        keep(made, fcntl.fcntl, number, fcntl.F_DUPFD_CLOEXEC, 0)
    except OSError as error:
        if error.errno is None:  # a signal handler's
            raise
        raise os_error(error.errno, f"a duplicate of descriptor {number}") from None


def own_duplicate(owner: _Owned, source: Descriptor | int, *details: Any) -> _Owned:
    """Have a new object own a new descriptor of the same open file, closed on exec; see `own`."""
    if isinstance(source, Descriptor):
        return held(source, lambda number: own_duplicate(owner, number, *details))
    return own(owner, partial(duplicate, source), *details)


def check_dma_buf(number: int) -> Identity:
    """Return which dma-buf a descriptor is of; NotADmaBufError, with what it is, if it is none."""
    global _dma_buf_device
    try:
        status = os.fstat(number)
    except OSError as error:
        raise os_error(error.errno or errno.EBADF, f"fstat of descriptor {number}") from None
    device = status.st_dev
    if device != _dma_buf_device:
        if _libc.filesystem_magic(number) != _libc.DMA_BUF_MAGIC:
            what = f"descriptor {number} is not a dma-buf but {open_file(number)}; it was left open"
            raise NotADmaBufError(what)
        _dma_buf_device = device
    if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_PATH:
        what = f"descriptor {number} names a dma-buf, but was opened with O_PATH and can't use it"
        raise NotADmaBufError(f"{what}; pass a descriptor of the dma-buf itself; it was left open")
    return device, status.st_ino, status.st_size
