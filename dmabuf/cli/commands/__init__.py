"""The subcommands, one module each.

A module has what `Command` lists, and its name stands in `NAMES`: nothing else knows it.
`dmabuf-alloc --help` imports them all, so what takes long to import is imported inside `run`.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Protocol, cast

from dmabuf.cli.console.output import Output

NAMES = (
    "check",
    "alloc",
    "list",
    "ps",
    "top",
    "watch",
    "diff",
    "graph",
    "send",
    "receive",
    "bench",
    "stress",
    "completion",
)
"""The modules, in the order in which help lists them."""
WITHOUT_WORDS = "check"
"""What `dmabuf-alloc` alone means."""
WITHOUT_NAME = "alloc"
"""What a size without a subcommand's name means."""


class Command(Protocol):
    """A subcommand's module."""

    SUMMARY: str
    """What it does, in one line."""

    EXAMPLES: tuple[tuple[str, str], ...]
    """The words behind `dmabuf-alloc`, and what they do; the first stands in the common help."""

    def add(self, parser: argparse.ArgumentParser) -> None:
        """Declare its own arguments."""

    def run(self, arguments: argparse.Namespace, output: Output) -> None:
        """Do it; Failure if it can't be done."""


def load(name: str) -> Command:
    """Return a subcommand's module."""
    return cast(Command, import_module(f"{__name__}.{name}"))
