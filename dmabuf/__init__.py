"""The Linux dma-buf: memory that devices and processes share as a file descriptor."""

from typing import TYPE_CHECKING

from dmabuf import sw_sync, udmabuf
from dmabuf._lazy import attributes
from dmabuf.access import Access, AccessScope
from dmabuf.buffer import Buffer
from dmabuf.errors import (
    AllocationError,
    NotADmaBufError,
    NotASyncFileError,
    RefusedError,
    UnsupportedError,
)
from dmabuf.exporters import allocate
from dmabuf.fence import Fence, FenceInfo, FencePoint, FenceStatus
from dmabuf.heap import Heap, HeapInfo, heaps

if TYPE_CHECKING:
    from dmabuf import devices, image
    from dmabuf.image import Image

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
    "Image",
    "NotADmaBufError",
    "NotASyncFileError",
    "RefusedError",
    "UnsupportedError",
    "allocate",
    "devices",
    "heaps",
    "image",
    "sw_sync",
    "udmabuf",
]

# Imported when they are first used: they would slow every start.
__getattr__ = attributes(__name__, {"Image": "image", "devices": "devices", "image": "image"})


def __dir__() -> list[str]:
    return __all__
