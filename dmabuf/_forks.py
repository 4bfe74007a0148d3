"""What a forked child leaves to its parent: what the kernel keeps once for both of them.

Fork copies descriptors, not what stands behind an open file. A queue that streams, the handles and
framebuffers of a device, the picture on a screen, a connection: there is one of each, and it is the
parent's. A child that stopped or destroyed it would take it from its parent. So a child closes its
own copies of descriptors, and gives back nothing else:

==========================  ============================================  ======================
object                      its parent's                                  what the child closes
==========================  ============================================  ======================
Buffer, Fence, Descriptor   nothing                                       its descriptor
V4L2 stream                 the queue: its buffers, and that it runs      exported buffers
V4L2 codec at work          both queues, and that it was told to stop     exported buffers
V4L2 events                 the events, of which each is read once        its descriptors
DRM device                  handles, framebuffers, the picture            its descriptor
Watch (of devices)          the events, of which each is read once        its descriptors
Publisher, Subscriber, …    the connections, and what is sent on them     its sockets
==========================  ============================================  ======================

Whoever stands for such a thing registers with `leave_in_child` *before* it asks the kernel for it,
and has `leave_to_parent`, which marks it in the child: by a state of its own, so that nothing is
looked up where a frame or a flip passes. Locks are replaced there: whoever held one at the fork may
not live in the child.

    def __init__(self) -> None:
        self.forked = False
        _forks.leave_in_child(self)

    def leave_to_parent(self) -> None:
        self.forked = True
        self._lock = Lock()
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

from dmabuf._locks import Lock

if TYPE_CHECKING:
    from typing import Protocol

    class Leaver(Protocol):
        """Who stands for something that a child shares with its parent."""

        def leave_to_parent(self) -> None:
            """Leave it to the parent, whatever other threads were doing at the fork.

            Called in the child, before anything else of it runs. Must not raise.
            """


_lock = Lock()  # a signal handler may register something amid a registration
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
