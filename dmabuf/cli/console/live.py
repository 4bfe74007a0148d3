"""Going on until somebody says stop: signals, keys, and a picture that is drawn again and again.

Signals are noted and answered between two pieces of work: none raises, so that the terminal is
always given back as it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
import termios
from collections.abc import Iterator, Sequence
from types import FrameType, TracebackType

from dmabuf import _syspoll
from dmabuf.cli.console.output import Output, OutputError
from dmabuf.cli.console.text import encodable, lines_of_terminal

STOPS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
PAUSE, GO_ON, RESIZE = signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH
_ENTER = "\x1b[?1049h\x1b[?25l"  # the other screen, without a cursor
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"
_ESCAPE = b"\x1b"


def can_draw() -> bool:
    """Whether standard output is a terminal that can be drawn on."""
    has_screen = sys.stdout is not None and sys.stdout.isatty()
    return has_screen and os.environ.get("TERM", "dumb") != "dumb"


class Signals:
    """Notes the signals that come in the `with`; those that were ignored before stay ignored."""

    def __init__(self, output: Output, *wanted: signal.Signals) -> None:
        self._output = output
        self._wanted = (*STOPS, *wanted)

    def __enter__(self) -> Signals:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._before = {
            number: signal.signal(number, _noted)
            for number in self._wanted
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._reader)
        os.close(self._writer)

    def wait(self, seconds: float | None, *others: int) -> tuple[set[int], list[int]]:
        """Wait for a signal, or until one of other descriptors can be read, or for a time.

        Return the signals that came, and those that can be read. OutputError if nobody reads what
        is printed any more.
        """
        poll = _syspoll.poll()
        reader = self._output.reader()
        if reader is not None:
            poll.register(reader, 0)  # that it is gone is told unasked
        for number in (self._reader, *others):
            poll.register(number, select.POLLIN)
        readable = [number for number, _ in poll.poll(None if seconds is None else seconds * 1000)]
        if reader in readable:
            raise OutputError(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
        came = set()
        if self._reader in readable:
            readable.remove(self._reader)
            came = set(os.read(self._reader, 4096))
        return came, readable

    def pause(self) -> None:
        """Stop this process, as Ctrl-Z does, until somebody has it go on."""
        signal.signal(PAUSE, signal.SIG_DFL)
        os.kill(os.getpid(), PAUSE)
        signal.signal(PAUSE, _noted)


def _noted(number: int, frame: FrameType | None) -> None:
    """Do nothing: the interpreter has written the signal's number into the pipe."""


class Screen:
    """The terminal's other screen, and its keys, in a `with`."""

    def __init__(self) -> None:
        self._keyboard: int | None = None
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if sys.stdin.isatty():
                self._keyboard = sys.stdin.fileno()
        self._settings: list[object] | None = None

    def __enter__(self) -> Screen:
        try:
            self._save()
            self.enter()
        except BaseException:
            self.leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    def enter(self) -> None:
        """Take the terminal, also once more after somebody else had it."""
        if self._keyboard is not None and self._settings is not None:
            settings = list(self._settings)
            settings[3] &= ~(termios.ICANON | termios.ECHO)  # type: ignore[operator]
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._keyboard, termios.TCSANOW, settings)  # type: ignore[arg-type]
        self._write(_ENTER)

    def leave(self) -> None:
        """Give the terminal back as it was."""
        with contextlib.suppress(OutputError):
            self._write(_LEAVE)
        if self._keyboard is not None and self._settings is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._keyboard, termios.TCSANOW, self._settings)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def left(self) -> Iterator[None]:
        """Give the terminal back while the `with` lasts."""
        self.leave()
        try:
            yield
        finally:
            self._save()
            self.enter()

    def draw(self, lines: Sequence[str]) -> None:
        """Show lines, as many as there is room for, in place of those before."""
        ended = [f"{encodable(line, sys.stdout)}{_END_OF_LINE}" for line in lines[: self.height]]
        self._write(_HOME + "\r\n".join(ended) + _REST)

    @property
    def height(self) -> int:
        """How many lines there is room for."""
        return lines_of_terminal()

    @property
    def keyboard(self) -> tuple[int, ...]:
        """The descriptor that keys come from, if any do."""
        return () if self._keyboard is None else (self._keyboard,)

    def keys(self) -> str:
        """Return the keys that were pressed; those without a letter are left out."""
        assert self._keyboard is not None
        try:
            pressed = os.read(self._keyboard, 1024)
        except OSError:
            pressed = b""
        if not pressed:  # the terminal is gone, or somebody ended its input
            self._keyboard = None
        return pressed.partition(_ESCAPE)[0].decode("ascii", "ignore")

    def _save(self) -> None:
        if self._keyboard is not None:
            try:
                self._settings = termios.tcgetattr(self._keyboard)
            except termios.error:
                self._keyboard = None

    def _write(self, text: str) -> None:
        data = text.encode(sys.stdout.encoding or "utf-8")
        try:
            while data:
                data = data[os.write(sys.stdout.fileno(), data) :]
        except OSError as error:
            raise OutputError(error) from None
