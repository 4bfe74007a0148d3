"""Weston without a screen: a compositor of Debian's, and what it shows."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy

WIDTH, HEIGHT = 320, 240
"""The size of its output, which the one window fills."""


class Weston:
    """A running compositor, at a socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "wayland-test"
        self.log = folder / "weston.log"
        self.environment = {
            **os.environ,
            "XDG_RUNTIME_DIR": str(folder),
            "WAYLAND_DISPLAY": self.socket.name,
            "MESA_SHADER_CACHE_DISABLE": "true",
        }
        """Of a program in this desktop's session."""
        words = ("--backend=headless", "--renderer=gl", "--shell=kiosk", "--debug", "--no-config")
        size = (f"--width={WIDTH}", f"--height={HEIGHT}")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ("weston", *words, *size, "--idle-time=0", f"--socket={self.socket.name}"),
                env={**self.environment, "WAYLAND_DISPLAY": ""},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self) -> None:
        """Wait until clients can connect, which is later than that the socket is there."""
        with socket.socket(socket.AF_UNIX) as client:
            while client.connect_ex(str(self.socket)):
                self.require_alive()
                time.sleep(0.02)

    def require_alive(self) -> None:
        """Fail with what it has said last, and the kernel of it, if it has ended by itself."""
        status = self.process.poll()
        if status is not None:
            how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            kernel = subprocess.run(("dmesg",), capture_output=True, text=True).stdout
            last = "\n".join((*self.log.read_text().splitlines()[-30:], *kernel.splitlines()[-15:]))
            raise AssertionError(f"weston has ended by itself: {how}\n{last}")

    def screenshot(self) -> numpy.ndarray:
        """Return the picture on the screen, as (height, width, 3) of bytes."""
        from PIL import Image

        words = ["weston-screenshooter"]
        subprocess.run(words, env=self.environment, cwd=self.folder, check=True, timeout=60)
        (file,) = self.folder.glob("wayland-screenshot-*.png")
        with Image.open(file) as picture:
            pixels = numpy.asarray(picture.convert("RGB"))
        file.unlink()
        return pixels

    def kill(self) -> None:
        """End it, as a crash would."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def weston(folder: Path) -> Iterator[Weston]:
    """Give a compositor that clients can connect to; it is killed at the end."""
    folder.chmod(0o700)
    compositor = Weston(folder)
    try:
        compositor.wait_until_ready()
        yield compositor
    finally:
        compositor.kill()
