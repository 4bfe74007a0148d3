"""What fdinfo says of a descriptor of a dma-buf, and what another descriptor has open.

Everything is read as bytes: a buffer's name is whatever its owner chose. The kernel writes the name
last (dma_buf_show_fdinfo in drivers/dma-buf/dma-buf.c), so that the first line of each key is its
own, and all that follows the key of the name is the name: also lines that look like others.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import repeat
from typing import NamedTuple, TypeVar

from dmabuf._keep import keep
from dmabuf.errors import NotADmaBufError, os_error

# It begins with a letter, no condition: so it is searched for three times as fast.
_FIELDS = re.compile(
    rb"\n(?:ino:\t(\d+)\n(?:.*?\n)??)?size:\t(\d+)\n(?:.*?\n)??count:\t(\d+)\n"
    rb"(?:.*?\n)??exp_name:\t([^\n]*)\n(?:name:\t(.*)\n\Z)?",
    re.DOTALL,
)
_MOST = 8192  # bytes that are read: some lines and a short name

_Result = TypeVar("_Result")


class About(NamedTuple):
    """What fdinfo tells about a buffer."""

    inode: int | None  # since Linux 5.14
    size: int
    references: int
    exporter: str
    name: str | None


def with_open(
    path: str, flags: int, folder: int | None, use: Callable[..., _Result], *more: object
) -> _Result:
    """Return what a function makes of the descriptor of a file of /proc, and `more`.

    A signal handler that raises can't leave it open. A scan does this for each process and buffer:
    a context manager would take three times as long.
    """
    made: list[int] = []
    try:
        keep(made, partial(os.open, dir_fd=folder), path, flags | os.O_CLOEXEC)
        return use(made[0], *more)
    finally:
        for number in made:
            os.close(number)


def read(path: str, folder: int | None = None) -> bytes:
    """Return a short file of /proc or /sys, which comes at once; `folder` as of os.open."""
    return with_open(path, os.O_RDONLY, folder, os.read, _MOST)


def read_together(paths: Sequence[str], folder: int) -> list[bytes]:
    """Return short files of /proc, all of which are open at once; OSError if one can't be read."""
    made: list[int] = []
    try:
        flags = os.O_RDONLY | os.O_CLOEXEC
        made.extend(map(partial(os.open, dir_fd=folder), paths, repeat(flags)))
        return list(map(os.read, made, repeat(_MOST)))
    finally:
        for number in made:
            os.close(number)


def decoded(name: bytes) -> str:
    """Return a name as it was set, in UTF-8, whatever the encoding of the locale."""
    return name.decode("utf-8", "surrogateescape")


_exporter = lru_cache(maxsize=32)(decoded)
"""Returns an exporter's name, always the same object: there are few, and many buffers."""


def without_proc(error: FileNotFoundError) -> OSError:
    """Return the error of what /proc does not have, in words where there is no /proc at all."""
    if os.path.isdir("/proc/self"):
        return error
    what = "/proc, which alone tells this, is not mounted; run mount -t proc proc /proc"
    return os_error(errno.ENOENT, what)


def about(fdinfo: bytes) -> About | None:
    """Return what the text of a fdinfo tells about a buffer; None if it is another file's."""
    found = _FIELDS.search(fdinfo)
    if found is None:
        return None
    inode, size, references, exporter, name = found.groups()
    return About(
        int(inode) if inode else None,
        int(size),
        int(references),
        _exporter(exporter),
        decoded(name) if name else None,
    )


def about_own(number: int) -> About:
    """Return what the kernel tells about one of this process's own descriptors.

    NotADmaBufError if somebody closed it behind its owner's back, and its number is another file's.
    """
    try:
        text = read(f"/proc/self/fdinfo/{number}")
    except FileNotFoundError as error:
        raise without_proc(error) from None
    found = about(text)
    if found is None:
        raise NotADmaBufError(f"descriptor {number} is not a dma-buf but {open_file(number)}")
    return found


def open_file(number: int) -> str:
    """Return what one of this process's own descriptors has open, for messages."""
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return "something else"
