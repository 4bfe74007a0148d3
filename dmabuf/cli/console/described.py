"""Buffers as the commands show them: a row of a table, an object of the JSON."""

from __future__ import annotations

from typing import Any

from dmabuf.buffer import Buffer
from dmabuf.cli.console.size import exact

COLUMNS = ("buffer", "exporter", "size", "inode", "fd", "name")
"""The heads of the table that `row` gives a line of."""


def row(index: int, buffer: Buffer) -> tuple[str, ...]:
    """Return a buffer's line of a table."""
    name = buffer.name or "-"
    number = str(buffer.fileno())
    return str(index), buffer.exporter, exact(buffer.size), str(buffer.inode), number, name


def document(index: int, buffer: Buffer) -> dict[str, Any]:
    """Return a buffer's object of the JSON."""
    return {
        "index": index,
        "exporter": buffer.exporter,
        "size": buffer.size,
        "inode": buffer.inode,
        "fd": buffer.fileno(),
        "name": buffer.name,
    }
