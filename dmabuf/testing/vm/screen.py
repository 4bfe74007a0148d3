"""Pictures of the guest's screen.

The command in the guest opens the port that ``DMABUF_VM_SCREENDUMP`` names for reading and
writing, writes ``NAME.png`` and a newline, and reads one line: ``ok`` once the picture of what the
display shows lies in the folder ``DMABUF_VM_OUT``, else ``error:`` and the cause. For example::

    exec 9<>"$DMABUF_VM_SCREENDUMP"; echo test.png >&9; read -r answer <&9
"""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dmabuf.testing.vm.kernel import Kernel

ID = "display"
PORT = "/dev/virtio-ports/screendump"


class Display(NamedTuple):
    """A device of QEMU's and its driver in the guest."""

    device: str
    driver: str


def displays(kernel: Kernel, *, display: bool, gpu: bool) -> list[Display]:
    """The displays that are asked for: the one that pictures are taken of is named ``ID``."""
    wanted = []
    if display and kernel.major >= 7:
        wanted.append(Display(f"bochs-display,id={ID}", "bochs"))
    elif display:
        names = ("cirrus_qemu", "cirrus")  # the newer name first
        driver = next((name for name in names if kernel.has(name)), names[-1])
        wanted.append(Display(f"cirrus-vga,id={ID}", driver))
    if gpu:
        wanted.append(Display("virtio-gpu-pci", "virtio_gpu"))
    return wanted


def vga(displays: Iterable[Display]) -> str:
    """The first that is a VGA card, which wants a BIOS; empty if none is."""
    return next((display.device for display in displays if "-vga" in display.device), "")


class Screen:
    """Passes requests from the guest's port to QEMU's monitor (QMP), and the answers back."""

    def __init__(self, channels: Mapping[str, int], out: Path) -> None:
        self._port = channels["screendump"]
        self._monitor = channels["monitor"]
        self._out = out
        self._requests = b""
        self._replies = b""
        self._execute("qmp_capabilities", "start")

    def requested(self, data: bytes) -> None:
        """Take what the guest wrote to the port."""
        *lines, self._requests = (self._requests + data).split(b"\n")
        for line in lines:
            name = os.fsdecode(line)
            if re.fullmatch(r"[\w.+-]+\.png", name):
                file = str(self._out / name)
                picture = {"filename": file, "format": "png", "device": ID}
                self._execute("screendump", "picture", **picture)
            else:
                self._answer(f"error: {name!r} is not a plain file name that ends in .png")

    def replied(self, data: bytes) -> None:
        """Take what the monitor wrote."""
        *lines, self._replies = (self._replies + data).split(b"\n")
        for reply in map(json.loads, lines):
            if reply.get("id") == "picture":
                error = reply.get("error")
                self._answer(f"error: {error['desc']}" if error else "ok")

    def _execute(self, command: str, label: str, **arguments: Any) -> None:
        message = {"execute": command, "id": label, "arguments": arguments}
        _send(self._monitor, json.dumps(message).encode())

    def _answer(self, line: str) -> None:
        _send(self._port, line.encode() + b"\n")


def _send(channel: int, data: bytes) -> None:
    # A machine that has just ended shows itself where the channels are read.
    with contextlib.suppress(BrokenPipeError):
        os.write(channel, data)
