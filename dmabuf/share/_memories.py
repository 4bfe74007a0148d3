"""The memories that a publisher's items are made of, each told to a subscriber once.

A memory is known by its inode, and on the wire by slot and generation: the slot is used again, the
generation never. It is retired, and subscribers drop their descriptor and mapping, when it can't
come again: its buffer is closed and gives nothing back to a pool.
"""

from __future__ import annotations

import heapq
import weakref

from dmabuf._fd import Hold
from dmabuf._mapping import is_mapped, loan_of, mapping_references
from dmabuf._procfs import about_own
from dmabuf.buffer import Buffer

_U32 = 0xFFFFFFFF
_ROUNDS = 4  # so many times through all its memories, and a pool is taken to have dropped one


class Memory:
    """One memory, as long as it may come again."""

    __slots__ = (
        "_mapped",
        "_references",
        "buffer",
        "generation",
        "inode",
        "knowers",
        "last",
        "pooled",
        "slot",
        "uses",
    )

    def __init__(self, buffer: Buffer, slot: int, generation: int) -> None:
        self.inode = buffer.inode
        self.slot = slot
        self.generation = generation
        self.knowers = 0  # connections that were told of it
        self.uses = 0  # items that are made of it now
        self.last = 0  # the call of `use` in which it came last
        self._references = references(buffer)
        self._mapped = is_mapped(buffer)
        self.seen(buffer)

    def seen(self, buffer: Buffer) -> None:
        """Remember the object that it came with."""
        self.buffer = weakref.ref(buffer)  # the object itself is its owner's
        # A Buffer is gone with its close, unless it is lent, or of a kind of its own.
        loan = loan_of(buffer)
        self.pooled = type(buffer) is not Buffer if loan is None else loan.may_come_again

    @property
    def is_open(self) -> bool:
        """Whether the object that it came with can be published again."""
        buffer = self.buffer()
        return buffer is not None and not buffer.closed

    def is_elsewhere(self) -> bool:
        """Whether the kernel counts more references than before the first subscriber had it.

        False where that can't be told: others have it too.
        """
        buffer, before = self.buffer(), self._references
        if buffer is None or buffer.closed or before is None or self.knowers or self.uses != 1:
            return False
        now = references(buffer)
        if now is None:
            return False
        if not self._mapped:  # a mapping of the publisher's own, made since
            now -= mapping_references(buffer)
        return now > before


def references(buffer: Buffer) -> int | None:
    """Return how many references to a buffer the kernel counts; None if /proc can't be read."""
    try:
        with Hold(buffer) as number:
            return about_own(number).references
    except OSError:
        return None


class Memories:
    """All memories of a publisher that may come again."""

    __slots__ = ("_by_inode", "_calls", "_free", "_slots", "retired")

    def __init__(self) -> None:
        self._by_inode: dict[int, Memory] = {}
        self._free: list[int] = []
        self._slots = 0
        self._calls = 0
        self.retired: list[Memory] = []
        """Those of which subscribers are to be told that they won't come again."""

    def use(self, buffer: Buffer) -> Memory:
        """Return the memory of a buffer, for an item that is made of it."""
        memory = self._by_inode.get(buffer.inode)
        self._calls += 1
        if memory is None:
            self._retire_old()
            slot = heapq.heappop(self._free) if self._free else self._slots
            self._slots = max(self._slots, slot + 1)
            memory = self._by_inode[buffer.inode] = Memory(buffer, slot, self._calls & _U32)
        if memory.buffer() is not buffer:
            memory.seen(buffer)
        memory.uses += 1
        memory.last = self._calls
        return memory

    def drop(self, memory: Memory) -> None:
        """Forget an item that was made of a memory."""
        memory.uses -= 1
        if not memory.uses and not memory.pooled and not memory.is_open:
            self._retire(memory)

    def _retire_old(self) -> None:
        """Retire what has not come for long, or can't: a new memory may be of a new format."""
        oldest = self._calls - _ROUNDS * len(self._by_inode)
        for memory in list(self._by_inode.values()):
            if (
                not memory.uses
                and not memory.is_open
                and (not memory.pooled or memory.last < oldest)
            ):
                self._retire(memory)

    def _retire(self, memory: Memory) -> None:
        del self._by_inode[memory.inode]
        heapq.heappush(self._free, memory.slot)
        self.retired.append(memory)
