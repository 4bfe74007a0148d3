"""Text of others on a terminal: without its escape sequences, as wide as there is room."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from typing import TextIO

_WIDE = "WF"  # East Asian letters, emoji
_CUT, _CUT_ASCII = "…", "~"


def printable(text: str) -> str:
    r"""Return text that stays on one line and says nothing to a terminal: "\x1b" for an escape."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def encodable(text: str, stream: TextIO | None) -> str:
    r"""Return text that a stream's encoding has: "\u2026" for what it lacks."""
    encoding = encoding_of(stream)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def encoding_of(stream: TextIO | None) -> str:
    """Return the encoding of a stream."""
    return getattr(stream, "encoding", None) or "utf-8"


def can_encode(text: str, stream: TextIO | None) -> bool:
    """Whether a stream's encoding has all of a text."""
    try:
        text.encode(encoding_of(stream))
    except UnicodeEncodeError:
        return False
    return True


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1


def cut(text: str, width: int, mark: str = _CUT) -> str:
    """Return a text that takes at most `width` columns, with a mark where something is missing."""
    if columns_of(text) <= width:
        return text
    kept, room = [], width - len(mark)
    for character in text:
        room -= _columns(character)
        if room < 0:
            break
        kept.append(character)
    return ("".join(kept) + mark)[: max(width, 0)]


def left(text: str, width: int) -> str:
    """Return a text with blanks behind it."""
    return text + " " * (width - columns_of(text))


def right(text: str, width: int) -> str:
    """Return a text with blanks before it."""
    return " " * (width - columns_of(text)) + text


class Page:
    """How wide the lines of standard output may be, and in which letters."""

    def __init__(self, *, wide: bool = False) -> None:
        """With `wide` lines are not cut on a terminal either."""
        stream = sys.stdout
        on_terminal = stream is not None and stream.isatty()
        self.width = shutil.get_terminal_size().columns if on_terminal and not wide else None
        """None where nothing is cut: in a pipe, a file, and if asked for."""
        self.mark = _CUT if can_encode(_CUT, stream) else _CUT_ASCII

    def show(self, text: str) -> str:
        """Return a name of somebody else's as it may be shown."""
        return encodable(printable(text), sys.stdout)

    def cut(self, line: str) -> str:
        """Return a line that fits."""
        return line if self.width is None else cut(line, self.width, self.mark).rstrip()


def lines_of_terminal() -> int:
    """Return how many lines the terminal of standard output has."""
    return os.get_terminal_size(sys.stdout.fileno()).lines or 24
