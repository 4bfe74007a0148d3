"""DRM devices of the machine, by what they can do."""

from __future__ import annotations

import contextlib
from pathlib import Path

from dmabuf.devices.drm import Device


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
