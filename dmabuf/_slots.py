"""One memory of a pool: to whom it is lent, and who else has it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dmabuf._fd import Hold
from dmabuf._mapping import is_mapped, mapping, mapping_references, new_mapping
from dmabuf._procfs import about_own
from dmabuf._uapi import ffi
from dmabuf.buffer import Buffer

if TYPE_CHECKING:
    from dmabuf._mapping import Mapped


class Loan:
    """What keeps a memory out: an acquired buffer and its duplicates have it, and every view."""

    __slots__ = ("__weakref__", "_slot")

    def __init__(self, slot: Slot) -> None:
        self._slot = slot

    def map(self, borrower: Mapped) -> Any:
        """Return an exporter of its own, so that its last view can be known.

        It is on the pool's mapping, but read-only memory, which that kind of exporter would make
        writable, and memory of a closed pool are mapped anew.
        """
        slot = self._slot
        try:
            exporter = ffi.buffer(ffi.from_buffer(mapping(slot.home), require_writable=True))
        except (ValueError, BufferError):
            exporter = new_mapping(borrower)
        # All that happens when the exporter is gone is C: no signal handler can get between.
        view = LastView(exporter, slot.views.remove)
        view.loan = self
        slot.views.append(view)
        return exporter

    @property
    def may_come_again(self) -> bool:
        """Whether the memory may be lent again, if another process gets it too."""
        return self._slot.may_come_again and not self._slot.spent

    def keep(self) -> None:
        """Replace this memory: a descriptor was detached, and nobody knows where it is."""
        self._slot.spent = True

    def note_shared(self) -> None:
        """Remember that another process gets this memory."""
        self._slot.shared = True


class LastView(weakref.ref[Any]):
    """An exporter of a lent memory; it has the loan for as long as there is a view."""

    __slots__ = ("loan",)
    loan: Loan


class Return(weakref.ref[Loan]):
    """A loan; its end wakes who waits for one, by C alone: no signal handler can get between."""

    wake: Callable[[], object] = object  # which does nothing, while nobody waits


def never() -> None:
    """Return nothing: the loan of a memory that was not lent yet."""


class Slot:
    """One memory of a pool."""

    __slots__ = ("counted", "home", "loan", "may_come_again", "shared", "spent", "views")

    def __init__(self, home: Buffer, may_come_again: bool) -> None:
        self.home = home
        """The pool's own buffer on it."""
        self.may_come_again = may_come_again
        """Whether it is lent again once it was shared."""
        self.loan: Callable[[], Loan | None] = never
        self.views: list[LastView] = []
        self.shared = self.spent = False
        self.counted: int | None = None
        """How many references its mapping is; None until that is looked for, which takes long."""

    def has_others(self) -> bool:
        """Whether anybody but the pool has the memory, by the kernel's count.

        That knows each descriptor, but no mapping of an exporter that maps a file of its own.
        """
        home = self.home
        with Hold(home) as number:
            others = about_own(number).references - 1
        if others == 1 and is_mapped(home):
            if self.counted is None:
                self.counted = mapping_references(home)
            others -= self.counted
        return others > 0
