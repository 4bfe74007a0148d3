"""What a run has left behind: descriptors of a process, and buffers that the kernel still has."""

from __future__ import annotations

import os
import re
import time
from typing import NamedTuple

from dmabuf import _procfs
from dmabuf._owning import own_result
from dmabuf.buffer import Buffer

BUFINFO = "/sys/kernel/debug/dma_buf/bufinfo"
_PATIENCE = 2.0  # seconds for those who look at a buffer, and hold it while they do
_PAUSE = 0.01


class Lost(NamedTuple):
    """Something that should be gone."""

    kind: str
    """`descriptor` or `buffer`."""
    number: int
    """The descriptor's number, or the buffer's inode."""
    name: str
    """What the descriptor has open, or the buffer's name."""
    pid: int | None
    """Whose descriptor it is; None for a buffer."""

    def __str__(self) -> str:
        if self.kind == "descriptor":
            return f"descriptor {self.number} of process {self.pid}: {self.name}"
        return f"buffer {self.name} with inode {self.number}"


def descriptors() -> set[int]:
    """Return the numbers of this process's descriptors."""
    with own_result(os.open, "/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY) as folder:
        number = folder.fileno()
        return {int(name) for name in os.listdir(number)} - {number}


def lost_descriptors(before: set[int]) -> list[Lost]:
    """Return what this process has open that it had not."""
    return [
        Lost("descriptor", number, _procfs.open_file(number), os.getpid())
        for number in sorted(descriptors() - before)
    ]


def release(buffer: Buffer) -> bool:
    """Close a buffer; return whether that was the last reference to it, as fdinfo counts them."""
    with buffer.dup() as last:
        buffer.close()
        deadline = time.monotonic() + _PATIENCE
        while _procfs.about_own(last.fileno()).references != 1:
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE)
    return True


def can_list() -> bool:
    """Return whether this process may read the kernel's list of all buffers."""
    return os.access(BUFINFO, os.R_OK)


def lost_buffers(prefix: str) -> list[Lost]:
    """Return the buffers in the kernel's list whose names begin so, when they stay there."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        found = _listed(prefix)
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(_PAUSE)


def _listed(prefix: str) -> list[Lost]:
    line = rf"\s(\d+)\s+({re.escape(prefix)}\S*)\s*$".encode()
    with open(BUFINFO, "rb") as file:
        found = re.findall(line, file.read(), re.MULTILINE)
    return [Lost("buffer", int(inode), os.fsdecode(name), None) for inode, name in found]
