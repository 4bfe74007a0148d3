"""Whether the running kernel knows dma-bufs, and what mends an exporter that does not work."""

from __future__ import annotations

import re
from typing import NamedTuple

from dmabuf.cli.console.failure import one_line

_EXPORT = re.compile(rb" dma_buf_export\s")


def has_dma_bufs() -> bool | None:
    """Return whether the running kernel knows dma-bufs at all; None if it doesn't tell."""
    try:
        with open("/proc/kallsyms", "rb") as symbols:
            return any(_EXPORT.search(line) for line in symbols)
    except OSError:
        return None


class Advice(NamedTuple):
    """Why an exporter does not work, and what to do about it."""

    error: str | None = None
    remedy: str | None = None


def advise(error: OSError | None) -> Advice:
    """Take an error's message apart: each has its remedy behind a semicolon."""
    if error is None:
        return Advice()
    reason, _, remedy = one_line(error).partition("; ")
    return Advice(reason, remedy or "look for its driver's messages in dmesg")
