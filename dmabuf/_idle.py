"""What is kept open on purpose while nobody uses it: buffers of a pool, tickets not yet redeemed.

Whoever keeps such things registers once, and is asked by whoever looks for leaks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    from dmabuf._owning import HasFileno


class Keeper(Protocol):
    """Who keeps things open."""

    def idle(self) -> Iterable[HasFileno]:
        """Return what is kept and in nobody's use, at this moment."""


_keepers: WeakSet[Keeper] = WeakSet()


def register(keeper: Keeper) -> None:
    """Remember a keeper, for as long as it lives."""
    _keepers.add(keeper)


def descriptors() -> set[int]:
    """Return the numbers of all descriptors that are kept."""
    numbers = set()
    for keeper in list(_keepers):
        for kept in keeper.idle():
            try:
                numbers.add(kept.fileno())
            except ValueError:
                pass  # closed meanwhile
    return numbers
