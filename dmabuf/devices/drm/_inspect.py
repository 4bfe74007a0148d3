"""What a DRM node says of itself, and whether it does what it says."""

from __future__ import annotations

import contextlib
import errno
import os

from dmabuf.buffer import Buffer
from dmabuf.devices.drm._node import sibling
from dmabuf.devices.drm.device import Device, DrmInfo
from dmabuf.exporters import allocate

_NODES = "/dev/dri"
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def inspect(path: str | os.PathLike[str]) -> DrmInfo:
    """Open a node, query it and close it. OSError, with the path, if it can't be opened.

    It tries to import one page of memory, because some drivers claim that they import and then
    refuse.
    """
    with Device(path) as device:
        return device.capabilities()._replace(imports=can_import(device))


def can_import(device: Device) -> bool:
    """Try whether a device imports buffers of others: some drivers claim it, and then don't.

    Tried with a page of a heap or of udmabuf, else of another DRM device. Without any of these the
    driver is believed. OSError if a shortage of memory or descriptors keeps it from being tried.
    """
    buffer = _foreign_buffer(device)
    if buffer is None:
        return bool(device.capabilities().imports)
    with buffer:
        try:
            device.import_buffer(buffer).close()
        except OSError as error:
            if error.errno in _SHORTAGES:
                raise
            return False
        return True


def primary_nodes() -> list[str]:
    """Return the primary nodes, in the order of their numbers."""
    nodes: list[str] = []
    with contextlib.suppress(OSError):
        nodes += [name for name in os.listdir(_NODES) if name.startswith("card")]
    return [f"{_NODES}/{name}" for name in sorted(nodes, key=lambda name: (len(name), name))]


def _foreign_buffer(device: Device) -> Buffer | None:
    """Return a buffer that a device did not make, None if there is none."""
    with contextlib.suppress(OSError):
        return allocate(1)
    own = device.path, sibling(device.path, "card")
    for node in primary_nodes():
        if node not in own:
            with (
                contextlib.suppress(OSError),
                Device(node) as other,
                other.create_dumb(64, 16, 32) as dumb,
            ):
                return dumb.export()
    return None
