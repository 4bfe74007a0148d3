"""How many frames there were, how fast they came, and how many were missed."""

from __future__ import annotations

import time


class Meter:
    """Counts frames; the first one starts the clock."""

    def __init__(self) -> None:
        self.frames = 0
        """How many there were."""
        self.dropped = 0
        """How many were missed between them."""
        self._restarts = True
        self._began = self._last = 0.0
        self._intervals = 0

    def count(self, dropped: int = 0) -> None:
        """Count a frame, and those that were missed since the one before."""
        self._last = time.monotonic()
        self.frames += 1
        if self._restarts:
            self._began, self._intervals, self._restarts = self._last, 0, False
        else:
            self._intervals += 1
            self.dropped += dropped

    def restart(self) -> None:
        """Have the next frame start the clock again, since the one before has taken its time."""
        self._restarts = True

    @property
    def seconds(self) -> float:
        """The time from the frame that started the clock to the last one."""
        return self._last - self._began

    @property
    def rate(self) -> float | None:
        """Frames per second; None of a single one."""
        return self._intervals / self.seconds if self._intervals and self.seconds else None

    def __str__(self) -> str:
        told = "1 frame" if self.frames == 1 else f"{self.frames} frames"
        if self.rate is not None:
            told += f", {self.rate:.1f} frames per second"
        return f"{told}, {self.dropped} dropped"

    def document(self) -> dict[str, object]:
        """Return its fields of the JSON."""
        return {
            "frames": self.frames,
            "dropped": self.dropped,
            "seconds": round(self.seconds, 6),
            "frames_per_second": self.rate and round(self.rate, 3),
        }
