"""What other processes have of dma-bufs: the descriptors and mappings that /proc shows.

Everything of a process is read below one descriptor of its folder, which stays with that process
when its number is reused: after its end, reading fails. Everything is read as bytes or with
surrogate escapes: a name may hold whatever its owner chose.
"""

from __future__ import annotations

import errno
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from typing import NamedTuple, TypeVar

from dmabuf import _libc, _procfs

PREFIX = "/dmabuf:"
"""What the kernel calls a dma-buf in links and maps, before its name."""
ENDED = (FileNotFoundError, ProcessLookupError)
"""What reading raises once the process, or the descriptor, is gone."""
DESCRIPTORS = "fd"
"""A process's table of descriptors, in its folder; a thread's own is task/TID/fd."""

Key = tuple[int, int]
"""A buffer's identity: the device and the inode."""

_FOLDER = os.O_PATH | os.O_DIRECTORY
_LIST = os.O_RDONLY | os.O_DIRECTORY
_PAGE = 4096
_BATCH = 256  # descriptors
_TOGETHER = 16  # files that are open at once
_KERNEL_THREAD = 0x200000  # PF_KTHREAD in include/linux/sched.h
_MAPPING = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) \S+ [0-9a-f]+ ([0-9a-f]+):([0-9a-f]+) (\d+) +/dmabuf:(.*)$",
    re.MULTILINE,
)
_USER = re.compile(rb"\nUid:\t\d+\t(\d+)")
_key = itemgetter(2, 1)  # of the tuple that a stat_result is: the device and the inode

_Result = TypeVar("_Result")


class Identity(NamedTuple):
    """What tells a process from another that had its number."""

    started: int  # clock ticks since the machine booted
    command: str
    parent: int
    threads: int
    ended: bool  # and not yet waited for; threads of it may live on
    kernel: bool  # a thread of the kernel's


class Opened(NamedTuple):
    """What a table has of buffers, and of files that are called like one."""

    numbers: dict[Key, list[str]]  # of the descriptors of each
    links: dict[Key, str]


class Piece(NamedTuple):
    """One piece of a mapping."""

    key: Key
    start: int
    size: int
    name: str  # with a newline as \\012


def pids() -> list[int]:
    """Return the numbers of all processes that can be seen; OSError without /proc."""
    try:
        os.stat("/proc/self")
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError as error:
        raise _procfs.without_proc(error) from None


def with_folder(pid: int | str, use: Callable[[int], _Result]) -> _Result:
    """Return what a function makes of the descriptor of a process's folder.

    FileNotFoundError if there is no such process.
    """
    try:
        return _procfs.with_open(f"/proc/{pid}", _FOLDER, None, use)
    except FileNotFoundError as error:
        raise _procfs.without_proc(error) from None


def links(process: int, table: str = DESCRIPTORS) -> list[tuple[str, str]]:
    """Return each descriptor's number and what it has open."""
    return _procfs.with_open(table, _LIST, process, _links)


def _links(table: int) -> list[tuple[str, str]]:
    return [pair for some in _batches(table) for pair in _linked(table, some)]


def _batches(table: int) -> Iterator[list[str]]:
    """Give the numbers of descriptors, some at a time: what is made of them is soon freed."""
    numbers = os.listdir(table)
    return (numbers[start : start + _BATCH] for start in range(0, len(numbers), _BATCH))


