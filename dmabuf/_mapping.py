"""A descriptor with its mapping: all that a scope of access needs of a buffer."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from dmabuf import _libc, _memory
from dmabuf._fd import held, lock
from dmabuf._polls import POLL_NEEDS_OWNER, Polled, note_polled
from dmabuf._procfs import open_file
from dmabuf.errors import NotADmaBufError, os_error

if TYPE_CHECKING:
    from typing import Protocol

    from dmabuf._owning import Identity

    class Loan(Protocol):
        """Memory that its owner wants back: whoever has the loan, or a view of it, keeps it out."""

        def map(self, borrower: Mapped) -> Any:
            """Return what exports the memory of who has the loan; its views keep that."""

        @property
        def may_come_again(self) -> bool:
            """Whether the memory may be lent again once it is back."""

        def keep(self) -> None:
            """Never give the memory back: somebody has it whom nobody can ask."""

        def note_shared(self) -> None:
            """Remember that another process gets the memory."""


_Result = TypeVar("_Result")


class Mapped(Polled):
    """A descriptor whose memory is mapped once, when it is first asked for.

    A view of the mapping keeps it, whatever is closed: the last one unmaps. A loan, of memory that
    is lent, stays until the number is given back, and for as long as there is a view.
    """

    __slots__ = ("_device", "_inode", "_loan", "_mapping", "_size")

    def _own(self, number: int, loan: Loan | None = None, identity: Identity | None = None) -> None:
        """Own a descriptor: of memory that is lent; or of which it is known what it is of."""
        if identity is None:
            status = os.fstat(number)
            identity = status.st_dev, status.st_ino, status.st_size
        self._device, self._inode, self._size = identity
        self._loan = loan
        self._mapping: Any = None  # what exports the memory
        super()._own(number)

    @property
    def size(self) -> int:
        """The size in bytes, a multiple of the page size, as the kernel reports it.

        Works when closed.
        """
        return self._size

    def detach(self) -> int:
        """Close the object and return its descriptor, which the caller now owns.

        Raises OSError (EBUSY) while an access or a system call uses the descriptor, and ValueError
        if closed. Memory that came from a pool does not return to it.
        """
        loan = self._loan
        number = super().detach()
        if loan is not None:
            loan.keep()
        return number

    def _let_go(self) -> None:
        if POLL_NEEDS_OWNER:
            super()._let_go()
        if self._number < 0:
            self._mapping = self._loan = None


def mapping(owner: Mapped) -> Any:
    """Return the mapping of a buffer; ValueError if it is closed, OSError if it can't be mapped."""
    if owner._closed:
        owner._require_open()
    there = owner._mapping
    if there is not None:
        return there
    loan = owner._loan
    made = new_mapping(owner) if loan is None else loan.map(owner)
    with lock:  # the first of several threads wins; a buffer closed meanwhile keeps none
        if owner._mapping is None and not owner._closed:
            owner._mapping = made
        return owner._mapping or made


def new_mapping(owner: Mapped) -> Any:
    """Map a buffer's memory once more; ValueError if it is closed, OSError if it can't be."""
    return proved(owner, _map, owner)


def _map(number: int, owner: Mapped) -> Any:
    mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
    if mode == os.O_WRONLY:
        what = f"{owner!r} can't be mapped: its descriptor is write-only"
        raise os_error(errno.EACCES, f"{what}; allocate it with access=Access.READ_WRITE")
    try:
        return _libc.map_shared(number, owner._size, writable=mode == os.O_RDWR)
    except OSError as error:
        raise _unmappable(owner, error) from None


def _unmappable(owner: Mapped, error: OSError) -> OSError:
    """Return the error of a buffer that can't be mapped, with what is in the way."""
    number = error.errno or errno.EIO
    reason = _memory.mapping_limit(owner._size, number)
    if number == errno.EINVAL:  # an exporter without mmap: the size is right
        reason = (
            "its exporter gives the processor no access to this memory, which is a PCI device's own"
            " (VFIO) or protected; hand it to devices, or have one of them copy it"
        )
    reason = reason or "its exporter or a limit of this process refuses it; see ulimit -a and dmesg"
    return os_error(number, f"{owner!r} can't be mapped: {reason}")


def prove(owner: Mapped, number: int) -> None:
    """Raise NotADmaBufError if somebody closed a number that is held, and it is another file's.

    OSError (EBADF) if it is nobody's.
    """
    try:
        status = os.fstat(number)
    except OSError as error:
        raise os_error(error.errno or errno.EBADF, _closed_by_others(owner, number)) from None
    if status.st_ino != owner._inode or status.st_dev != owner._device:
        what = f"{_closed_by_others(owner, number)} and it is now {open_file(number)}"
        raise NotADmaBufError(f"{what}; look for what closes a descriptor that is not its own")


def proved(owner: Mapped, call: Callable[..., _Result], *arguments: Any) -> _Result:
    """Return what a call returns that is given a buffer's number, held and proved to be its own."""
    result: _Result = held(owner, _prove_and_call, owner, call, *arguments)
    return result


def _prove_and_call(
    number: int, owner: Mapped, call: Callable[..., _Result], *arguments: Any
) -> _Result:
    prove(owner, number)
    return call(number, *arguments)


def _closed_by_others(owner: Mapped, number: int) -> str:
    about = f"inode {owner._inode}, {owner._size} bytes"
    return f"descriptor {number} of a buffer ({about}) was closed behind its owner's back"


def is_mapped(owner: Mapped) -> bool:
    """Return whether the memory is mapped here."""
    return owner._mapping is not None


def mapping_references(owner: Mapped) -> int:
    """Return how many of the references to a buffer, as fdinfo counts them, its mapping here is.

    One, or none: some exporters map a file of their own instead (vgem before Linux 6.1, i915).
    """
    if owner._mapping is None:
        return 0
    from dmabuf import _processes  # which few need, and every start would wait for

    shown = _processes.with_folder("self", partial(_processes.pieces, tasks=()))
    return int(any(piece.key == (owner._device, owner._inode) for piece in shown))


def loan_of(owner: Mapped) -> Loan | None:
    """Return the loan of memory that is lent; None for any other, and once it is given back."""
    return owner._loan


def note_shared(owner: Mapped) -> None:
    """Tell whoever lends the memory that another process gets it, which may poll it too."""
    note_polled(owner)
    loan = owner._loan
    if loan is not None:
        loan.note_shared()


def read_only(owner: Mapped) -> OSError:
    """Return the error of a buffer that is to be written through a read-only descriptor."""
    what = f"{owner!r} can't be written: its descriptor is read-only"
    return os_error(errno.EACCES, f"{what}; allocate it with access=Access.READ_WRITE")
