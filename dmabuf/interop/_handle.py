"""A handle of other people's objects, with one owner."""

from __future__ import annotations

from collections.abc import Callable

from dmabuf import _forks
from dmabuf._fd import Owner
from dmabuf._owning import own


class Handle(Owner):
    """A handle of a GPU's driver. A forked child leaves it to its parent."""

    __slots__ = ("_give_back",)

    def _adopt(
        self, give_back: Callable[[int], object], make: Callable[[list[int]], object]
    ) -> None:
        """Own the handle that `make` adds to a list; `give_back` is a function of C."""
        self._give_back = give_back
        _forks.leave_in_child(self)
        own(self, make)

    @property
    def forked(self) -> bool:
        """True in a forked child of the process that made it: the handle belongs to the parent."""
        return self._give_back is _leave

    def leave_to_parent(self) -> None:
        """Leave it to the parent, whose GPU has one open file with this process."""
        self._give_back = _leave
        if hasattr(self, "_holds"):
            self._holds.give_back = _leave

    def _about(self) -> str:
        """Return what follows in the representation, from a space on."""
        return ""

    def __repr__(self) -> str:
        name = ".".join((*type(self).__module__.split(".")[:3], type(self).__name__))
        if not hasattr(self, "_number"):
            return f"<{name} [not opened]>"
        state = "[closed]" if self._closed else f"handle={self._number:#x}"
        return f"<{name} {state}{self._about()}>"


def _leave(number: int) -> None:
    """Give nothing back."""
