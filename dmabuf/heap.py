"""dma-heaps: the list in /dev/dma_heap, and allocation from them."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, SupportsIndex

from dmabuf import _ioctl, _memory, _node
from dmabuf._fd import Descriptor, held
from dmabuf._owning import own, own_descriptor
from dmabuf._record import record
from dmabuf.access import Access, access_bits
from dmabuf.buffer import Buffer, checked_name, own_buffer
from dmabuf.errors import AllocationError, os_error

DIRECTORY = "/dev/dma_heap"
KIND = _node.Kind(
    what="dma-heap",
    subsystem="dma_heap",
    group="video",
    since="Linux 5.6",
    options=("CONFIG_DMABUF_HEAPS", "CONFIG_DMABUF_HEAPS_SYSTEM"),
    module="system_heap",
)
_MODES = {
    _ioctl.SYNC_READ: os.O_RDONLY,
    _ioctl.SYNC_WRITE: os.O_WRONLY,
    _ioctl.SYNC_RW: os.O_RDWR,
}
# Heaps of drivers/dma-buf/heaps/cma_heap.c over the years, and of vendors' trees.
_CMA_NAMES = {"default_cma_region", "linux,cma", "linux,cma-uncached", "reserved", "default-pool"}
_CMA_NAMES |= {"cma", "vidbuf_cached"}
_PROTECTED = re.compile(r"(?<![a-z])(protected|secure|restricted)", re.IGNORECASE)


@record
class HeapInfo(NamedTuple):
    """A heap as /dev/dma_heap lists it. The heap is not opened.

        contiguous = [info for info in dmabuf.heaps() if info.contiguous]
        buffer = dmabuf.allocate(1 << 20, heaps=contiguous)

    `Heap(info)` opens it. `dmabuf.allocate` takes a list of them to choose from.
    """

    name: str
    """The kernel's own name, also if the node is a symbolic link."""
    path: str
    """The path of the node in /dev/dma_heap."""

    def __fspath__(self) -> str:
        """Return the path, so that `Heap(info)` and `allocate(heaps=heaps())` work too."""
        return self.path

    @property
    def contiguous(self) -> bool:
        """True if its memory comes from a CMA region and is contiguous, judged by its name."""
        return self.name in _CMA_NAMES or "@" in self.name

    @property
    def protected(self) -> bool:
        """True if the CPU can't access its memory, judged by the words in its name."""
        return _PROTECTED.search(self.name) is not None


def heaps() -> list[HeapInfo]:
    """Return the heaps of this machine, sorted by name; an empty list if there are none.

    Opens no heap, so it needs no permission for them. Two nodes can stand for the same memory pool.
    PermissionError (EACCES) if /dev/dma_heap may not be listed.
    """
    try:
        nodes = sorted(os.listdir(DIRECTORY))
    except FileNotFoundError:
        return []
    except PermissionError:
        what = f"{DIRECTORY} can't be listed; run as root, or chmod a+rx {DIRECTORY}"
        raise os_error(errno.EACCES, what) from None
    except OSError as error:
        raise os_error(error.errno or errno.EIO, f"{DIRECTORY} can't be listed") from None
    return [_info(os.path.join(DIRECTORY, node)) for node in nodes]


def _info(path: str) -> HeapInfo:
    return HeapInfo(_node.kernel_name(path), path)


class Heap(Descriptor):
    """An open dma-heap.

        with dmabuf.Heap("system") as heap:
            buffer = heap.allocate(64 << 10, name="table")

    Thread-safe. Use it as a context manager, or call `close()`. Needs Linux 5.6. Follows
    drivers/dma-buf/dma-heap.c.
    """

    __slots__ = ("_info",)

    def __init__(self, heap: str | os.PathLike[str] = "system") -> None:
        """Open a heap by its name, such as "system", or by the path of its node.

        Raises UnsupportedError if the kernel has no heaps, FileNotFoundError if it has no such
        heap, PermissionError (EACCES) if this user may not open it, and OSError (ENOTTY) if the
        path is not a heap. The message says what to do.
        """
        path = _path(heap)
        self._info = _info(path)
        own(self, partial(_node.open_node, path, os.O_RDONLY, KIND))

    @property
    def name(self) -> str:
        """The kernel's own name of the heap."""
        return self._info.name

    @property
    def path(self) -> str:
        """The path by which it was opened."""
        return self._info.path

    def allocate(
        self,
        size: SupportsIndex,
        *,
        name: str | None = None,
        access: Access = Access.READ_WRITE,
    ) -> Buffer:
        """Allocate `size` bytes of zeroed memory, rounded up to whole pages.

        `access` is what the descriptor allows: without WRITE the memory can be mapped only for
        reading, and without READ not at all. AllocationError (ENOMEM) if there is not enough
        memory. ValueError for a size below 1, or a `name` that `Buffer.name` does not allow.
        """
        length = _memory.checked_size(size)
        mode = _MODES[access_bits(access)]
        if name is not None:
            checked_name(name)
        return _allocate(self, length, mode, name, lambda: self._info)

    def __repr__(self) -> str:
        state = "[closed]" if self._closed else f"fd={self._number}"
        return f"<dmabuf.Heap {self.name!r} {state} path={self.path!r}>"


def allocate_once(heap: str | os.PathLike[str], size: int, name: str | None) -> Buffer:
    """Allocate from a heap that is opened for that alone; its name in sysfs is not looked up.

    The heap is not kept open from one allocation to the next: a program may close descriptors that
    it does not know, and a node may be another device's by then.
    """
    path = _path(heap)
    with own_descriptor(partial(_node.open_node, path, os.O_RDONLY, KIND)) as opened:
        return _allocate(opened, size, os.O_RDWR, name, partial(_info, path))


def _path(heap: str | os.PathLike[str]) -> str:
    """Return the path of a heap's node, which may be given by its name."""
    path = os.fsdecode(heap)
    if not path:
        raise ValueError("a heap's name can't be empty")
    return path if "/" in path else os.path.join(DIRECTORY, path)


def _allocate(
    heap: Descriptor, size: int, mode: int, name: str | None, about: Callable[[], HeapInfo]
) -> Buffer:
    if _memory.must_check(size):
        info = about()
        _memory.require(size, f"heap {info.name}", cma=info.contiguous)
    try:
        return held(heap, _own_allocation, size, os.O_CLOEXEC | mode, name)
    except OSError as error:
        raise _refused(error, size, about()) from None


def _own_allocation(heap: int, size: int, flags: int, name: str | None) -> Buffer:
    return own_buffer(partial(_ioctl.dma_heap_alloc, heap, size, flags), name)


def _refused(error: OSError, size: int, heap: HeapInfo) -> AllocationError:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return AllocationError(error.errno, f"{error.strerror}")
    cma = heap.contiguous
    reason = _memory.shortage(size, cma=cma) if error.errno == errno.ENOMEM else ""
    reason = reason or f"{heap.path} refused to allocate {size} bytes; see dmesg"
    return AllocationError(error.errno or errno.EIO, f"{error.strerror}: {reason}")
