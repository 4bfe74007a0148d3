"""The Linux dma-buf: memory that devices and processes share as a file descriptor."""

from dmabuf import udmabuf
from dmabuf.access import Access, AccessScope
from dmabuf.buffer import Buffer
from dmabuf.errors import AllocationError, NotADmaBufError, RefusedError, UnsupportedError
from dmabuf.heap import Heap, HeapInfo, allocate, heaps

__version__ = "0.1.0"

__all__ = [
    "Access",
    "AccessScope",
    "AllocationError",
    "Buffer",
    "Heap",
    "HeapInfo",
    "NotADmaBufError",
    "RefusedError",
    "UnsupportedError",
    "allocate",
    "heaps",
    "udmabuf",
]
