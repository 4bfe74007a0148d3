"""What other processes have of dma-bufs: the descriptors and mappings that /proc shows.

Everything of a process is read below one descriptor of its folder, which stays with that process
when its number is reused: after its end, reading fails. Everything is read as bytes or with
surrogate escapes: a name may hold whatever its owner chose.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from dmabuf import _libc, _procfs
from dmabuf._keep import keep

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
_KERNEL_THREAD = 0x200000  # PF_KTHREAD in include/linux/sched.h
_MAPPING = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) \S+ [0-9a-f]+ ([0-9a-f]+):([0-9a-f]+) (\d+) +/dmabuf:(.*)$",
    re.MULTILINE,
)
# fs/proc/array.c. The name of a program may look like what follows it: take the last bracket.
_STAT = re.compile(
    rb"\d+ \((.*)\) (\S) (\d+) (?:\S+ ){4}(\d+) (?:\S+ ){10}(\d+) \S+ (\d+)", re.DOTALL
)
_USER = re.compile(rb"^Uid:\t\d+\t(\d+)", re.MULTILINE)


class Identity(NamedTuple):
    """What tells a process from another that had its number."""

    started: int  # clock ticks since the machine booted
    command: str
    parent: int
    threads: int
    ended: bool  # and not yet waited for; threads of it may live on
    kernel: bool  # a thread of the kernel's


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


@contextlib.contextmanager
def folder(pid: int | str) -> Iterator[int]:
    """Give a descriptor of a process's folder; FileNotFoundError if there is no such process."""
    made: list[int] = []
    try:
        try:
            keep(made, os.open, f"/proc/{pid}", _FOLDER | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise _procfs.without_proc(error) from None
        yield made[0]
    finally:
        for number in made:
            os.close(number)


def links(process: int, table: str = DESCRIPTORS) -> Iterator[tuple[str, str, int]]:
    """Give each descriptor's number and what it has open, and the table to ask more of."""
    with _procfs.opened(table, _LIST, process) as opened:
        for number in os.listdir(opened):
            try:
                link = os.readlink(number, dir_fd=opened)
            except OSError as error:
                if _is_nothing(error):
                    continue
                raise
            yield number, link, opened


def dma_bufs(process: int, table: str = DESCRIPTORS) -> Iterator[tuple[str, str, os.stat_result]]:
    """Give the number, link and status of each descriptor that looks like a dma-buf's.

    A file may be called `/dmabuf:x`: see `is_dma_buf`.
    """
    readlink, stat = os.readlink, os.stat
    with _procfs.opened(table, _LIST, process) as opened:
        # Not from `links`: this runs for each descriptor there is.
        for number in os.listdir(opened):
            try:
                link = readlink(number, dir_fd=opened)
                if not link.startswith(PREFIX):
                    continue
                status = stat(number, dir_fd=opened)
            except OSError as error:
                if _is_nothing(error):
                    continue
                raise
            yield number, link, status


def _is_nothing(error: OSError) -> bool:
    """Whether a descriptor was closed, or is a file with a path of more than a page."""
    return isinstance(error, ENDED) or error.errno == errno.ENAMETOOLONG


def is_dma_buf(path: str, folder: int, key: Key) -> bool:
    """Tell a dma-buf from a file of that name, by its file system. It is not opened itself.

    OSError if it has gone, and ProcessLookupError if something else is there by now.
    """
    with _procfs.opened(path, os.O_PATH, folder) as opened:
        status = os.fstat(opened)
        if (status.st_dev, status.st_ino) != key:
            raise ProcessLookupError(f"{path} has become something else")
        return _libc.filesystem_magic(opened) == _libc.DMA_BUF_MAGIC


def fdinfo(process: int, number: int | str, table: str = DESCRIPTORS) -> bytes:
    """Return what the kernel tells about a descriptor."""
    return _procfs.read(f"{table}info/{number}", process)


def pieces(process: int) -> Iterator[Piece]:
    """Give each piece of a mapping that looks like a dma-buf's."""
    maps = _maps(process, "maps")
    if not maps:  # its first thread has ended, or it is the kernel's and has no memory
        maps = next(filter(None, (_maps(process, f"task/{t}/maps") for t in threads(process))), b"")
    if b"/dmabuf:" not in maps:
        return
    for start, end, major, minor, inode, name in _MAPPING.findall(maps):
        key = (os.makedev(int(major, 16), int(minor, 16)), int(inode))
        begin = int(start, 16)
        yield Piece(key, begin, int(end, 16) - begin, _procfs.decoded(name))


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
    found = _STAT.match(_procfs.read("stat", process))
    if found is None:
        raise ProcessLookupError("the process has no status any more")
    command, state, parent, flags, threads, started = found.groups()
    return Identity(
        started=int(started),
        command=os.fsdecode(command),
        parent=int(parent),
        threads=int(threads),
        ended=state in b"ZXx",
        kernel=bool(int(flags) & _KERNEL_THREAD),
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
    with _procfs.opened("task", _LIST, process) as opened:
        return [int(name) for name in os.listdir(opened)]


def _maps(process: int, path: str) -> bytes:
    """Return a task's mappings, which the kernel gives a page at a time; nothing after its end."""
    chunks = []
    try:
        with _procfs.opened(path, os.O_RDONLY, process) as opened:
            while chunk := os.read(opened, _PAGE):
                chunks.append(chunk)
    except ENDED:
        return b""
    return b"".join(chunks)
