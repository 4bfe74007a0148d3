"""One process's part of a stress: steps at random, which its seed decides, on a few buffers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from dmabuf import _memory
from dmabuf.access import Access
from dmabuf.buffer import Buffer
from dmabuf.cli.checks import contents
from dmabuf.cli.checks.accounts import Lost, release
from dmabuf.cli.checks.peer import Peer
from dmabuf.cli.console.failure import Failure
from dmabuf.errors import UnsupportedError

_MOST = 16  # buffers of one process at a time
_LARGEST = 8  # as a power of two of pages: 1 MiB
STEPS = {
    "allocate": 6,
    "write": 3,
    "verify": 3,
    "share": 3,
    "fence": 2,
    "name": 2,
    "dup": 2,
    "fork": 1,
    "free": 4,
}
"""The steps, and how often each comes relative to the others."""


class _Held(NamedTuple):
    buffer: Buffer
    number: int
    """Of the pattern that is in it."""


class Stress:
    """The steps of one process, and what came of them."""

    def __init__(
        self, allocate: Callable[..., Buffer], random: Random, memory: int, prefix: str
    ) -> None:
        """Use at most `memory` bytes at a time; the buffers' names begin with `prefix`."""
        self.allocated = 0
        self.released = 0
        self.lost: list[Lost] = []
        self.steps: Counter[str] = Counter()
        self._allocate = allocate
        self._random = random
        self._memory = memory
        self._prefix = prefix
        self._names = 0
        self._held: list[_Held] = []
        self._can_export = True
        self._peer = Peer()

    def step(self) -> None:
        """Do one step; Failure or OSError if a buffer did not do what it should."""
        (step,) = self._random.choices([*STEPS], [*STEPS.values()])
        if not self._held or step == "allocate":
            step = "allocate" if self._has_room() else "free"
        self.steps[step] += 1
        getattr(self, f"_{step}_one")()

    def close(self) -> None:
        """Free what is left, and end the other process."""
        try:
            while self._held:
                self._free_one()
        finally:
            self._peer.close()

    def _has_room(self) -> bool:
        used = sum(held.buffer.size for held in self._held)
        return len(self._held) < _MOST and used < self._memory

    def _any(self) -> int:
        return self._random.randrange(len(self._held))

    def _index(self) -> int:
        return self._random.getrandbits(16)

    def _name(self) -> str:
        self._names += 1
        return f"{self._prefix}{self._names}"

    def _allocate_one(self) -> None:
        used = sum(held.buffer.size for held in self._held)
        size = _memory.PAGE << self._random.randint(0, _LARGEST)
        index = self._index()
        buffer = self._allocate(min(size, self._memory - used), name=self._name())
        self.allocated += 1
        self._held.append(_Held(buffer, index))
        contents.fill(buffer, index, contents.pattern, contents.unheard)

    def _write_one(self) -> None:
        at, index = self._any(), self._index()
        buffer = self._held[at].buffer
        contents.fill(buffer, index, contents.pattern, contents.unheard)
        self._held[at] = _Held(buffer, index)

    def _verify_one(self) -> None:
        held = self._held[self._any()]
        _verify(held.buffer, held.number)

    def _share_one(self) -> None:
        at, index = self._any(), self._index()
        buffer, found = self._held[at]
        self._peer.exchange(buffer, found, index)
        self._held[at] = _Held(buffer, index)
        _verify(buffer, index)

    def _fence_one(self) -> None:
        buffer = self._held[self._any()].buffer
        if self._can_export:
            try:
                with buffer.export_fence(Access.WRITE) as fence:
                    if not fence.wait(10):
                        raise Failure(f"{buffer!r} is idle, and its fence does not signal")
            except UnsupportedError:
                self._can_export = False  # before Linux 6.0

    def _name_one(self) -> None:
        buffer = self._held[self._any()].buffer
        name = self._name()
        buffer.name = name
        if buffer.name != name:
            raise Failure(f"{buffer!r} was named {name}")

    def _dup_one(self) -> None:
        held = self._held[self._any()]
        with held.buffer.dup() as other:
            _verify(other, held.number)

    def _fork_one(self) -> None:
        held = self._held[self._any()]
        pid = os.fork()
        if not pid:
            status = 1
            try:
                _verify(held.buffer, held.number)
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        if status:
            code = os.waitstatus_to_exitcode(status)
            raise Failure(f"{held.buffer!r} can't be verified in a fork, which ended with {code}")

    def _free_one(self) -> None:
        buffer, _ = self._held.pop(self._any())
        inode, name = buffer.inode, buffer.name
        if release(buffer):
            self.released += 1
        else:
            self.lost.append(Lost("buffer", inode, name or "without a name", None))


def _verify(buffer: Buffer, index: int) -> None:
    found = contents.difference(buffer, index, contents.pattern, contents.unheard)
    if found is not None:
        where = f"offset {found.offset}: expected {found.expected:#04x}, found {found.found:#04x}"
        raise Failure(f"{buffer!r} differs at {where}")
