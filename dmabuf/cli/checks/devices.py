"""What exports, imports, shows and fills buffers here, in words and as docs/json.md has it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from dmabuf.cli.checks.exporters import about_limits
from dmabuf.devices import FoundDevice

if TYPE_CHECKING:
    from dmabuf.devices.v4l2 import V4l2Info

_CLASSES = {"drm": "drm", "v4l2": "video4linux"}
_BUSES = ("platform", "pci")
_HEAP = ("contiguous", "protected")
_DRM = ("imports", "exports", "display", "dumb", "syncobj", "timeline")
_V4L2 = ("capture", "output", "m2m", "multi_planar", "media_controller")


def row(device: FoundDevice) -> tuple[str, str, str, str]:
    """Return its kind, its node, its name and what it can do."""
    return device.kind, device.path, _name(device), ", ".join(_abilities(device))


def nodes(device: FoundDevice) -> Iterator[tuple[str, str, str]]:
    """Give its nodes, their permissions, and whether this process can open them."""
    for node in device.nodes:
        yield node.path, node.permissions or "-", "yes" if node.usable else "no"


def _name(device: FoundDevice) -> str:
    if device.kind == "v4l2" and device.driver != device.name:
        return f"{device.driver or '-'}: {device.name or '-'}"
    return device.name or "-"


def _abilities(device: FoundDevice) -> Iterator[str]:
    """Give what a device can do, in the words of the fields."""
    if device.kind == "heap":
        yield from (field for field in _HEAP if getattr(device.info, field))
    elif device.kind == "udmabuf":
        if device.info is not None:
            yield about_limits(device.info)
    elif device.kind == "drm":
        yield from (field for field in _DRM if getattr(device.info, field))
    elif device.info is not None:
        if not (device.info.capture or device.info.output):
            yield "no frames"  # metadata, which comes with another node's frames
        yield from (field.replace("_", "-") for field in _V4L2 if getattr(device.info, field))
        yield from _memory(device.info) or ()


def _memory(info: V4l2Info) -> list[str] | None:
    if info.memory is None:
        return None
    return [kind.name or "" for kind in type(info.memory) if kind in info.memory]


def iommu(device: FoundDevice) -> bool | None:
    """Return whether an IOMMU stands before a device; None if that is unknown, or it has no DMA.

    Behind one a device reads scattered pages as one piece. Without one many, on the platform bus
    above all, need contiguous memory, which only their drivers know.
    """
    if device.kind not in _CLASSES:
        return None
    folder = f"/sys/class/{_CLASSES[device.kind]}/{os.path.basename(device.path)}/device"
    parent = os.path.realpath(folder)
    while parent.startswith("/sys/devices/"):
        bus = os.path.basename(os.path.realpath(f"{parent}/subsystem"))
        if os.path.exists(f"{parent}/iommu_group"):
            return True
        if bus in _BUSES:
            return False
        if bus == "usb":
            return None  # its controller has the DMA, and drivers copy
        parent = os.path.dirname(parent)
    return None


def contiguous(devices: Sequence[FoundDevice]) -> Iterator[str]:
    """Say which heaps give contiguous memory, and which devices may need it."""
    heaps = [device for device in devices if device.kind == "heap"]
    names = [device.name or device.path for device in heaps if device.info.contiguous]
    if names:
        yield f"contiguous, by its name: {', '.join(names)}"
    elif heaps:
        yield "no heap here is contiguous; one needs CONFIG_DMABUF_HEAPS_CMA, and cma= at boot"
    without = [device.path for device in devices if iommu(device) is False]
    if without:
        yield f"without an IOMMU, so they may need contiguous memory: {', '.join(without)}"


def refusals(devices: Sequence[FoundDevice]) -> Iterator[str]:
    """Say once a kind why its devices can't be opened: mostly all for the same reason."""
    for kind, alike in groupby(devices, lambda device: device.kind):
        refused = [device for device in alike if device.error]
        if len(refused) > 1:
            yield f"{kind}: {refused[0].error} ({len(refused) - 1} more like it)"
        elif refused:
            yield f"{kind}: {refused[0].error}"


def document(device: FoundDevice) -> dict[str, Any]:
    """Return it as docs/json.md has it."""
    document: dict[str, Any] = {
        field: getattr(device, field)
        for field in ("kind", "path", "permissions", "usable", "error")
    }
    if device.kind == "heap":
        document["name"] = device.name
        document |= {field: getattr(device.info, field) for field in _HEAP}
    elif device.kind == "udmabuf":
        document["limits"] = device.info and device.info._asdict()
    elif device.kind == "drm":
        document["render"] = device.render and device.render.path
        document["render_permissions"] = device.render and device.render.permissions
        document["driver"] = device.driver
        document |= {field: getattr(device.info, field) for field in _DRM}
    else:
        document |= {"driver": device.driver, "card": device.name}
        document |= {field: getattr(device.info, field, None) for field in ("bus", *_V4L2)}
        document["memory"] = device.info and _memory(device.info)
    if device.kind in _CLASSES:
        document["iommu"] = iommu(device)
    return document
