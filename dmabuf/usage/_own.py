"""What this process, and its children, have open of this field's things."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from dmabuf import _processes
from dmabuf._processes import Key

_OTHERS = (
    "anon_inode:sync_file",
    "/dev/dma_heap/",
    "/dev/udmabuf",
    "/dev/dri/",
    "/dev/video",
    "/dev/media",
    "/sys/kernel/debug/sync/sw_sync",
)


class Held(NamedTuple):
    """What a process has of one buffer."""

    size: int | None
    name: str | None
    numbers: frozenset[int]
    mapped: int

    def without(self, kept: Iterable[int]) -> Held:
        """Return the same without some descriptors, whose mappings can't be told from others."""
        return self._replace(numbers=self.numbers.difference(kept), mapped=0)


NOTHING = Held(None, None, frozenset(), 0)


class Look(NamedTuple):
    """What a process has."""

    buffers: dict[Key, Held]
    others: dict[str, frozenset[int]]
    """Descriptors by what they have open."""

    def with_new(self, before: Look, after: Look) -> Look:
        """Return the same with what two looks differ by, as if it had been there."""
        buffers, others = dict(self.buffers), dict(self.others)
        for key, held in after.buffers.items():
            old, ours = before.buffers.get(key, NOTHING), buffers.get(key, NOTHING)
            numbers = ours.numbers | (held.numbers - old.numbers)
            mapped = ours.mapped + max(held.mapped - old.mapped, 0)
            if numbers or mapped:
                buffers[key] = held._replace(numbers=numbers, mapped=mapped)
        for link, found in after.others.items():
            new = found - before.others.get(link, frozenset())
            others[link] = others.get(link, frozenset()) | new
        return Look(buffers, others)


def look(pid: int | str = "self") -> Look:
    """Return what a process has now, this one without a number."""
    return _processes.with_folder(pid, _look)


def _look(process: int) -> Look:
    numbers: dict[Key, set[int]] = {}
    others: dict[str, set[int]] = {}
    names: dict[Key, tuple[int | None, str | None]] = {}
    files: set[Key] = set()
    mapped: dict[Key, int] = {}
    for number, link in _processes.links(process):
        if link.startswith(_processes.PREFIX):
            path = f"{_processes.DESCRIPTORS}/{number}"
            try:
                status = os.stat(path, dir_fd=process)
                key = (status.st_dev, status.st_ino)
                if key not in names and not _processes.is_dma_buf(path, process, key):
                    files.add(key)
                    continue
            except _processes.ENDED:
                continue  # another thread has closed it
            numbers.setdefault(key, set()).add(int(number))
            names[key] = status.st_size, link.removeprefix(_processes.PREFIX) or None
        elif link.startswith(_OTHERS):
            others.setdefault(link, set()).add(int(number))
    for piece in _processes.pieces(process, _processes.threads(process)):
        if piece.key not in names and piece.key not in files:
            asked = _processes.mapped_file(process, piece)
            if asked and not asked[2]:
                files.add(piece.key)
            else:
                names[piece.key] = asked[1].st_size if asked else None, piece.name or None
        if piece.key in names:
            mapped[piece.key] = mapped.get(piece.key, 0) + piece.size
    buffers = {
        key: Held(size, name, frozenset(numbers.get(key, ())), mapped.get(key, 0))
        for key, (size, name) in names.items()
    }
    return Look(buffers, {link: frozenset(found) for link, found in others.items()})


def held_by_children() -> dict[Key, list[tuple[int, Held]]]:
    """Return what the living children of this process, and theirs, have of each buffer."""
    found: dict[Key, list[tuple[int, Held]]] = {}
    for pid in _descendants(os.getpid()):
        try:
            buffers = look(pid).buffers
        except (*_processes.ENDED, PermissionError):
            continue
        for key, held in buffers.items():
            found.setdefault(key, []).append((pid, held))
    return found


def _descendants(ancestor: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid in _processes.pids():
        try:
            parent = _processes.with_folder(pid, _processes.identity).parent
        except (*_processes.ENDED, PermissionError):
            continue
        children.setdefault(parent, []).append(pid)
    found = list(children.get(ancestor, ()))
    for pid in found:  # grows
        found += children.get(pid, ())
    return found
