"""The cache folder: what is in it is complete, and made by one process at a time."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from dmabuf.testing.vm.failure import Failure
from dmabuf.testing.vm.processes import say


def get(name: str, make: Callable[[Path], None]) -> Path:
    """Return the cached folder ``name``; the first time, ``make`` fills it."""
    folder = path(name)
    if folder.is_dir():
        return folder
    with _locked(folder):
        if not folder.is_dir():
            _remove_unfinished(folder)
            prefix = f"{name}.unfinished-"
            scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
            try:
                make(scratch)
                scratch.chmod(0o755)
                scratch.rename(folder)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return folder


def path(name: str) -> Path:
    """Where the cached folder ``name`` is, once it is made."""
    if own := os.environ.get("DMABUF_VM_CACHE"):
        return Path(own, name).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "dmabuf-vm", name).absolute()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # A lock for each folder: a kernel that is being built holds up nobody but its own users.
    with _lock_file(folder) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that makes {folder}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _lock_file(folder: Path) -> TextIO:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return open(f"{folder}.lock", "w")
    except OSError as error:
        cause = f"{folder} is missing and can't be made: {error.strerror}"
        raise Failure(f"{cause}; name another cache in DMABUF_VM_CACHE") from None


def _remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left: whoever holds the lock is the only one at work."""
    for leftover in folder.parent.glob(f"{folder.name}.unfinished-*"):
        shutil.rmtree(leftover, ignore_errors=True)
