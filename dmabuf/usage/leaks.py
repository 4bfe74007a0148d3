"""Leak checks: what a block of a program opened and did not close."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

from dmabuf import _idle
from dmabuf._processes import Key
from dmabuf._record import record
from dmabuf.usage import _own
from dmabuf.usage._opened import Recorder, Stack, written

_SECOND_LOOK = 0.1  # seconds that other threads and children have to finish
_TRACE = "DMABUF_TRACE"


@record
class Leak(NamedTuple):
    """One thing that was opened and not closed.

        lost = sum(leak.size or 0 for leak in error.leaks)

    `str()` gives one line of the error's message.
    """

    what: str
    """The kind: "buffer", the path of a device, "anon_inode:sync_file", or a device's handle in
    words."""
    inode: int | None
    """The inode number of a buffer; None for anything else."""
    size: int | None
    """The size of a buffer in bytes; None for anything else."""
    name: str | None
    """The name of a buffer; None while unset."""
    descriptors: tuple[int, ...]
    """The descriptors that are still open."""
    mapped: int
    """The number of bytes of address space that are still mapped."""
    pid: int | None
    """The id of the child process that holds it; None for this process."""
    allocated: tuple[str, ...]
    """The place in the program that opened it, as lines of a traceback; empty without `trace`, and
    if another library opened it."""

    def __str__(self) -> str:
        parts = [self.what]
        if self.inode is not None:
            named = f" {self.name!r}" if self.name else ""
            parts = [f"buffer {self.inode}{named}"]
            parts += [f"{self.size:,} bytes"] if self.size is not None else []
        if self.descriptors:
            numbers = ", ".join(map(str, self.descriptors))
            parts.append(f"descriptor{'s' if len(self.descriptors) > 1 else ''} {numbers}")
        if self.mapped:
            parts.append(f"{self.mapped:,} bytes mapped")
        if self.pid is not None:
            parts.append(f"in child process {self.pid}")
        return ", ".join(parts)


class LeakError(AssertionError):
    """A block left something open. The message lists it, with the places if they were traced.

        with pytest.raises(dmabuf.usage.LeakError, match="ring-2"):
            run_the_leaky_pipeline()

    `leaks` holds the `Leak` records.
    """

    def __init__(self, leaks: tuple[Leak, ...], *, traced: bool) -> None:
        self.leaks = leaks
        super().__init__(_message(leaks, traced=traced))


@contextmanager
def leak_check(*, trace: bool = False, children: bool = False) -> Iterator[None]:
    """Raise LeakError if the block leaves buffers, fences or devices open that it opened.

        with usage.leak_check(trace=True):
            run_the_pipeline()

    It works as a decorator too. It finds descriptors and mappings of dma-bufs, also of other
    libraries, descriptors of sync_files, heaps and devices, and handles of devices. It collects
    garbage first, and looks again a moment later. Not reported: what was open before, the first
    mapping of an older buffer, and what a pool or a ticket keeps. What other threads open meanwhile
    and keep is reported. If the block raises, that exception is raised, and nothing is checked.

    `trace`, or DMABUF_TRACE=1 in the environment, adds the place of each allocation. `children`
    also finds new buffers that living child processes hold. Linux 5.10 does not show mappings of a
    DRM driver's buffers.
    """
    gc.collect()
    outside = id(sys._getframe(2).f_back)  # the frame itself would keep what the block has
    with LeakCheck(trace=trace, children=children, ends=lambda at: id(at) == outside) as check:
        yield
        check.require_none()


class LeakCheck:
    """A leak check for a program that can't put a block around the code, such as a test runner.

        with LeakCheck(ends=lambda frame: False) as check:
            ...
            check.require_none()

    It collects garbage only if something seems to be left, because that takes long: older garbage
    may hide another descriptor of the same device. `ends` returns True for the first frame, from
    the innermost outwards, that tracebacks leave out.
    """

    def __init__(
        self,
        *,
        trace: bool = False,
        children: bool = False,
        ends: Callable[[FrameType], bool],
    ) -> None:
        """Prepare a check. It begins on entering its `with` block."""
        self._traced = trace or os.environ.get(_TRACE, "0") not in ("", "0")
        self._children = children
        self._pardons = False
        self._recorder = Recorder(ends if self._traced else None)

    def __enter__(self) -> LeakCheck:
        self._before = _own.look()
        self._older: set[Key] = set()
        if self._children:
            self._older = _own.held_by_children().keys() | self._before.buffers.keys()
        self._recorder.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._recorder.stop()

    @contextmanager
    def pardon(self) -> Iterator[None]:
        """Treat what is opened in the block as if it had been open before."""
        if self._pardons:
            yield
            return
        before = _own.look()
        self._recorder.stop()
        self._pardons = True
        try:
            yield
        finally:
            self._pardons = False
            self._recorder.start()
            self._before = self._before.with_new(before, _own.look())

    def require_none(self) -> None:
        """Raise LeakError if something is left, also a moment later."""
        leaks = self._find()
        if leaks:
            gc.collect()
            leaks = self._find()
        if leaks:
            time.sleep(_SECOND_LOOK)
            gc.collect()
            leaks = self._find()
        if leaks:
            raise LeakError(tuple(leaks), traced=self._traced)

    def _find(self) -> list[Leak]:
        children = _in_children(self._older) if self._children else ()
        return [*_leaks(self._before, self._recorder), *children]


def _leaks(before: _own.Look, opened: Recorder) -> Iterator[Leak]:
    kept = _idle.descriptors()
    after = _own.look()
    for key, held in after.buffers.items():
        old = before.buffers.get(key, _own.NOTHING)
        if kept & held.numbers:
            held = held.without(kept)
        yield from _of_buffer(key[1], old, held, opened)
    for link, numbers in after.others.items():
        old_numbers = before.others.get(link, frozenset())
        for number in _new(old_numbers, numbers - kept, len(numbers - kept) - len(old_numbers)):
            where = tuple(written(opened.stack(number)))
            yield Leak(link, None, None, None, (number,), 0, None, where)
    for owner, stack in opened.open_handles():
        yield Leak(repr(owner), None, None, None, (), 0, None, tuple(written(stack)))


def _of_buffer(inode: int, old: _own.Held, new: _own.Held, opened: Recorder) -> Iterator[Leak]:
    # Each older descriptor may get its first mapping now.
    allowed = max(old.mapped, len(old.numbers) * (new.size or 0))
    mapped = max(new.mapped - allowed, 0)
    more = len(new.numbers) - len(old.numbers)
    numbers = _new(old.numbers, new.numbers, more)
    # With a mapping that is not of this package mmap.mmap keeps a duplicate.
    first_mappings = max(min(new.mapped, allowed) - old.mapped, 0) // (new.size or 1)
    foreign = [number for number in numbers if not opened.knows(number)][:first_mappings]
    numbers = [number for number in numbers if number not in foreign]
    by_place: dict[Stack, list[int]] = {}
    for number in numbers:
        by_place.setdefault(opened.stack(number), []).append(number)
    if mapped and not by_place:
        by_place[()] = []
    for place, at in by_place.items():
        yield Leak(
            "buffer", inode, new.size, new.name, tuple(at), mapped, None, tuple(written(place))
        )
        mapped = 0


def _new(old: frozenset[int], new: frozenset[int], count: int) -> list[int]:
    """Return `count` of the new numbers, those first that were not there before."""
    return sorted(new, key=lambda number: (number in old, number))[: max(count, 0)]


def _in_children(older: set[Key]) -> Iterator[Leak]:
    for key, holders in _own.held_by_children().items():
        if key not in older:
            for pid, held in holders:
                numbers = tuple(sorted(held.numbers))
                yield Leak("buffer", key[1], held.size, held.name, numbers, held.mapped, pid, ())


def _message(leaks: tuple[Leak, ...], *, traced: bool) -> str:
    """List leaks, those of one place together."""
    by_place: dict[tuple[str, ...], list[Leak]] = {}
    for leak in leaks:
        by_place.setdefault(leak.allocated, []).append(leak)
    several = "s were" if len(leaks) > 1 else " was"
    lines = [f"{len(leaks)} thing{several} opened and not closed"]
    for place, together in by_place.items():
        lines += [f"- {leak}" for leak in together]
        if place:
            times = f"{len(together)} times " if len(together) > 1 else ""
            lines += [f"  allocated {times}here:", *place]
    if not traced:
        lines.append(f"leak_check(trace=True), or {_TRACE}=1 in the environment, shows the place")
    return "\n".join(lines)
