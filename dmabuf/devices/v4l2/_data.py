"""The bytes in use of a frame, bracketed for reading."""

from __future__ import annotations

from dmabuf.access import Access, AccessScope
from dmabuf.buffer import Buffer


class DataScope(AccessScope):
    """The bracket of a read of a part of a buffer, which gives a memoryview of that part alone."""

    __slots__ = ("_part",)

    def __init__(self, buffer: Buffer, start: int, end: int) -> None:
        super().__init__(buffer, int(Access.READ))
        self._part = slice(start, end)

    def __enter__(self) -> memoryview:
        """Wait for pending writers, and give the part."""
        whole = super().__enter__()
        self._memory = whole[self._part]
        whole.release()
        return self._memory