def _linked(table: int, numbers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Give each descriptor that is still there, with its link."""
    links = _of_each(numbers, partial(map, partial(os.readlink, dir_fd=table)))
    return ((number, link) for number, link in zip(numbers, links, strict=True) if link)


def _of_each(
    numbers: Sequence[str], read: Callable[[Iterable[str]], Iterable[_Result]]
) -> list[_Result | None]:
    """Return what is read of each descriptor; None of one that was closed meanwhile.

    All in one call, whose loop is C's: there are many descriptors, and few are just being closed.
    """
    try:
        return list(read(numbers))
    except OSError:
        return [_if_there(number, read) for number in numbers]


def _if_there(number: str, read: Callable[[Iterable[str]], Iterable[_Result]]) -> _Result | None:
    try:
        return next(iter(read((number,))))
    except OSError as error:
        if not _is_nothing(error):
            raise
        return None


def dma_bufs(process: int, table: str = DESCRIPTORS) -> Opened:
    """Return what looks like a dma-buf in a table of descriptors.

    A file may be called `/dmabuf:x`: see `is_dma_buf`. The table of a thread that has ended is
    empty; a process that has ended is an error.
    """
    try:
        return _procfs.with_open(table, _LIST, process, _dma_bufs)
    except ENDED:
        if table == DESCRIPTORS:
            raise
        return Opened({}, {})


def _dma_bufs(table: int) -> Opened:
    opened = Opened(defaultdict(list), {})
    stat = partial(os.stat, dir_fd=table)
    for some in _batches(table):
        links = {number: link for number, link in _linked(table, some) if link.startswith(PREFIX)}
        keys = _of_each(list(links), lambda numbers: map(_key, map(stat, numbers)))
        for (number, link), key in zip(links.items(), keys, strict=True):
            if key:
                opened.numbers[key].append(number)
                opened.links[key] = link
    return opened


def _is_nothing(error: OSError) -> bool:
    """Whether a descriptor was closed, or is a file with a path of more than a page."""
    return isinstance(error, ENDED) or error.errno == errno.ENAMETOOLONG


def is_dma_buf(path: str, folder: int, key: Key) -> bool:
    """Tell a dma-buf from a file of that name, by its file system. It is not opened itself.

    OSError if it has gone, and ProcessLookupError if something else is there by now.
    """
    return _procfs.with_open(path, os.O_PATH, folder, _is_dma_buf, key)


def _is_dma_buf(opened: int, key: Key) -> bool:
    status = os.fstat(opened)
    if (status.st_dev, status.st_ino) != key:
        raise ProcessLookupError(f"file {key} has become something else")
    return _libc.filesystem_magic(opened) == _libc.DMA_BUF_MAGIC


def fdinfo(process: int, number: str, table: str = DESCRIPTORS) -> bytes:
    """Return what the kernel tells about a descriptor."""
    return _procfs.read(f"{table}info/{number}", process)


def fdinfos(process: int, table: str, numbers: Sequence[str]) -> list[bytes]:
    """Return what the kernel tells about descriptors; nothing of those that may not be read."""
    texts = []
    for start in range(0, len(numbers), _TOGETHER):
        some = numbers[start : start + _TOGETHER]
        try:
            texts += _procfs.read_together([f"{table}info/{number}" for number in some], process)
        except OSError:  # one of them may not be read, or this process has too many open
            texts += [_readable_fdinfo(process, table, number) for number in some]
    return texts


def _readable_fdinfo(process: int, table: str, number: str) -> bytes:
    try:
        return fdinfo(process, number, table)
    except (*ENDED, PermissionError):
        return b""


def pieces(process: int, tasks: Sequence[int]) -> list[Piece]:
    """Return each piece of a mapping that looks like a dma-buf's; `tasks` are its threads."""
    # Empty for a thread of the kernel's, and for a process whose first thread has ended.
    paths = ("maps", *(f"task/{task}/maps" for task in tasks))
    maps = next(filter(None, (_maps(process, path) for path in paths)), b"")
    if b"/dmabuf:" not in maps:
        return []
    found = []
    for start, end, major, minor, inode, name in _MAPPING.findall(maps):
        key = (os.makedev(int(major, 16), int(minor, 16)), int(inode))
        begin = int(start, 16)
        found.append(Piece(key, begin, int(end, 16) - begin, _procfs.decoded(name)))
    return found


def mapped_file(process: int, piece: Piece) -> tuple[str, os.stat_result, bool] | None:
    """Return the link and the status of what is mapped there, and whether it is a dma-buf.

    None if something else is mapped there by now, and for who may not ask: CAP_CHECKPOINT_RESTORE,
    or CAP_SYS_ADMIN, may.
    """
    path = f"map_files/{piece.start:x}-{piece.start + piece.size:x}"
    try:
        link, status = os.readlink(path, dir_fd=process), os.stat(path, dir_fd=process)
        real = is_dma_buf(path, process, (status.st_dev, status.st_ino))
    except OSError:
        return None
    if real and (status.st_dev, status.st_ino) != piece.key:
        return None
    return link, status, real


def identity(process: int) -> Identity:
    """Return who a process is; OSError once it has ended and was waited for."""
    # fs/proc/array.c. The name of a program may look like what follows it: take the last bracket.
    before, _, after = _procfs.read("stat", process).rpartition(b") ")
    fields = after.split()
    if len(fields) < 20:
        raise ProcessLookupError("the process has no status any more")
    return Identity(
        started=int(fields[19]),
        command=os.fsdecode(before.partition(b" (")[2]),
        parent=int(fields[1]),
        threads=int(fields[17]),
        ended=fields[0] in b"ZXx",
        kernel=bool(int(fields[6]) & _KERNEL_THREAD),
    )


def user(process: int) -> int:
    """Return the user that a process runs as (its effective number)."""
    found = _USER.search(_procfs.read("status", process))
    if found is None:
        raise ProcessLookupError("the process has no status any more")
    return int(found[1])


def threads(process: int) -> list[int]:
    """Return the numbers of a process's threads, if it has more than one."""
    # fs/proc/base.c adds the threads to the two links that a folder has.
    if os.stat("task", dir_fd=process).st_nlink <= 3:
        return []
    return [int(name) for name in _procfs.with_open("task", _LIST, process, os.listdir)]


def _maps(process: int, path: str) -> bytes:
    """Return a task's mappings, which the kernel gives a page at a time; nothing after its end."""
    try:
        return _procfs.with_open(path, os.O_RDONLY, process, _whole)
    except ENDED:
        return b""


def _whole(file: int) -> bytes:
    chunks = []
    while chunk := os.read(file, _PAGE):
        chunks.append(chunk)
    return b"".join(chunks)
