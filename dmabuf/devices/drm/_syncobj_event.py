"""Events of sync objects: descriptors for event loops, which end with the object they are of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dmabuf._fd import Descriptor, Hold, Owner, unwatch, watch


class SyncobjEvent(Descriptor):
    """A descriptor that becomes readable, and stays so, once a sync object has reached a point.

        with syncobj.event(1) as event:
            select.select([event], [], [])

    `Syncobj.event` returns it. Use it as a context manager, or call `close()`.
    """

    __slots__ = ()


class _End:
    """Closes an event, whose await ends with ValueError, together with an owner."""

    __slots__ = ("_event",)

    def __init__(self, event: SyncobjEvent) -> None:
        self._event = event

    def owner_closed(self) -> None:
        """Close the event."""
        self._event.close()


@contextmanager
def closed_with(owner: Owner, event: SyncobjEvent) -> Iterator[None]:
    """Have an event closed in the block as soon as an owner is; ValueError if it is already."""
    end = _End(event)
    watch(owner, end, end)
    try:
        with Hold(owner):
            pass
        yield
    finally:
        unwatch(owner, end)
