"""What exports, imports, shows and fills buffers here, in words and as docs/json.md has it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from dmabuf.cli.checks.exporters import about_limits
from dmabuf.devices import Device, DrmDevice, HeapDevice, UdmabufDevice, V4l2Device

_DRM = ("imports", "exports", "display", "dumb", "syncobj", "timeline")
_V4L2 = ("capture", "output", "m2m", "multi_planar")


def row(device: Device) -> tuple[str, str, str, str]:
    """Return its kind, its node, its name and what it can do."""
    return device.kind, device.path, _name(device), ", ".join(_abilities(device))


def nodes(device: Device) -> Iterator[tuple[str, str, str]]:
    """Give its nodes, their permissions, and whether this process can open them."""
    opened = device.error is None
    yield device.path, device.permissions or "-", "yes" if opened else "no"
    if isinstance(device, DrmDevice) and device.render is not None:
        opened = os.access(device.render, os.R_OK | os.W_OK, effective_ids=True)
        yield device.render, device.render_permissions or "-", "yes" if opened else "no"


def _name(device: Device) -> str:
    if isinstance(device, HeapDevice):
        return device.name
    if isinstance(device, DrmDevice):
        return device.driver or "-"
    if isinstance(device, V4l2Device):
        same = device.driver == device.card
        names = [device.driver or "-"] if same else [device.driver or "-", device.card or "-"]
        return ": ".join(names)
    return "udmabuf"


def _abilities(device: Device) -> Iterator[str]:
    """Give what a device can do, in the words of the fields."""
    if isinstance(device, HeapDevice):
        yield from (field for field in ("contiguous", "protected") if getattr(device, field))
    elif isinstance(device, UdmabufDevice):
        if device.limits is not None:
            yield about_limits(device.limits)
    elif isinstance(device, DrmDevice):
        yield from (field for field in _DRM if getattr(device, field))
    else:
        if device.usable and not (device.capture or device.output):
            yield "no frames"  # metadata, which comes with another node's frames
        yield from (field.replace("_", "-") for field in _V4L2 if getattr(device, field))
        yield from _memory(device) or ()


def _memory(device: V4l2Device) -> list[str] | None:
    if device.memory is None:
        return None
    return [kind.name or "" for kind in type(device.memory) if kind in device.memory]


def refusals(devices: Sequence[Device]) -> Iterator[str]:
    """Say once a kind why its devices can't be opened: mostly all for the same reason."""
    for kind, alike in groupby(devices, lambda device: device.kind):
        refused = [device for device in alike if device.error]
        if len(refused) > 1:
            yield f"{kind}: {refused[0].error} ({len(refused) - 1} more like it)"
        elif refused:
            yield f"{kind}: {refused[0].error}"


def document(device: Device) -> dict[str, Any]:
    """Return it as docs/json.md has it."""
    document = device._asdict()
    if isinstance(device, UdmabufDevice):
        document["limits"] = device.limits and device.limits._asdict()
    if isinstance(device, V4l2Device):
        document["memory"] = _memory(device)
    return document
