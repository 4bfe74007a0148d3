"""Threads whose outcome is looked at."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from helpers.fences import POLL, asleep_in


class Thread(threading.Thread):
    """A thread that keeps what its function returned or raised."""

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self.outcome: Any = None
        self.start()

    def run(self) -> None:
        """Run it."""
        try:
            self.outcome = self._function()
        except Exception as error:
            self.outcome = error

    def sleep(self) -> Thread:
        """Wait until the thread sleeps in poll(2)."""
        while not asleep_in(self.native_id, POLL):
            self.join(0.001)
            assert self.is_alive(), self.outcome
        return self

    def end(self) -> Any:
        """Wait for its end, and return the outcome."""
        self.join(30)
        assert not self.is_alive()
        return self.outcome
