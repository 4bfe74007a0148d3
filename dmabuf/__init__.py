"""The Linux dma-buf: memory that devices and processes share as a file descriptor."""

from dmabuf import sw_sync, udmabuf
from dmabuf.access import Access, AccessScope
from dmabuf.buffer import Buffer
from dmabuf.errors import (
    AllocationError,
    NotADmaBufError,
    NotASyncFileError,
    RefusedError,
    UnsupportedError,
)
from dmabuf.fence import Fence, FenceInfo, FencePoint, FenceStatus
from dmabuf.heap import Heap, HeapInfo, allocate, heaps

__version__ = "0.1.0"

__all__ = [
    "Access",
    "AccessScope",
    "AllocationError",
    "Buffer",
    "Fence",
    "FenceInfo",
    "FencePoint",
    "FenceStatus",
    "Heap",
    "HeapInfo",
    "NotADmaBufError",
    "NotASyncFileError",
    "RefusedError",
    "UnsupportedError",
    "allocate",
    "heaps",
    "sw_sync",
    "udmabuf",
]
