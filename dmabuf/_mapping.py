"""A descriptor with its mapping: all that a scope of access needs of a buffer."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

from dmabuf import _libc
from dmabuf._fd import Descriptor, Hold, lock
from dmabuf.errors import os_error

if TYPE_CHECKING:
    import mmap


class Mapped(Descriptor):
    """A descriptor whose memory is mapped once, when it is first asked for.

    A view of the mapping keeps it, whatever is closed: the last one unmaps.
    """

    __slots__ = ("_mapping", "_size")

    def __init__(self, number: int, size: int) -> None:
        self._size = size
        self._mapping: mmap.mmap | None = None
        super().__init__(number)

    @property
    def size(self) -> int:
        """The size in bytes, whole pages, as the kernel has it. Also when closed."""
        return self._size

    def _let_go(self) -> None:
        self._mapping = None


def mapping(owner: Mapped) -> mmap.mmap:
    """Return the mapping of a buffer; ValueError if it is closed, OSError if it can't be mapped."""
    if owner._closed:
        owner._require_open()
    there = owner._mapping
    if there is not None:
        return there
    with Hold(owner) as number:
        mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
        if mode == os.O_WRONLY:
            what = f"{owner!r} can't be mapped: its descriptor is write-only"
            raise os_error(errno.EACCES, f"{what}; allocate it with access=Access.READ_WRITE")
        made = _libc.map_shared(number, owner.size, writable=mode == os.O_RDWR)
        with lock:  # the first of several threads wins; a buffer closed meanwhile keeps none
            if owner._mapping is None and not owner._closed:
                owner._mapping = made
            return owner._mapping or made


def read_only(owner: Mapped) -> OSError:
    """Return the error of a buffer that is to be written through a read-only descriptor."""
    what = f"{owner!r} can't be written: its descriptor is read-only"
    return os_error(errno.EACCES, f"{what}; allocate it with access=Access.READ_WRITE")
