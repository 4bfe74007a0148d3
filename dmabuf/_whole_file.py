"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Write a file in place of one that may be there, whose mode and owner it gets: at the end.

    It is left as it was if the block raises. What is no file, a pipe or a device, is written as it
    is; so is a file that this user may write in a folder that it may not.
    """
    before = None
    with contextlib.suppress(FileNotFoundError):
        before = os.stat(path)
    target = _target(path)
    if target is None or (before is not None and not _may_replace(target, before)):
        with open(path, "wb") as file:
            yield file
        return
    draft = os.path.join(os.path.dirname(target), f".{os.urandom(8).hex()}.tmp")
    try:
        with open(draft, "xb") as file:
            yield file
            if before is not None:
                with contextlib.suppress(PermissionError):
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
        os.replace(draft, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        if isinstance(error, OSError) and error.filename == draft:
            error.filename = os.fspath(path)  # the caller knows no draft
        raise


def _target(path: str | os.PathLike[str]) -> str | None:
    """Return where a path's links lead, which stay; None for a descriptor, such as /dev/stdout."""
    name = os.path.abspath(path)
    for _ in range(40):  # as many as the kernel follows
        folder = os.path.realpath(os.path.dirname(name))
        if folder.startswith("/proc/"):
            return None
        if not os.path.islink(name):
            return name
        name = os.path.join(folder, os.readlink(name))
    return None


def _may_replace(path: str, status: os.stat_result) -> bool:
    paths = (path, os.path.dirname(path))
    may_write = all(os.access(each, os.W_OK, effective_ids=True) for each in paths)
    return stat.S_ISREG(status.st_mode) and may_write
