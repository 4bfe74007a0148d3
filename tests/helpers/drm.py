"""DRM devices of the machine, by what they can do."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import dmabuf
from dmabuf.devices.drm import Device, _ioctl, inspect

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


def claimed(device: Device) -> list[int]:
    """Return the handles of a device's buffers that have an owner."""
    return device._handles.claimed(_ioctl.gem_close)


def framebuffers(device: Device) -> int:
    """Return how many framebuffers the kernel has of a device."""
    minor = os.path.basename(device.path).removeprefix("card")
    text = Path(f"/sys/kernel/debug/dri/{minor}/framebuffer").read_text()
    return text.count("framebuffer[")


def pluggable() -> str:
    """Return the path of a display that imports buffers and has a driver that lets go of it."""
    for path in sorted(Path("/dev/dri").glob("card*")):
        info = inspect(path)
        if info.display and info.imports and _bound(path).name != "driver":
            return str(path)
    raise AssertionError("no display here that can be unplugged")


def _bound(path: str | Path) -> Path:
    """Return a device's driver in sysfs."""
    return (Path("/sys/class/drm") / os.path.basename(path) / "device/driver").resolve()


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
    driver = _bound(path)
    (driver / "unbind").write_text(device.name)
    try:
        yield
    finally:
        (driver / "bind").write_text(device.name)
