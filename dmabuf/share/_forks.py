"""What a forked child leaves to its parent: connections.

A child that kept a connection open would keep its peer from seeing the parent's end. So it closes
its copies, and sends nothing and changes nothing that it shares with the parent.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Protocol

    class Leaver(Protocol):
        """Who has a connection."""

        def leave_to_parent(self) -> None:
            """Close this child's copies, whatever other threads were doing at the fork."""


_lock = threading.Lock()
_leavers: weakref.WeakSet[Leaver] = weakref.WeakSet()


def leave_in_child(leaver: Leaver) -> None:
    """Have `leave_to_parent` called in each child that this process forks from now on."""
    with _lock:
        _leavers.add(leaver)


def _after_fork_in_child() -> None:
    try:
        for leaver in list(_leavers):
            leaver.leave_to_parent()
        _leavers.clear()
    finally:
        _lock.release()


os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork_in_child
)
