"""How many references to each buffer the descriptors and mappings are that were seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from dmabuf._processes import Key
from dmabuf._tables import FILES, MEMORY, group
from dmabuf.usage._search import Found


class Part(NamedTuple):
    """A table of descriptors or a memory."""

    pid: int
    task: int
    counts: dict[Key, int]  # of its references to each buffer
    marks: Mapping[Key, object]  # what those who share it have in common, and copies too


class References(NamedTuple):
    """The references to each buffer, and the processes that share some of them."""

    counts: Counter[Key]
    sharing: dict[Key, tuple[int, ...]]


def references(found: Sequence[Found], *, compare: bool) -> References:
    """Count references: what two processes share is one."""
    descriptors = [
        Part(
            process.pid,
            task,
            dict(zip(held, map(len, held.values()), strict=True)),
            dict(zip(held, map(itemgetter(0), held.values()), strict=True)),
        )
        for process in found
        for task, held in process.tables
    ]
    memories = [
        Part(
            process.pid,
            process.pid,
            {key: mapped.pieces for key, mapped in process.mapped.items()},
            {key: mapped.start for key, mapped in process.mapped.items()},
        )
        for process in found
        if process.mapped
    ]
    result = References(Counter(), {})
    for parts, kind in ((descriptors, FILES), (memories, MEMORY)):
        for same in _same(parts, kind) if compare else ([part] for part in parts):
            result.counts.update(same[0].counts)
            for key in same[0].counts if len(same) > 1 else ():
                pids = {part.pid for part in same}
                result.sharing[key] = tuple(sorted(pids | set(result.sharing.get(key, ()))))
    return result


def _same(parts: list[Part], kind: int) -> Iterable[list[Part]]:
    """Give each table or memory once, as the list of those who have it.

    Only those that look alike in something are compared.
    """
    if len(parts) < 2:
        yield from ([part] for part in parts)
        return
    alike = Counter(mark for part in parts for mark in part.marks.items())
    compared: dict[int, Part] = {}
    for part in parts:
        if any(alike[mark] > 1 for mark in part.marks.items()):
            compared[part.task] = part
        else:
            yield [part]
    for tasks in group(compared, kind):
        yield [compared.pop(task) for task in tasks]
    for part in compared.values():  # their tasks have ended meanwhile
        yield [part]
