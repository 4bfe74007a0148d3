"""How multiprocessing's pickler alone gets a buffer or a fence; every other one is refused.

An object can't see which pickler asks it. So it says that it is made of a parcel, and the pickler
asks that one next: multiprocessing's was told how to ship parcels, and others get a TypeError. It
is told at the first pickle, so that `import dmabuf` costs nothing for it. The pickler of that one
was made before it was told, and is known by the module that calls it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, NoReturn

_SHIPS = "dmabuf.share._multiprocessing"  # by name, since it stands above


class Parcel:
    """A buffer or a fence on its way to another process."""

    __slots__ = ("owner",)

    def __init__(self, owner: Any) -> None:
        self.owner = owner

    def __reduce__(self) -> NoReturn:
        self.refuse()

    def refuse(self) -> NoReturn:
        """Raise TypeError, with what to use instead."""
        name = type(self.owner).__name__
        raise TypeError(
            f"a {name} can't be copied or pickled: its descriptor has one owner; dup() it, or send"
            " it to another process by dmabuf.share.send, dmabuf.share.Ticket or multiprocessing"
        )


_told: set[type] = set()


def reduce(owner: Any) -> tuple[Any, ...]:
    """Return what `__reduce__` of a buffer or a fence returns."""
    parcel = Parcel(owner)
    reduction = sys.modules.get("multiprocessing.reduction")
    if reduction is None:
        parcel.refuse()
    ship = import_module(_SHIPS).ship
    if Parcel not in _told:
        reduction.ForkingPickler.register(Parcel, ship)
        _told.add(Parcel)
    caller = sys._getframe(2).f_globals.get("__name__")  # of the pickler that called __reduce__
    shipped: tuple[Any, ...] = ship(parcel) if caller == reduction.__name__ else (unpack, (parcel,))
    return shipped


def unpack(shipped: Any) -> Any:
    """Return what a parcel became in the other process; refuse one that wasn't shipped: a copy."""
    if isinstance(shipped, Parcel):
        shipped.refuse()
    return shipped
