"""Buffers and fences through multiprocessing: what its pickler makes of a parcel."""

from __future__ import annotations

import os
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from operator import methodcaller
from typing import Any

from dmabuf._fd import Hold
from dmabuf._keep import keep
from dmabuf._mapping import note_shared, prove
from dmabuf._owning import own_descriptor
from dmabuf._parcel import Parcel
from dmabuf.buffer import Buffer
from dmabuf.fence import Fence
from dmabuf.share import _claim, _lender


def ship(parcel: Parcel) -> tuple[Any, ...]:
    """Return how the other process gets a parcel's object."""
    owner: Buffer | Fence = parcel.owner
    if get_spawning_popen() is None:
        return _take, (tuple(_lender.lend_for_a_while(owner)),)
    # An argument of Process: the child inherits the number itself.
    kind = Buffer if isinstance(owner, Buffer) else Fence
    with Hold(owner) as number:
        if isinstance(owner, Buffer):
            prove(owner, number)
            note_shared(owner)
        return _inherit, (kind, DupFd(number))


def _inherit(kind: type[Buffer] | type[Fence], inherited: Any) -> Buffer | Fence:
    def make(made: list[int]) -> None:
        keep(made, methodcaller("detach"), inherited)
        os.set_inheritable(made[0], False)

    with own_descriptor(make) as passed:
        return kind.from_fd(passed)


def _take(claim: tuple[bytes, bytes, int]) -> Any:
    try:
        return _claim.take(_claim.Claim(*claim))
    except LookupError:
        raise LookupError(
            f"process {claim[2]} closed this buffer or fence more than {_lender.GRACE:.0f} s ago,"
            " before it was received: keep it open until then, or send a dmabuf.share.Ticket"
        ) from None
