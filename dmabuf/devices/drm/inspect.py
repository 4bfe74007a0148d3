"""What a DRM node says of itself, and what it does when it is tried."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from dmabuf._record import record
from dmabuf.devices.drm.gem import Device, sibling
from dmabuf.exporters import allocate

_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


@record
class DrmInfo(NamedTuple):
    """What a node says of itself. What it can't be asked is None."""

    path: str
    """The node."""
    driver: str | None
    """The kernel's name of the driver."""
    imports: bool | None
    """Whether it takes buffers of others: tried, where there is a heap or udmabuf to try with."""
    exports: bool | None
    """Whether it gives its own as buffers."""
    display: bool
    """Whether it has connectors."""
    dumb: bool | None
    """Whether this node makes buffers that the processor draws: a render node makes none."""
    syncobj: bool | None
    """Whether it has sync objects."""
    timeline: bool | None
    """Whether they have timelines."""


def inspect(path: str | os.PathLike[str]) -> DrmInfo:
    """Open a node, ask and close it; OSError, with the path, if it can't be opened.

    A page of memory is imported on trial, since some drivers say that they import and then take
    their own buffers alone.
    """
    with Device(path) as device:
        can = device.capabilities()
        return DrmInfo(
            device.path,
            device.driver,
            can.imports and _imports(device),
            can.exports,
            has_connectors(path),
            can.dumb,
            can.syncobj,
            can.timeline,
        )


def has_connectors(path: str | os.PathLike[str]) -> bool:
    """Whether sysfs shows connectors of a DRM device, by one of its nodes; opens nothing."""
    name = os.path.basename(sibling(path, "card") or path)
    try:
        return any(entry.startswith(f"{name}-") for entry in os.listdir(f"/sys/class/drm/{name}"))
    except OSError:
        return False


def _imports(device: Device) -> bool:
    """Whether a device takes a page that it did not make; True if there is none to be had."""
    try:
        buffer = allocate(1)
    except OSError:
        return True
    with buffer:
        try:
            device.import_buffer(buffer).close()
        except OSError as error:
            if error.errno in _SHORTAGES:
                raise
            return False
        return True
