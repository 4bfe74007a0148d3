"""What is kept open on purpose while nobody uses it: buffers of a pool, tickets not yet redeemed.

Whoever keeps such things registers once, and is asked by whoever looks for leaks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol
from weakref import ref

if TYPE_CHECKING:
    from dmabuf._owning import HasFileno


class Keeper(Protocol):
    """Who keeps things open."""

    def idle(self) -> Iterable[HasFileno]:
        """Return what is kept and in nobody's use, at this moment."""


# No WeakSet: one that gets larger while it is gone through, by another thread, is an error.
_keepers: set[ref[Keeper]] = set()


def register(keeper: Keeper) -> None:
    """Remember a keeper, for as long as it lives."""
    _keepers.add(ref(keeper, _keepers.discard))


def descriptors() -> set[int]:
    """Return the numbers of all descriptors that are kept."""
    numbers = set()
    for reference in _keepers.copy():
        keeper = reference()
        for kept in keeper.idle() if keeper is not None else ():
            try:
                numbers.add(kept.fileno())
            except ValueError:
                pass  # closed meanwhile
    return numbers
