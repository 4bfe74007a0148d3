"""What exports and imports buffers on this machine: heaps, udmabuf, DRM and V4L2 devices.

Found in sysfs, where udev's library looks too: to load that takes longer than all the rest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from dmabuf import _node, _procfs, udmabuf
from dmabuf._owning import own_descriptor
from dmabuf.devices.found import (
    DrmDevice,
    FoundDevice,
    HeapDevice,
    Kind,
    Node,
    UdmabufDevice,
    V4l2Device,
)
from dmabuf.heap import Heap, HeapInfo, heaps

_Result = TypeVar("_Result")


def find() -> list[FoundDevice]:
    """Return the heaps, udmabuf, DRM devices and V4L2 devices of this machine, in that order.

    Opens each device, queries it and closes it. A device that can't be opened is listed too, with
    the reason, and with None for what only the device could tell. Needs neither libudev nor udevd.
    Opening an unused display makes this process DRM master for a moment.
    """
    return [describe(kind, path) for kind, path in _nodes()]


def subsystems() -> list[str]:
    """Return the subsystems of the kernel that have such devices."""
    return list(_SUBSYSTEMS)


def kind_of(subsystem: str, name: str) -> Kind | None:
    """Return the kind of a device, by the kernel's name of it; None if it is of no kind here."""
    if subsystem not in _SUBSYSTEMS:
        return None
    kind, pattern = _SUBSYSTEMS[subsystem]
    return kind if re.fullmatch(pattern, name) else None


def describe(kind: Kind, path: str) -> FoundDevice:
    """Open a device by its node, ask it and close it, and return what is known of it."""
    return _DESCRIBERS[kind](path)


_BUSES = ("virtio-pci", "faux_driver")
# What the kernel calls the nodes of each subsystem. Render nodes belong to their primary node's
# device, and V4L2's other nodes (vbi, radio, subdev) carry no frames.
_SUBSYSTEMS: dict[str, tuple[Kind, str]] = {
    "dma_heap": ("heap", ".+"),
    "misc": ("udmabuf", "udmabuf"),
    "drm": ("drm", r"card\d+"),
    "video4linux": ("v4l2", r"video\d+"),
}


def _nodes() -> list[tuple[Kind, str]]:
    """Return the kind and path of every device."""
    found: set[tuple[Kind, str]] = {("heap", info.path) for info in _attempt(heaps)[0] or ()}
    for subsystem in _SUBSYSTEMS:
        folder = f"/sys/class/{subsystem}"
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            kind = kind_of(subsystem, name)
            if kind is not None and (node := _node.node_of(f"{folder}/{name}")):
                found.add((kind, node))
    order = list(_DESCRIBERS)
    return sorted(found, key=lambda node: (order.index(node[0]), _split_numbers(node[1])))


def _split_numbers(path: str) -> list[str | int]:
    """Return a path as a key that sorts video10 after video9."""
    parts = re.split(r"(\d+)", path)
    return [int(part) if part.isdigit() else part for part in parts]


def _attempt(function: Callable[[], _Result]) -> tuple[_Result | None, str | None]:
    """Return a function's result, or the words of its OSError."""
    try:
        return function(), None
    except OSError as error:
        return None, error.strerror or str(error)


def _node_at(path: str, error: str | None) -> Node:
    permissions, _ = _attempt(lambda: _node.permissions(path))
    return Node(path, permissions, error)


def _describe_heap(path: str) -> HeapDevice:
    info = HeapInfo(_node.kernel_name(path), path)
    _, error = _attempt(lambda: Heap(path).close())
    return HeapDevice((_node_at(path, error),), driver=None, name=info.name, info=info)


def _describe_udmabuf(path: str) -> UdmabufDevice:
    opening = partial(_node.open_node, path, os.O_RDWR, udmabuf.KIND)
    _, error = _attempt(lambda: own_descriptor(opening).close())
    limits, _ = _attempt(udmabuf.limits)
    return UdmabufDevice((_node_at(path, error),), driver=None, name="udmabuf", info=limits)


def _describe_drm(path: str) -> DrmDevice:
    from dmabuf.devices import drm

    info, error = _attempt(lambda: drm.inspect(path))
    nodes = [_node_at(path, error)]
    render = drm.sibling(path, "renderD")
    if render is not None:
        told, error = _attempt(lambda: drm.inspect(render))
        nodes.append(_node_at(render, error))
        if info is None and told is not None:
            info = told._replace(path=path, dumb=None)  # which the primary node alone could tell
    if info is None:
        info = drm.DrmInfo(
            path=path,
            driver=_driver("drm", path),
            imports=None,
            exports=None,
            display=drm.has_connectors(path),
            dumb=None,
            syncobj=None,
            timeline=None,
        )
    return DrmDevice(tuple(nodes), driver=info.driver, name=info.driver, info=info)


def _describe_v4l2(path: str) -> V4l2Device:
    from dmabuf.devices import v4l2

    info, error = _attempt(lambda: v4l2.inspect(path))
    nodes = (_node_at(path, error),)
    if info is not None:
        return V4l2Device(nodes, driver=info.driver, name=info.card, info=info)
    name = _read(f"/sys/class/video4linux/{os.path.basename(path)}/name").strip() or None
    return V4l2Device(nodes, driver=_driver("video4linux", path), name=name, info=None)


def _driver(subsystem: str, path: str) -> str | None:
    """Return the driver's name in sysfs; None where sysfs has only the bus's."""
    link = f"/sys/class/{subsystem}/{os.path.basename(path)}/device/driver"
    name = os.path.basename(os.readlink(link)) if os.path.islink(link) else None
    return None if name in _BUSES else name


def _read(path: str) -> str:
    try:
        return _procfs.decoded(_procfs.read(path))
    except OSError:
        return ""


_DESCRIBERS: dict[Kind, Callable[[str], FoundDevice]] = {
    "heap": _describe_heap,
    "udmabuf": _describe_udmabuf,
    "drm": _describe_drm,
    "v4l2": _describe_v4l2,
}
