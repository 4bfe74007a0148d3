"""Waiting with the buffers in hand until somebody says stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_STOP = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Keep SIGINT and SIGTERM for `wait_for_stop`, from before anybody is told to send one.

    Those that come later, such as a second Ctrl-C, have nothing left to stop and are dropped.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
    try:
        yield
    finally:
        while signal.sigtimedwait(_STOP, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_stop_asked() -> bool:
    """Return whether SIGINT or SIGTERM has come, once for each, while they are blocked."""
    return signal.sigtimedwait(_STOP, 0) is not None


def wait_for_stop(seconds: float | None) -> None:
    """Wait for SIGINT, SIGTERM or the time; None is for ever."""
    if seconds is None:
        signal.sigwaitinfo(_STOP)
    else:
        signal.sigtimedwait(_STOP, seconds)
