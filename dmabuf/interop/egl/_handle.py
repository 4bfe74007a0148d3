"""A handle of EGL, with one owner."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dmabuf import _forks
from dmabuf._fd import Owner, own


class EglHandle(Owner):
    """A handle of an EGL display. A forked child leaves it to its parent."""

    __slots__ = ("_display", "_give_back")

    def _adopt(
        self,
        display: int,
        destroy: Callable[[int, int], None],
        make: Callable[[list[int]], object],
    ) -> None:
        """Own the handle that `make` adds to a list; `destroy` is a function of C."""
        self._display = display
        self._give_back = partial(destroy, display)
        _forks.leave_in_child(self)
        own(self, make)

    @property
    def display(self) -> int:
        """The EGLDisplay that it belongs to, as a number."""
        return self._display

    @property
    def handle(self) -> int:
        """EGL's own handle of it, as a number; ValueError when closed."""
        if self._closed:
            self._require_open()
        return self._number

    @property
    def forked(self) -> bool:
        """True in a forked child of the process that made it, which leaves it to its parent."""
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
        name = f"dmabuf.interop.egl.{type(self).__name__}"
        if not hasattr(self, "_number"):
            return f"<{name} [not opened]>"
        state = "[closed]" if self._closed else f"handle={self._number:#x}"
        return f"<{name} {state}{self._about()}>"


def _leave(number: int) -> None:
    """Give nothing back."""
