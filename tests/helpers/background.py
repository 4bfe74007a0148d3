"""Programs of ours in processes of their own: what they print, line by line, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from helpers.process import reset_signals

ROOT = Path(__file__).parent.parent.parent


class Program:
    """A running program, which is killed at the end of `with` if it hasn't ended."""

    def __init__(self, *words: str, stderr: int = subprocess.PIPE) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            preexec_fn=reset_signals,
        )
        self.pid = self._process.pid
        self.printed = ""

    def wait_for(self, text: str) -> str:
        """Return the line that has this text, once it is printed."""
        while line := self._process.stdout.readline():
            self.printed += line
            if text in line:
                return line
        _, errors = self._process.communicate()
        raise AssertionError(f"{text!r} was not printed, but {self.printed}{errors}")

    @property
    def has_ended(self) -> bool:
        """Whether it has ended by itself, or by a signal."""
        return self._process.poll() is not None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return its status, all that it printed, and its errors."""
        out, errors = self._process.communicate()
        self.printed += out
        return self._process.returncode, self.printed, errors

    def stop(self) -> tuple[int, str, str]:
        """Press Ctrl-C, and wait for its end."""
        self.signal(signal.SIGINT)
        return self.end()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.has_ended:
            self._process.kill()
        with self._process:
            pass


def command(*words: str | os.PathLike[str], stderr: int = subprocess.PIPE) -> Program:
    """Return `dmabuf-alloc` with these words."""
    return Program("-m", "dmabuf", *map(str, words), stderr=stderr)


def example(name: str, *words: str | os.PathLike[str]) -> Program:
    """Return a program of examples/."""
    return Program(str(ROOT / "examples" / name), *map(str, words))
