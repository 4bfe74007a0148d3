"""Wait for the first of several fences, or of several accesses to buffers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TypeVar

from dmabuf import _wait
from dmabuf._fd import Descriptor, held
from dmabuf._mapping import prove
from dmabuf.access import EVENTS, Access, access_bits
from dmabuf.buffer import Buffer
from dmabuf.fence import Fence

_Item = TypeVar("_Item", bound="Fence | tuple[Buffer, Access]")


def wait_any(fences: Iterable[_Item], timeout: float | None = None) -> _Item | None:
    """Block until one of several fences signals, and return that fence.

    An item may also be a pair (buffer, `Access`), which stands for the fences that this access
    waits for:

        first = dmabuf.wait_any([fence, (buffer, dmabuf.Access.READ)], timeout=0.1)

    Returns the item as it was given, the first in order if several have signalled, and None if
    `timeout` seconds pass first. ValueError if there is nothing to wait for, or one is closed; one
    that another thread closes during the wait is still waited for. Other threads run meanwhile. A
    signal handler that raises ends the wait.
    """
    if isinstance(fences, (Fence, Buffer)):
        raise TypeError(f"wait_any takes several: [{type(fences).__name__}, …]")
    items = list(fences)
    if not items:
        raise ValueError("wait_any was given no fence to wait for")
    index = _wait.first([_wanted(item) for item in items], timeout)
    return None if index is None else items[index]


def _wanted(item: object) -> tuple[Descriptor, int]:
    """Return what is polled for, and the events that end the wait."""
    if isinstance(item, Fence):
        return item, _wait.READABLE
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], Buffer):
        buffer, events = item[0], EVENTS[access_bits(item[1])]
        held(buffer, partial(prove, buffer))
        return buffer, events
    kind = type(item).__name__
    if isinstance(item, tuple):
        kind = f"({', '.join(type(part).__name__ for part in item)})"
    elif isinstance(item, Buffer):
        raise TypeError(
            "wait_any takes fences and pairs (buffer, access), not Buffer: say for which access, as"
            " in [(buffer, Access.READ)]"
        )
    raise TypeError(f"wait_any takes fences and pairs (buffer, access), not {kind}")
