"""Tickets: small objects that stand for a buffer, a fence or an image of another process."""

from __future__ import annotations

from dmabuf.share import _claim, _lender
from dmabuf.share._objects import Shared


class Ticket:
    """A claim on an object, which another process redeems once.

        queue.put(share.Ticket(buffer))         # in one process
        buffer.close()

        buffer = queue.get().redeem()           # in another process of this machine

    It is pickled as plain bytes, so it can go through a `multiprocessing.Queue`, an executor or a
    file. It duplicates its object at once, so the original may be closed. Until it is redeemed or
    cancelled, this process keeps one descriptor for each buffer or fence, and a thread that hands
    them over. Anybody who has the ticket can redeem it. Thread-safe.
    """

    __slots__ = ("_claim",)

    def __init__(self, item: Shared) -> None:
        self._claim = _lender.lend(item)

    def redeem(self) -> Shared:
        """Return the object, which this process then owns.

        LookupError if the ticket was redeemed or cancelled before. ConnectionRefusedError if the
        process that made the ticket has ended.
        """
        try:
            return _claim.take(self._claim)
        except LookupError:
            raise LookupError(f"{self!r} was redeemed or cancelled before") from None

    def cancel(self) -> None:
        """Drop the object, from any process. Does nothing if it was redeemed already."""
        _lender.drop(self._claim)

    def __getstate__(self) -> _claim.Claim:
        return self._claim

    def __setstate__(self, claim: tuple[bytes, bytes, int]) -> None:
        self._claim = _claim.Claim(*claim)

    def __repr__(self) -> str:
        return f"<dmabuf.share.Ticket of process {self._claim.pid}>"
