"""DRM devices of the machine, by what they can do."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import dmabuf
from dmabuf.devices.drm import Device
from dmabuf.devices.kms import Display

BUFINFO = Path("/sys/kernel/debug/dma_buf/bufinfo")


def attached(buffer: dmabuf.Buffer) -> list[str]:
    """Return the devices that bufinfo shows attached to a buffer."""
    lines = iter(BUFINFO.read_text(errors="replace").splitlines())
    for line in lines:
        if f"\t{buffer.inode:08}\t" in line:
            break
    for line in lines:
        if "Attached Devices:" in line:
            break
    return [line.strip() for line in itertools.takewhile(lambda line: "Total" not in line, lines)]


def display() -> str:
    """Return the path of a display that imports buffers."""
    with Display() as display:
        return display.path


def node(capability: str) -> str | None:
    """Return the path of the first primary node with a capability, None where there is none."""
    for path in sorted(Path("/dev/dri").glob("card*")):
        with contextlib.suppress(OSError), Device(path) as device:
            if getattr(device.capabilities(), capability):
                return str(path)
    return None


def find(driver: str) -> str | None:
    """Return the path of the first primary node of a driver, None where there is none."""
    for path in sorted(Path("/dev/dri").glob("card*")):
        with contextlib.suppress(OSError), Device(path) as device:
            if device.driver == driver:
                return str(path)
    return None


@contextlib.contextmanager
def unplugged(path: str) -> Iterator[None]:
    """Have a device gone in the block, by its driver, and come back with a node of any number."""
    device = Path("/sys/class/drm", os.path.basename(path), "device").resolve()
    driver = (device / "driver").resolve()
    (driver / "unbind").write_text(device.name)
    try:
        yield
    finally:
        (driver / "bind").write_text(device.name)
