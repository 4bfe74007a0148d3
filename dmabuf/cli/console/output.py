"""Where an answer goes: lines and tables on standard output or, with --json, one document.

Tables are drawn on a terminal; elsewhere they are columns of plain text, never wrapped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from dmabuf.cli.console.text import columns_of, encodable, printable

SCHEMA = 1
"""The version of docs/json.md; it changes when a field changes its meaning or goes away."""

_LEAST_LAST = 12  # columns of a terminal: a last column that is narrower is hard to read
_STYLES = {"yes": "green", "no": "red"}


class OutputError(Exception):
    """Standard output takes no more: its reader is gone, or its disk is full."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output: {error.strerror}")
        self.reader_gone = isinstance(error, BrokenPipeError)


class Output:
    """What one run of the command prints."""

    def __init__(self, *, json: bool) -> None:
        self.command: str | None = None
        self._json = json
        self._documented = False
        self._told_of_rich = False

    def line(self, text: str) -> None:
        """Print a line of text."""
        if not self._json:
            self._write(_shown(text, sys.stdout))

    def lines(self, text: str) -> None:
        """Print several lines of the command's own text."""
        if not self._json:
            self.text(text)

    def text(self, text: str) -> None:
        """Print several lines of the command's own text, with --json too."""
        self._write(text.removesuffix("\n"))

    def told(self, text: str, document: dict[str, object] | None) -> None:
        """Print what was asked for, as text or, with --json, as its document if it has one."""
        if document is None or not self._json:
            self.text(text)
        else:
            self.document(**document)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table, without its empty columns, and an empty line."""
        if self._json or sys.stdout is None:
            return
        used = [number for number in range(len(columns)) if any(row[number] for row in rows)]
        heads = [columns[number] for number in used]
        cells = [[_shown(row[number], sys.stdout) for number in used] for row in rows]
        if sys.stdout.isatty():
            self._draw(title, heads, cells)
        else:
            self._write(_plain(title, heads, cells))

    def document(self, **fields: object) -> None:
        """Print the JSON document; only the first one, since there is one a run."""
        if not self._json or self._documented:
            return
        import json

        self._documented = True
        self._write(json.dumps(self._head() | fields, indent=2))

    def finished_document(self, text: str) -> None:
        """Print a JSON document that is text already, in place of `document`."""
        if self._json and not self._documented:
            self._documented = True
            self._write(text)

    def record(self, **fields: object) -> None:
        """Print one of many JSON documents, on one line, and hand it to the reader."""
        if self._json:
            import json

            self._documented = True
            self._write(json.dumps(self._head() | fields))
            self.flush()

    def error(self, message: str, errno: str | None = None, **fields: object) -> None:
        """Print why the command failed: one line on standard error, and the document."""
        self.note(message)
        self.document(**fields, error=message, errno=errno)

    def note(self, message: str) -> None:
        """Print one line on standard error, such as what could not be seen; with --json too."""
        if sys.stderr is not None:
            try:
                print(_shown(f"dmabuf-alloc: {message}", sys.stderr), file=sys.stderr, flush=True)
            except OSError:  # nobody is left to be told
                abandon(sys.stderr)

    def reader(self) -> int | None:
        """Return the descriptor that tells poll(2) when nobody reads any more, if there is one."""
        try:
            return sys.stdout.fileno() if sys.stdout is not None else None
        except (OSError, ValueError):
            return None  # it is no file, but somebody's object

    def flush(self) -> None:
        """Hand everything to the reader; OutputError if it can't be."""
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError as error:
            raise OutputError(error) from None

    def _head(self) -> dict[str, object]:
        return {"schema": SCHEMA, "command": self.command}

    def _write(self, text: str) -> None:
        try:
            print(text)
        except OSError as error:
            raise OutputError(error) from None

    def _draw(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        try:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ImportError:
            self._write(_plain(title, columns, rows))
            self._tell_of_rich()
            return

        table = Table(header_style="dim")
        table.box, table.padding, table.pad_edge = None, (0, 2, 0, 0), False
        console = Console(highlight=False, markup=False, emoji=False)
        # The last column wraps first; where the others alone are too wide, all do, but numbers.
        cells = zip(columns, *rows, strict=True)
        *widths, last = (max(map(columns_of, column)) + 2 for column in cells)
        last_wraps = sum(widths) + _LEAST_LAST <= console.width
        if max(*widths, last) < _LEAST_LAST:
            console.width = max(console.width, sum(widths) + last)
        for column in columns:
            no_wrap = last_wraps and column != columns[-1]
            table.add_column(column, overflow="fold", no_wrap=no_wrap)
        for row in rows:
            table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
        try:
            console.print(Text(title, style="bold"), table, "")
        except OSError as error:
            raise OutputError(error) from None

    def _tell_of_rich(self) -> None:
        if not self._told_of_rich:
            self._told_of_rich = True
            self.note("tables are drawn with rich, which is missing here: pip install rich")


def abandon(stream: TextIO) -> None:
    """Let nothing more reach a standard stream that takes no more: nor what is still to be flushed.

    The interpreter's exit would say so, and change the status.
    """
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
    except OSError:
        pass  # without /dev/null the interpreter says once more that nobody reads


def to_the_right(cells: Sequence[Sequence[str]], *columns: int) -> list[list[str]]:
    """Return rows, the heads among them, whose cells in these columns end below each other."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        [cell.rjust(widths[n]) if n in columns and cell else cell for n, cell in enumerate(row)]
        for row in cells
    ]


def _plain(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    lines = [title]
    for row in (columns, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def _shown(text: str, stream: TextIO | None) -> str:
    r"""Return text that the stream can take and that stays on one line: "\x1b" for an escape."""
    return encodable(printable(text), stream)
