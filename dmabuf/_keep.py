"""Where the result of a system call is, before a signal handler that raises can lose it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import starmap
from typing import Any


def keep(made: list[Any], call: Callable[..., Any], *arguments: Any) -> None:
    """Add to a list what a function of C returns, before a signal handler can run."""
    made.extend(starmap(call, (arguments,)))
