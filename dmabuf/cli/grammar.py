"""The command's words as data, taken from its parsers: for completion and the manual page."""

from __future__ import annotations

import argparse
from typing import NamedTuple

from dmabuf.cli.arguments import Parser, common_parser, parser_of
from dmabuf.cli.commands import NAMES, load


class Word(NamedTuple):
    """An option, or an argument without a name."""

    names: tuple[str, ...]
    """`-h` and `--help`; empty for an argument."""
    value: str | None
    """What stands for its value in help, such as FILE, HEAP or N; None if it takes none."""
    choices: tuple[str, ...]
    """The values that it can have; empty if that is open."""
    words: str
    """Its help."""
    repeats: bool
    """Whether it may come several times."""
    required: bool
    """Whether it may not be left out."""


class Grammar(NamedTuple):
    """What one subcommand takes, or all of them."""

    name: str
    """Empty for all of them."""
    summary: str
    options: tuple[Word, ...]
    arguments: tuple[Word, ...]
    notes: str
    """What its help has below the options, the examples among them."""


def common() -> Grammar:
    """Return what may stand before a subcommand's name."""
    return _grammar("", common_parser())


def subcommands() -> list[Grammar]:
    """Return each subcommand's, in the order of help."""
    return [_grammar(name, parser_of(name, load(name))) for name in NAMES]


def _grammar(name: str, parser: Parser) -> Grammar:
    words = [word(action) for action in parser.declared()]
    return Grammar(
        name,
        parser.description or "",
        tuple(one for one in words if one.names),
        tuple(one for one in words if not one.names),
        parser.epilog or "",
    )


def word(action: argparse.Action) -> Word:
    """Return what a parser has declared."""
    value = None
    if action.nargs != 0:
        metavar = action.metavar if isinstance(action.metavar, str) else None
        value = metavar or action.dest.upper()
    return Word(
        tuple(action.option_strings),
        value,
        tuple(map(str, action.choices or ())),
        (action.help or "").replace("%%", "%"),
        isinstance(action, argparse._AppendAction) or action.nargs in ("*", "+"),
        action.required,
    )
