"""A handle of EGL, with one owner."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dmabuf.interop._handle import Handle


class EglHandle(Handle):
    """A handle of an EGL display. A forked child leaves it to its parent."""

    __slots__ = ("_display",)

    def _adopt_from(
        self,
        display: int,
        destroy: Callable[[int, int], None],
        make: Callable[[list[int]], object],
    ) -> None:
        """Own the handle that `make` adds to a list; `destroy` is a function of C."""
        self._display = display
        self._adopt(partial(destroy, display), make)

    @property
    def display(self) -> int:
        """The EGLDisplay that it belongs to, as a number."""
        return self._display

    @property
    def handle(self) -> int:
        """The EGL handle, as a number. ValueError if closed."""
        if self._closed:
            self._require_open()
        return self._number
