"""The package's exceptions, and the one way an `OSError` is made from an errno."""

from __future__ import annotations

import os
from collections.abc import Sequence


class UnsupportedError(OSError):
    """The running kernel lacks what was asked; the message names what version or option has it."""


class AllocationError(OSError):
    """Memory could not be had.

    `attempts` holds the error of each exporter that was tried, in order; it is empty when only one
    was asked.
    """

    def __init__(self, number: int, message: str, attempts: Sequence[OSError] = ()) -> None:
        super().__init__(number, message)
        self.attempts = tuple(attempts)


class RefusedError(OSError, ValueError):
    """The kernel would refuse this with a bare errno; the message says why, before it is asked."""


class NotADmaBufError(ValueError):
    """The descriptor belongs to something else than a dma-buf. It is left open."""


class NotASyncFileError(ValueError):
    """The descriptor belongs to something else than a sync_file. It is left open."""


def os_error(number: int, what: str) -> OSError:
    """Return the `OSError` subclass for an errno, saying what was tried and what to do."""
    return OSError(number, f"{os.strerror(number)}: {what}")
