"""A look through processes: which buffers there are, and who holds them."""

from __future__ import annotations

from dmabuf import _processes, _procfs
from dmabuf._processes import Identity, Key, Piece
from dmabuf._procfs import About
from dmabuf._tables import can_compare, tables


class Sight:
    """What was seen of one buffer."""

    __slots__ = ("about", "is_dma_buf", "name", "size")

    def __init__(self, name: str, size: int | None, is_dma_buf: bool | None) -> None:
        self.name = name
        """As links and maps have it; empty while unset."""
        self.size = size
        self.is_dma_buf = is_dma_buf
        """None if it was only seen in maps, by somebody who may not look at what is mapped."""
        self.about: About | None = None
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
        self.tables: list[tuple[int, dict[Key, list[int]]]] = []
        """Its tables of descriptors, each with a task that has it."""
        self.mapped: dict[Key, Mapped] = {}


class _Numbers(dict[str, int]):
    """Each number once: processes have the same, and an int is larger than its place in a tuple."""

    def __missing__(self, text: str) -> int:
        number = self[text] = int(text)
        return number


class Search:
    """What has been found so far."""

    def __init__(self) -> None:
        self.compares = can_compare()
        """Whether tables that are shared, and threads' own, can be told."""
        self.buffers: dict[Key, Sight] = {}
        self.found: list[Found] = []
        self._numbers = _Numbers()
        self.unreadable: list[int] = []
        self.gone: list[int] = []

    def look_at(self, pid: int) -> None:
        """Note what a process holds; that it has gone, or may not be read, is noted too."""
        try:
            with _processes.folder(pid) as process:
                self._look(process, pid)
        except _processes.ENDED:
            self.gone.append(pid)
        except PermissionError:
            self.unreadable.append(pid)

    def _look(self, process: int, pid: int) -> None:
        found = Found(pid)
        readable = True
        try:
            for task, table in tables(process, pid, compare=self.compares):
                if held := self._descriptors(process, table):
                    found.tables.append((task, held))
        except PermissionError:
            readable = False
        try:
            for piece in _processes.pieces(process):
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

    def _descriptors(self, process: int, table: str) -> dict[Key, list[int]]:
        held: dict[Key, list[int]] = {}
        buffers, numbers = self.buffers, self._numbers
        try:
            for number, link, status, opened in _processes.dma_bufs(process, table):
                key = (status.st_dev, status.st_ino)
                if key in held:
                    held[key].append(numbers[number])
                    continue
                sight = buffers.get(key)
                if sight is None or (sight.about is None and sight.is_dma_buf is not False):
                    sight = Sight(link.removeprefix(_processes.PREFIX), status.st_size, None)
                    sight.about = self._about(process, table, number, key)
                    try:
                        sight.is_dma_buf = bool(sight.about) or _processes.is_dma_buf(
                            number, opened, key
                        )
                    except _processes.ENDED:
                        continue  # it was closed meanwhile
                    buffers[key] = sight
                if sight.is_dma_buf:
                    held[key] = [numbers[number]]
        except _processes.ENDED:
            if table == _processes.DESCRIPTORS:
                raise
            # else the thread has ended, and its table with it
            return {}
        return held

    def _about(self, process: int, table: str, number: str, key: Key) -> About | None:
        try:
            about = _procfs.about(_processes.fdinfo(process, number, table))
        except (*_processes.ENDED, PermissionError):
            return None  # Linux 5.10 shows it to root and to nobody else
        if about is None or about.inode not in (key[1], None):
            return None  # the number has become another file's
        return about

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
