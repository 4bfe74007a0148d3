"""The Linux dma-buf: memory that devices and processes share as a file descriptor."""

from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    """Import images and devices when they are first used: they would slow every start."""
    if name not in ("Image", "devices", "image"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if name == "devices":
        return import_module("dmabuf.devices")
    module = import_module("dmabuf.image")
    globals()["Image"] = module.Image
    return globals()[name]
