"""What a `with` block closes at its end, and does nothing else to."""

from __future__ import annotations

import warnings
from types import TracebackType


class Closing:
    """The end of a `with` block of what has a `close()`."""

    __slots__ = ()

    def close(self) -> None:
        """Close; to be defined by what is closed."""
        raise NotImplementedError

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Kept(Closing):
    """What is closed once, which it marks by `_closed`, and by its collection at the latest."""

    __slots__ = ()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            try:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            finally:
                self.close()


def require_new(made: Closing) -> None:
    """Raise TypeError if an object was made already, which is so once it has a mark of its end.

    What it has would be lost if it was made anew.
    """
    if hasattr(made, "_closed"):
        raise TypeError(f"a {type(made).__name__} can be initialised only once; make another one")
