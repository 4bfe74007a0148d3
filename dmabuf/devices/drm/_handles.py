"""The handles of one open device: who owns them, and when each is given back.

Buffers, sync objects, framebuffers, modes: the kernel's numbers of what goes with the descriptor,
unless it is given back before. For the same memory the kernel gives one handle, however often that
is imported, and counts nothing: so each owner has a claim, and the last one's end gives it back.
"""

from __future__ import annotations

import contextlib
import errno
from collections import defaultdict
from collections.abc import Callable

from dmabuf import _forks
from dmabuf._fd import Descriptor, Hold
from dmabuf._keep import keep
from dmabuf._locks import Lock

Make = Callable[[int, list[int]], object]
"""Has a device's descriptor make a handle, and adds that to a list as the system call returns."""
Destroy = Callable[[int, int, list[int]], object]
"""Has a descriptor give a handle back, and adds something to a list as the system call returns."""


class Claim:
    """One owner's right to a handle."""

    __slots__ = ("destroy",)

    def __init__(self, destroy: Destroy) -> None:
        self.destroy = destroy


class Handles:
    """All handles of a device. Thread-safe, also where signal handlers and finalizers come between.

    Whoever has no more use for a handle puts it into `released`, which nothing can interrupt.
    """

    __slots__ = ("__weakref__", "_busy", "_claims", "_lock", "forked", "released")

    def __init__(self) -> None:
        self.released: dict[Claim, int] = {}
        self.forked = False
        self._claims: defaultdict[tuple[Destroy, int], set[Claim]] = defaultdict(set)
        self._lock = Lock()
        self._busy = 0
        _forks.leave_in_child(self)

    def claimed(self, destroy: Destroy) -> list[int]:
        """Return the handles of one kind that have an owner."""
        return [handle for kind, handle in list(self._claims) if kind is destroy]

    def make(self, device: Descriptor, claim: Claim, call: Make, made: list[int]) -> None:
        """Have a call add a handle to a list, and claim that; none is given back meanwhile."""
        with Hold(device) as number, self._lock:
            self._busy += 1
            try:
                call(number, made)
            finally:
                # No signal handler runs here, before the handle is claimed.
                self._busy -= 1
                if made:
                    self._claims[claim.destroy, made[0]].add(claim)

    def settle(self, device: Descriptor) -> None:
        """Give back what was released, unless a call is under way: whoever made that settles then.

        A finalizer or a signal handler that comes during the call can't wait for its end.
        """
        while self.released:
            taken: list[int] = []
            try:
                keep(taken, self._lock.acquire, False)
                if not taken[0] or self._busy:
                    return
                self._busy += 1
                try:
                    self._give_back(device)
                finally:
                    self._busy -= 1
            finally:
                if taken and taken[0]:
                    self._lock.release()

    def _give_back(self, device: Descriptor) -> None:
        if self.forked or device.closed:  # they are the parent's, or went with the descriptor
            self.released.clear()
            return
        with contextlib.suppress(ValueError), Hold(device) as number:
            for claim, handle in list(self.released.items()):
                self._drop(number, claim, handle)

    def _drop(self, number: int, claim: Claim, handle: int) -> None:
        """End a claim; the last one's end gives the handle back, once, whatever interrupts it.

        One that the device refuses to take back is not tried again: it goes with the descriptor.
        """
        place = claim.destroy, handle
        claims = self._claims[place]
        claims.discard(claim)
        done: list[int] = []
        try:
            if claims:
                done.append(handle)
            else:
                claim.destroy(number, handle, done)
        except OSError as error:
            done.append(handle)
            if error.errno != errno.ENODEV:  # unplugged: it is gone
                raise
        finally:
            if done:
                del self.released[claim]
                if not claims:
                    del self._claims[place]

    def leave_to_parent(self) -> None:
        """Leave the handles to the parent; called in a forked child."""
        self.forked = True
        self.released.clear()
        self._claims.clear()
        self._lock, self._busy = Lock(), 0
