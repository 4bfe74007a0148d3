"""The command line: which subcommand it means, and what all subcommands share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from dmabuf import __version__
from dmabuf.cli.commands import NAMES, WITHOUT_NAME, WITHOUT_WORDS, Command, load
from dmabuf.cli.console.failure import Asked, UsageError

PROGRAM = "dmabuf-alloc"
_HELP = "help"
_USAGE = "%(prog)s [COMMAND] [option...]\n       %(prog)s SIZE [option...]"
_EPILOG = """\
environment: DMABUF_LOG=debug has the effect of --debug
exit status: 0 done, 1 failed or output closed, 2 wrong usage, 130 interrupted
"""
_OPTION = re.compile(r"-(?![0-9.])")
_COMMAND_LIKE = re.compile(r"[^0-9.+-]")


class Parser(argparse.ArgumentParser):
    """A parser that raises where argparse would print and exit."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, on one line."""
        raise UsageError(f"{message}{self._near(message)}; see {self.prog} --help")

    def _near(self, message: str) -> str:
        """Return which option was meant, if one is unknown and like another."""
        _, unknown, words = message.partition("unrecognized arguments: ")
        option = words.split(" ")[0].split("=")[0]
        if not unknown or not option.startswith("--"):
            return ""
        return _did_you_mean(option, set(self._option_string_actions) - {"--help"})

    def print_help(self, file: Any = None) -> NoReturn:
        """Raise the text instead, which goes where every answer goes."""
        raise Asked(self.format_help())

    def has(self, option: str) -> bool:
        """Return whether this is one of its options."""
        return option in self._option_string_actions

    def takes_value(self, option: str) -> bool:
        """Return whether the word behind this option belongs to it."""
        return self.has(option) and self._option_string_actions[option].nargs != 0

    def declared(self) -> list[argparse.Action]:
        """Return its options and arguments, those without a help of their own left out."""
        return [action for action in self._actions if action.help != argparse.SUPPRESS]


def parse(name: str, command: Command, words: Sequence[str]) -> argparse.Namespace:
    """Return a subcommand's arguments; UsageError if they make no sense."""
    return parser_of(name, command).parse_args(words)


def split(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return which subcommand is meant, and the words without its name.

    Options may stand before the name: those that all subcommands share, and those of the one whose
    name may be left out.
    """
    if words and words[0] in NAMES and words[0] != WITHOUT_NAME:
        return words[0], words[1:]
    unnamed = parser_of(WITHOUT_NAME, load(WITHOUT_NAME))
    if words and words[0] == WITHOUT_NAME:
        rest = words[1:]
        position = _first_positional(rest, unnamed)
        if position is not None and _COMMAND_LIKE.match(rest[position]):
            _refuse(rest, position, unnamed)
        return WITHOUT_NAME, rest
    position = _first_positional(words, unnamed)
    if position is not None:
        word = words[position]
        if word in NAMES:
            return word, [*words[:position], *words[position + 1 :]]
        if word == _HELP:
            raise Asked(_help(words[position + 1 :]))
        if _COMMAND_LIKE.match(word):
            _refuse(words, position, unnamed)
        return WITHOUT_NAME, words
    options = {word.split("=")[0] for word in words}
    shared = _shared()
    if any(unnamed.has(option) and not shared.has(option) for option in options):
        return WITHOUT_NAME, words
    if options & {"-h", "--help"}:
        raise Asked(common_parser().format_help())
    if "--version" in options:
        raise Asked(f"dmabuf {__version__}\n", {"version": __version__})
    unknown = [word for word in words if not shared.has(word.split("=")[0])]
    if unknown:
        common_parser().error(f"unrecognized arguments: {' '.join(unknown)}")
    return WITHOUT_WORDS, words


def _first_positional(words: Sequence[str], parser: Parser) -> int | None:
    is_value = False
    for position, word in enumerate(words):
        if not is_value and not _OPTION.match(word):
            return position
        is_value = not is_value and parser.takes_value(word)
    return None


def _refuse(words: Sequence[str], position: int, parser: Parser) -> NoReturn:
    """Raise UsageError for a word that is no size: it may be the value of an unknown option."""
    for word in words[:position]:
        if _OPTION.match(word) and not parser.has(word.split("=")[0]):
            parser.error(f"unrecognized arguments: {word}")
    raise _unknown(words[position])


def _help(words: Sequence[str]) -> str:
    """Return the help of the subcommand that is named, or the whole command's."""
    name = next((word for word in words if not _OPTION.match(word)), None)
    if name is None:
        return common_parser().format_help()
    if name not in NAMES:
        raise _unknown(name)
    return parser_of(name, load(name)).format_help()


def _unknown(word: str) -> UsageError:
    if word in NAMES:
        return UsageError(f"{word!r} is a command, not a size; write {PROGRAM} {word} alone")
    names = ", ".join(NAMES)
    near = _did_you_mean(word.lower(), NAMES)
    return UsageError(f"{word!r} is neither a size nor a command ({names}){near}")


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _shared(**options: Any) -> Parser:
    """Return a parser of what every subcommand takes."""
    parser = Parser(
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document: docs/json.md")
    parser.add_argument(
        "--debug",
        action="store_true",
        help="show each ioctl on standard error",
    )
    return parser


def parser_of(name: str, command: Command) -> Parser:
    """Return a subcommand's parser."""
    parser = _shared(prog=f"{PROGRAM} {name}", description=command.SUMMARY)
    command.add(parser)
    examples = _examples(command.EXAMPLES)
    parser.epilog = examples if parser.epilog is None else f"{parser.epilog}\n{examples}"
    return parser


def common_parser() -> Parser:
    """Return the parser of the whole command's help, each subcommand in its module's own words."""
    modules = {name: load(name) for name in NAMES}
    width = max(map(len, NAMES))
    summaries = [f"  {name.ljust(width)}  {module.SUMMARY}" for name, module in modules.items()]
    first = [module.EXAMPLES[0] for module in modules.values()]
    description = "\n".join(
        [
            "Check what allocates dma-bufs on this machine; allocate, share and watch them.",
            "",
            f"commands (default: {WITHOUT_WORDS}; {WITHOUT_NAME} if a size is given):",
            *summaries,
            "",
            f"{PROGRAM} help COMMAND, or COMMAND --help, shows more.",
        ]
    )
    epilog = f"{_examples(first)}\n{_EPILOG}"
    parser = _shared(prog=PROGRAM, usage=_USAGE, description=description, epilog=epilog)
    parser.add_argument("--version", action="store_true", help="show the version of this package")
    return parser


def _examples(examples: Sequence[tuple[str, str]]) -> str:
    """Return command lines with what each does behind it."""
    lines = [f"{PROGRAM} {words}".rstrip() for words, _ in examples]
    width = max(map(len, lines))
    told = [
        f"  {line.ljust(width)}  {what}\n" for line, (_, what) in zip(lines, examples, strict=True)
    ]
    return "".join(["examples:\n", *told])
