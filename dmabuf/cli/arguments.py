"""The command line: what may stand on it, and what each word must be."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

from dmabuf import __version__
from dmabuf.buffer import checked_name
from dmabuf.cli.console.failure import UsageError
from dmabuf.cli.console.size import parse_size

COMMANDS = ("check", "alloc", "list")
_WITH_VALUE = {"--heap", "--count", "--name", "--fill", "--fill-from", "--hold-for"}
_ALLOC_ALONE = _WITH_VALUE | {"--fill-pattern", "--verify", "--hold"}
_OPTION = re.compile(r"-(?![0-9.])")
_Value = TypeVar("_Value")

_DESCRIPTION = """\
Check, list and try what allocates dma-bufs on this machine.

  dmabuf-alloc [check]      which exporters and ioctls work, how fast, and what to do if none does
  dmabuf-alloc [alloc] SIZE allocate buffers, fill, verify and hold them
  dmabuf-alloc list         the heaps and udmabuf, without opening them
  dmabuf-alloc list --devices   and DRM and V4L2 devices: what each can do
"""
_EXAMPLES = """\
examples:
  dmabuf-alloc                                      what works here?
  dmabuf-alloc 64M                                  the best exporter's 64 MiB, released at once
  dmabuf-alloc 8M --count 4 --name cam --hold       cam-0 to cam-3, until Ctrl-C
  dmabuf-alloc 64M --fill-pattern --verify          does the memory keep what is written?
  dmabuf-alloc 1.5M --fill-from frame.raw --hold-for 10 --json
  dmabuf-alloc list --json

exit status: 0 done, 1 failed (check: no exporter works), 2 wrong usage, 130 interrupted
"""
_ALLOC_EXAMPLES = """\
SIZE is in bytes, or with K, M, G, T (or KiB, MiB ...): powers of 1024, and 1.5G will do. Memory
comes in whole pages and is zero unless filled. --verify holds it against what it was filled with,
or against zero.
"""


class Parser(argparse.ArgumentParser):
    """A parser that raises `UsageError` where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Raise it, on one line."""
        raise UsageError(f"{message}; see {self.prog} --help")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return the arguments of a command that comes first; UsageError if they make no sense."""
    arguments = _parser().parse_args(words)
    if arguments.command == "alloc" and arguments.name is not None:
        longest = buffer_name(arguments.name, arguments.count - 1, arguments.count)
        try:
            checked_name(longest)
        except ValueError as error:
            raise UsageError(str(error)) from None
    return arguments


def buffer_name(name: str, index: int, count: int) -> str:
    """Return what one of `count` buffers is called: NAME alone, or NAME-0 and so on."""
    return name if count == 1 else f"{name}-{index}"


def with_command(words: Sequence[str]) -> Sequence[str]:
    """Return the words with their command in front, `alloc` where only a size tells it."""
    position = _first_positional(words)
    if position is not None:
        word = words[position]
        if word in COMMANDS:
            return [word, *words[:position], *words[position + 1 :]]
        return ["alloc", *words]
    options = {word.split("=")[0] for word in words}
    if options & _ALLOC_ALONE:
        return ["alloc", *words]
    if options & {"-h", "--help", "--version"}:
        return words
    return ["check", *words]


def _first_positional(words: Sequence[str]) -> int | None:
    is_value = False
    for position, word in enumerate(words):
        if not is_value and not _OPTION.match(word):
            return position
        is_value = not is_value and word in _WITH_VALUE
    return None


def _parser() -> Parser:
    parser = Parser(
        prog="dmabuf-alloc",
        usage="%(prog)s [check | [alloc] SIZE | list [--devices]] [--json] [--help] [--version]",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"dmabuf {__version__}")
    _add_json(parser)
    commands = parser.add_subparsers(
        dest="command", prog=parser.prog, parser_class=Parser, help=argparse.SUPPRESS
    )
    for command, text in (
        ("check", "Try each exporter and each ioctl of this machine, and say what mends the rest."),
        ("alloc", "Allocate buffers, fill, verify and hold them."),
        ("list", "List the heaps and udmabuf, without opening them, or all devices."),
    ):
        sub = commands.add_parser(
            command,
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if command == "alloc":
            _add_alloc(sub)
        if command == "list":
            text = "open and list heaps, udmabuf, DRM and V4L2 devices, and what each can do"
            sub.add_argument("--devices", action="store_true", help=text)
        _add_json(sub)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document: docs/json.md")


def _add_alloc(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _ALLOC_EXAMPLES
    add = parser.add_argument
    add("size", metavar="SIZE", type=_typed(parse_size), help="bytes of each buffer, such as 64M")
    add("--heap", type=_typed(_heap), help="a heap's name or path, or udmabuf; else the best")
    add("--count", metavar="N", type=_typed(_count), default=1, help="how many buffers (1)")
    add(
        "--name",
        type=_typed(_name),
        help="the buffers' name, NAME-0 and so on if several; at most 31 bytes",
    )
    fill = parser.add_mutually_exclusive_group()
    fill.add_argument(
        "--fill", metavar="BYTE", type=_typed(_byte), help="fill with a byte, 0 to 255 or 0x.."
    )
    fill.add_argument(
        "--fill-pattern", action="store_true", help="fill with words that hold their own offset"
    )
    fill.add_argument(
        "--fill-from", metavar="FILE", help="fill with a file, then zeros; - is standard input"
    )
    add("--verify", action="store_true", help="read the memory back; exit 1 where it differs")
    hold = parser.add_mutually_exclusive_group()
    hold.add_argument(
        "--hold", action="store_true", help="keep the buffers until SIGINT or SIGTERM"
    )
    hold.add_argument(
        "--hold-for", metavar="SECONDS", type=_typed(_seconds), help="the same, with a time"
    )


def _typed(parse: Callable[[str], _Value]) -> Callable[[str], _Value]:
    """Keep a ValueError's own words, which argparse would replace."""

    def typed(text: str) -> _Value:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return typed


def _heap(text: str) -> str:
    if not text:
        raise ValueError("a heap's name can't be empty")
    return text


def _name(text: str) -> str:
    if not text:
        raise ValueError("a buffer's name can't be empty")
    return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise ValueError(f"{text!r} is no count; write a number from 1")
    return int(text)


def _byte(text: str) -> int:
    wrong = ValueError(f"{text!r} is no byte; write 0 to 255, or 0x00 to 0xff")
    if len(text) > 4:
        raise wrong
    try:
        byte = int(text, 16 if text[:2].lower() == "0x" else 10)
    except ValueError:
        raise wrong from None
    if byte not in range(256):
        raise wrong
    return byte


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= 1e9:
        raise ValueError(f"{text!r} is no time; write seconds, such as 10 or 0.5")
    return seconds
