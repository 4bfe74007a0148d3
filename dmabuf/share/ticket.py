"""Tickets: plain objects that stand for a buffer, a fence or an image of another process."""

from __future__ import annotations

from dmabuf.share import _claim, _lender
from dmabuf.share._objects import Shared


class Ticket:
    """A claim on an object that another process redeems, once.

    It is pickled like a number, so it goes through a `multiprocessing.Queue`, an executor, or a
    file, and it duplicates its object at once, so that the original may be closed::

        queue.put(share.Ticket(buffer))         # in one process
        buffer.close()

        buffer = queue.get().redeem()           # in another process of this machine

    Until it is redeemed, or cancelled, this process keeps one descriptor for each buffer or fence,
    and a thread that hands them over. Whoever has the ticket can redeem it. Thread-safe.
    """

    __slots__ = ("_claim",)

    def __init__(self, item: Shared) -> None:
        self._claim = _lender.lend(item)

    def redeem(self) -> Shared:
        """Return the object, which is this process's from here on.

        LookupError if it was redeemed or cancelled before; ConnectionRefusedError if the process
        that made the ticket has ended.
        """
        try:
            return _claim.take(self._claim)
        except LookupError:
            raise LookupError(f"{self!r} was redeemed or cancelled before") from None

    def cancel(self) -> None:
        """Give up the object, in any process; nothing happens if it was redeemed already."""
        _lender.drop(self._claim)

    def __getstate__(self) -> _claim.Claim:
        return self._claim

    def __setstate__(self, claim: tuple[bytes, bytes, int]) -> None:
        self._claim = _claim.Claim(*claim)

    def __repr__(self) -> str:
        return f"<dmabuf.share.Ticket of process {self._claim.pid}>"
