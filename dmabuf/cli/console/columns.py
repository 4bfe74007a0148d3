"""A table without lines: one line a thing, numbers to the right, columns that keep their places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dmabuf.cli.console.text import Page, columns_of, cut, left, right


class Column(NamedTuple):
    """A column; the last one of a table takes what room there is."""

    head: str
    width: int
    """What it takes as long as no cell is wider."""
    is_number: bool = False
    gap: int = 1
    """Blanks before it."""


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], page: Page) -> list[str]:
    """Return a table's lines, the heads first.

    Cells wider than their column widen it. Where the lines are then too wide for the terminal, no
    column is wider than it needs and than its width, and what is cut has a mark.
    """
    widest = [
        max(map(columns_of, cells))
        for cells in zip((column.head for column in columns), *rows, strict=True)
    ]
    widths = [max(wide, column.width) for wide, column in zip(widest, columns, strict=True)]
    last = len(columns) - 1
    ends = sum(widths[:last]) + widest[last] + sum(column.gap for column in columns)
    if page.width is not None and ends > page.width:
        widths = [
            wide if column.is_number else min(wide, max(column.width, len(column.head)))
            for wide, column in zip(widest, columns, strict=True)
        ]
    heads = [column.head for column in columns]
    return [page.cut(_line(columns, widths, cells, page)) for cells in (heads, *rows)]


def _line(
    columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str], page: Page
) -> str:
    parts = []
    for number, (column, width, cell) in enumerate(zip(columns, widths, cells, strict=True)):
        is_last = number == len(columns) - 1
        text = cell if is_last else cut(cell, width, page.mark)
        placed = right(text, width) if column.is_number else left(text, width)
        parts.append(" " * column.gap + placed)
    return "".join(parts).rstrip()
