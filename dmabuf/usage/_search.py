"""A look through processes: which buffers there are, and who holds them."""

from __future__ import annotations

import os
from functools import partial

from dmabuf import _processes, _procfs
from dmabuf._processes import Identity, Key, Piece
from dmabuf._procfs import About
from dmabuf._tables import can_compare, tables


class Sight:
    """What was seen of one buffer."""

    __slots__ = ("about", "is_dma_buf", "name", "size")

    def __init__(
        self, name: str, size: int | None, is_dma_buf: bool | None, about: About | None = None
    ) -> None:
        self.name = name
        """As links and maps have it; empty while unset."""
        self.size = size
        self.is_dma_buf = is_dma_buf
        """None if it was only seen in maps, by somebody who may not look at what is mapped."""
        self.about = about
        """What fdinfo tells, if any descriptor was seen."""


class Mapped:
    """What one process has mapped of a buffer."""

    __slots__ = ("bytes", "pieces", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.bytes = 0
        self.pieces = 0


class Found:
    """A process that holds buffers."""

    __slots__ = ("mapped", "pid", "tables", "user", "who")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.who: Identity
        self.user: int
        self.tables: list[tuple[int, dict[Key, list[str]]]] = []
        """Its tables of descriptors, each with a task that has it: the numbers in order."""
        self.mapped: dict[Key, Mapped] = {}


class Search:
    """What has been found so far."""

    def __init__(self) -> None:
        self.compares = can_compare()
        """Whether tables that are shared, and threads' own, can be told."""
        self.buffers: dict[Key, Sight] = {}
        self.found: list[Found] = []
        self._told: set[Key] = set()  # what need not be asked about again
        self._files: set[Key] = set()  # that are called like a dma-buf
        self.unreadable: list[int] = []
        self.gone: list[int] = []

    def look_at(self, pid: int) -> None:
        """Note what a process holds; that it has gone, or may not be read, is noted too."""
        try:
            _processes.with_folder(pid, partial(self._look, pid))
        except _processes.ENDED:
            self.gone.append(pid)
        except PermissionError:
            self.unreadable.append(pid)

    def _look(self, pid: int, process: int) -> None:
        found = Found(pid)
        readable = True
        tasks = _processes.threads(process)
        try:
            for task, table in tables(pid, tasks if self.compares else ()):
                if held := self._descriptors(process, table):
                    found.tables.append((task, held))
        except PermissionError:
            readable = False
        try:
            for piece in _processes.pieces(process, tasks):
                self._note_piece(process, piece, found)
        except PermissionError:
            readable = False
        if readable and not found.tables and not found.mapped:
            return
        who = _processes.identity(process)
        if who.ended and who.threads <= 1:
            raise ProcessLookupError(f"process {pid} has ended")
        if found.tables or found.mapped:
            found.who, found.user = who, _processes.user(process)
            self.found.append(found)
        if not readable and not who.kernel:
            self.unreadable.append(pid)

    def _descriptors(self, process: int, table: str) -> dict[Key, list[str]]:
        """Return the descriptors of each buffer, and note what is new of these buffers."""
        opened = _processes.dma_bufs(process, table)
        numbers, told = opened.numbers, self._told
        new = [key for key in numbers if key not in told]
        texts = _processes.fdinfos(process, table, [numbers[key][0] for key in new])
        for key, text in zip(new, texts, strict=True):
            name = opened.links[key].removeprefix(_processes.PREFIX)
            about = _procfs.about(text)
            if about is not None and about.inode == key[1]:
                self.buffers[key] = Sight(name, about.size, True, about)
                told.add(key)
            elif not self._look_closer(process, table, numbers[key], key, name):
                del numbers[key]
        for key in self._files.intersection(numbers) if self._files else ():
            del numbers[key]
        return numbers

    def _look_closer(
        self, process: int, table: str, numbers: list[str], key: Key, name: str
    ) -> bool:
        """Note whether descriptors are a dma-buf's, and what is told of it: for the rare cases.

        They may be of a file with such a name, or have been closed meanwhile: False. Linux 5.10
        shows fdinfo to root alone, and tells no inode there.
        """
        for number in numbers:
            about = _procfs.about(_processes.fdinfos(process, table, [number])[0])
            path = f"{table}/{number}"
            try:
                real = _processes.is_dma_buf(path, process, key)
                size = os.stat(path, dir_fd=process).st_size
            except _processes.ENDED:
                continue
            if not (real and about and about.inode in (key[1], None)):
                about = None
            self.buffers[key] = Sight(name, size, real, about)
            if about or not real:
                self._told.add(key)
            if not real:
                self._files.add(key)
            return real
        return False

    def _note_piece(self, process: int, piece: Piece, found: Found) -> None:
        sight = self.buffers.get(piece.key)
        if sight is None:
            sight = self._mapping(process, piece)
            self.buffers[piece.key] = sight
        if sight.is_dma_buf is False:
            return
        mapped = found.mapped.get(piece.key)
        if mapped is None:
            mapped = found.mapped[piece.key] = Mapped(piece.start)
        mapped.bytes += piece.size
        mapped.pieces += 1

    def _mapping(self, process: int, piece: Piece) -> Sight:
        """Return what can be told of a buffer that was met in a mapping first."""
        asked = _processes.mapped_file(process, piece)
        if asked is None:
            return Sight(piece.name, None, None)
        link, status, real = asked
        return Sight(link.removeprefix(_processes.PREFIX), status.st_size, real)
