"""Where the result of a system call is, before a signal handler that raises can lose it."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import starmap
from typing import Any

from dmabuf.errors import os_error


def keep(made: list[Any], call: Callable[..., Any], *arguments: Any) -> None:
    """Add to a list what a function of C returns, before a signal handler can run.

    An OSError that says nothing but its errno gets the function's name.
    """
    try:
        made.extend(starmap(call, (arguments,)))
    except OSError as error:
        number = error.errno
        if number is None or error.filename is not None or error.strerror != os.strerror(number):
            raise
        raise os_error(number, getattr(call, "__name__", "a system call")) from None
