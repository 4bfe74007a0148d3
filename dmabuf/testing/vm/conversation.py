"""What the guest says: its kernel's log, the command's output, and how the command ended."""

import os
import re
import select
import selectors
import signal
import time
from collections.abc import Callable

from dmabuf.testing.vm.failure import GUEST_DIED, TIMED_OUT, Failure, Interrupted, QemuFailed
from dmabuf.testing.vm.machine import Running
from dmabuf.testing.vm.screen import Screen

LOG_LINES = 30
LOG_LINES_OF_A_FAULT = 150
FAULT = re.compile(r"\bBUG\b|\bOops\b|Kernel panic|Out of memory")
DRAIN_SECONDS = 20.0


class Stream:
    """One stream of the command, passed on as it comes, up to the token that ends it."""

    def __init__(self, target: int, token: bytes) -> None:
        self.ended = False
        self._target = target
        self._token = token
        self._held = b""

    def feed(self, data: bytes) -> None:
        """Pass on all but what may be the beginning of the token."""
        if self.ended:
            return
        data = self._held + data
        output, token, _ = data.partition(self._token)
        self.ended = bool(token)
        keep = 0 if token else _overlap(data, self._token)
        self._held = data[len(data) - keep :]
        write_all(self._target, output[: len(data) - keep])

    def flush(self) -> None:
        """Pass on what was held back: no token comes any more."""
        write_all(self._target, self._held)
        self._held = b""


class Conversation:
    """Listens to a running machine until the command's exit status is known."""

    def __init__(
        self, running: Running, token: str, screen: Screen | None, *, verbose: bool
    ) -> None:
        self._running = running
        self._verbose = verbose
        self._streams = [Stream(1, token.encode()), Stream(2, token.encode())]
        self._log = bytearray()
        self._control = b""
        self._booted = False
        self._status: int | None = None
        self._takers: dict[str, Callable[[bytes], None]] = {
            "serial": self._take_log,
            "control": self._take_control,
            "stdout": self._streams[0].feed,
            "stderr": self._streams[1].feed,
        }
        if screen:
            self._takers |= {"screendump": screen.requested, "monitor": screen.replied}

    def status(self, deadline: float) -> int:
        """Wait until ``deadline`` (monotonic) for the command's exit status."""
        with selectors.DefaultSelector() as selector:
            for name, take in self._takers.items():
                selector.register(self._running.channels[name], selectors.EVENT_READ, take)
            while self._status is None or not all(stream.ended for stream in self._streams):
                if not selector.get_map():
                    raise self._end()
                ready = selector.select(self._patience(deadline))
                if not ready:
                    raise self._silence()
                for key, _ in ready:
                    if data := _read(key.fd):
                        key.data(data)
                    else:
                        selector.unregister(key.fd)
        return self._status

    def _take_log(self, data: bytes) -> None:
        self._log += data
        if self._verbose:
            write_all(2, data)

    def _take_control(self, data: bytes) -> None:
        *lines, self._control = (self._control + data).split(b"\n")
        for word, _, value in (line.partition(b" ") for line in lines):
            if word == b"running":
                self._booted = True
            elif word == b"exited":
                self._status = int(value)

    def _patience(self, deadline: float) -> float:
        left = max(0.0, deadline - time.monotonic())
        return left if self._status is None else min(left, DRAIN_SECONDS)

    def _end(self) -> Failure:
        self._flush()
        code = self._running.process.wait()
        if code and not self._booted:
            return QemuFailed(f"QEMU ended with status {code}")
        if self._booted:
            how = f" (QEMU ended with status {code})" if code else ""
            return Failure(f"the guest died{how}; {self._log_end()}", GUEST_DIED)
        return Failure(f"the guest could not boot; {self._log_end()}")

    def _silence(self) -> Failure:
        self._flush()
        if self._status is not None:
            ended = f"the command ended with status {self._status}"
            return Failure(f"{ended}, but the end of its output was lost", GUEST_DIED)
        if self._booted:
            return Failure("the time ran out (--timeout)", TIMED_OUT)
        return Failure(
            f"the time ran out before the guest had booted; {self._log_end()}", TIMED_OUT
        )

    def _flush(self) -> None:
        for stream in self._streams:
            stream.flush()

    def _log_end(self) -> str:
        lines = self._log.decode(errors="replace").replace("\r", "").splitlines()
        if self._verbose or not lines:
            return "its kernel log is above" if lines else "its kernel log is empty"
        last = lines[-LOG_LINES_OF_A_FAULT:]
        fault = next((number for number, line in enumerate(last) if FAULT.search(line)), len(last))
        return "\n    ".join(
            ("its kernel log ends:", *last[max(0, min(fault, len(last) - LOG_LINES)) :])
        )


def write_all(target: int, data: bytes) -> None:
    """Write all of ``data``, also where somebody has made the descriptor non-blocking."""
    while data:
        try:
            data = data[os.write(target, data) :]
        except BlockingIOError:
            select.select([], [target], [])
        except BrokenPipeError:
            raise Interrupted(signal.SIGPIPE) from None


def _read(channel: int) -> bytes:
    try:
        return os.read(channel, 1 << 16)
    except ConnectionResetError:
        return b""


def _overlap(data: bytes, token: bytes) -> int:
    """The length of the longest end of ``data`` that the token begins with."""
    lengths = range(min(len(data), len(token) - 1), 0, -1)
    return next((length for length in lengths if data.endswith(token[:length])), 0)
