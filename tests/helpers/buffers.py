"""Buffers to test with, of the exporter that the machine has."""

from __future__ import annotations

import os

import dmabuf
from helpers import vgem

SYSTEM_HEAP = "/dev/dma_heap/system"


def has_heap() -> bool:
    """Whether this process may allocate from the system heap."""
    return os.access(SYSTEM_HEAP, os.R_OK)


def allocate(size: int, *, name: str | None = None) -> dmabuf.Buffer:
    """Allocate at least `size` bytes: the system heap's, or vgem's where there is no heap."""
    if not has_heap():
        return vgem.allocate(size, name=name)
    with dmabuf.Heap("system") as heap:
        return heap.allocate(size, name=name)
