"""Buffers as the commands show them: a row of a table, an object of the JSON."""

from __future__ import annotations

from typing import Any

from dmabuf.buffer import Buffer
from dmabuf.cli.console.size import exact

COLUMNS = ("buffer", "exporter", "size", "inode", "fd", "name")
"""The heads of the table that `row` gives a line of."""


def row(index: int, buffer: Buffer) -> tuple[str, ...]:
    """Return a buffer's line of a table."""
    exporter, name = _told(buffer)
    number = str(buffer.fileno())
    return (
        *(str(index), exporter or "?", exact(buffer.size), str(buffer.inode), number),
        name or ("-" if exporter else "?"),
    )


def document(index: int, buffer: Buffer) -> dict[str, Any]:
    """Return a buffer's object of the JSON."""
    exporter, name = _told(buffer)
    return {
        "index": index,
        "exporter": exporter,
        "size": buffer.size,
        "inode": buffer.inode,
        "fd": buffer.fileno(),
        "name": name,
    }


def _told(buffer: Buffer) -> tuple[str | None, str | None]:
    """Return the exporter and the name; None without /proc, which alone tells them."""
    try:
        return buffer.exporter, buffer.name
    except FileNotFoundError:
        return None, None
