"""dmabuf-alloc as its user runs it: in a pipe, and on a terminal of any width."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from helpers.process import reset_signals

COMMAND = (sys.executable, "-m", "dmabuf")
_PATIENCE = 60.0


def run_command(
    *words: str, text: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run it in pipes, `text` on its standard input."""
    return subprocess.run(
        [*COMMAND, *words],
        input=text or "",
        capture_output=True,
        text=True,
        env=os.environ | environment,
        preexec_fn=reset_signals,
        check=False,
    )


class Terminal:
    """The command on a terminal of its own, which is all of its streams."""

    def __init__(
        self,
        *words: str,
        columns: int = 80,
        lines: int = 24,
        command: Sequence[str] = COMMAND,
        **environment: str,
    ) -> None:
        self._master, slave = os.openpty()
        self.resize(columns, lines)
        self.settings = termios.tcgetattr(slave)
        """What the terminal is set to before the command has it."""
        kept = {name: one for name, one in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.shown = b""
        """All that was written so far."""
        self._process = subprocess.Popen(
            [*command, *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=kept | {"TERM": "xterm"} | environment,
            preexec_fn=_own_terminal,
        )
        self._slave = slave

    @property
    def pid(self) -> int:
        """The number of the command's process."""
        return self._process.pid

    def settings_now(self) -> list[object]:
        """Return what the terminal is set to."""
        return termios.tcgetattr(self._slave)

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def resize(self, columns: int, lines: int = 24) -> None:
        """Give the terminal another size; the kernel tells the command."""
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def send(self, number: signal.Signals) -> None:
        """Send the command a signal."""
        self._process.send_signal(number)

    def read_until(self, there: Callable[[bytes], bool]) -> bytes:
        """Read until what was written in all is as wanted, and return it."""
        end = time.monotonic() + _PATIENCE
        while not there(self.shown):
            assert time.monotonic() < end, self.shown
            self._read(0.2)
        return self.shown

    def wait(self) -> tuple[int, str]:
        """Return its exit status, and all that it wrote."""
        end = time.monotonic() + _PATIENCE
        while self._process.poll() is None:
            assert time.monotonic() < end, self.shown
            self._read(0.05)
        while self._read(0):
            pass
        return self._process.returncode, self.shown.decode()

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        self.shown += os.read(self._master, 1 << 16)
        return True

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._slave)
        os.close(self._master)


def _own_terminal() -> None:
    reset_signals()
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def on_terminal(*words: str, columns: int = 80, **environment: str) -> tuple[int, list[str]]:
    """Run it to its end on a terminal; return its status and the lines that it wrote."""
    with Terminal(*words, columns=columns, **environment) as terminal:
        status, shown = terminal.wait()
    return status, shown.replace("\r\n", "\n").splitlines()
