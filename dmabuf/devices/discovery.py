"""What exports and imports buffers on this machine: heaps, udmabuf, DRM and V4L2 devices.

Found by udev's library, and by sysfs where that is missing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from dmabuf import _node, udmabuf
from dmabuf._record import record
from dmabuf.heap import Heap, HeapInfo, heaps

if TYPE_CHECKING:
    from dmabuf.devices.v4l2 import Memory
    from dmabuf.udmabuf import Limits

_Result = TypeVar("_Result")


@record
class HeapDevice(NamedTuple):
    """A dma-heap."""

    kind: str
    """"heap"."""
    path: str
    """The node."""
    permissions: str | None
    """The node's, as `ls -l` shows them; None if there is no node here."""
    usable: bool
    """Whether this process can open it."""
    error: str | None
    """Why it can't, and what to do about it."""
    name: str
    """The kernel's own name."""
    contiguous: bool
    """Whether its memory comes from a CMA region, judged by its name."""
    protected: bool
    """Whether its memory is closed to the processor, judged by its name."""


@record
class UdmabufDevice(NamedTuple):
    """The device that makes buffers of memfds."""

    kind: str
    """"udmabuf"."""
    path: str
    """The node."""
    permissions: str | None
    """The node's, as `ls -l` shows them; None if there is no node here."""
    usable: bool
    """Whether this process can open it."""
    error: str | None
    """Why it can't, and what to do about it."""
    limits: Limits | None
    """What one buffer may have; None if that is unknown."""


@record
class DrmDevice(NamedTuple):
    """A DRM device: a display, a GPU, or both. What could not be asked is None."""

    kind: str
    """"drm"."""
    path: str
    """The primary node."""
    permissions: str | None
    """The primary node's, as `ls -l` shows them; None if there is no node here."""
    usable: bool
    """Whether this process can open the primary or the render node."""
    error: str | None
    """Why the primary node can't be opened, and what to do about it."""
    render: str | None
    """The render node, None if there is none."""
    render_permissions: str | None
    """The render node's."""
    driver: str | None
    """The kernel's name of the driver; of an unusable device as sysfs has it."""
    imports: bool | None
    """Whether it takes buffers of others."""
    exports: bool | None
    """Whether it gives its own as buffers."""
    display: bool
    """Whether it has connectors."""
    dumb: bool | None
    """Whether it makes buffers that the processor draws."""
    syncobj: bool | None
    """Whether it has sync objects."""
    timeline: bool | None
    """Whether they have timelines."""


@record
class V4l2Device(NamedTuple):
    """A V4L2 video device. What could not be asked is None."""

    kind: str
    """"v4l2"."""
    path: str
    """The node."""
    permissions: str | None
    """The node's, as `ls -l` shows them; None if there is no node here."""
    usable: bool
    """Whether this process can open it."""
    error: str | None
    """Why it can't, and what to do about it."""
    driver: str | None
    """The kernel's name of the driver; of an unusable device as sysfs has it."""
    card: str | None
    """What the device is called; of an unusable device as sysfs has it."""
    bus: str | None
    """Where it is."""
    capture: bool | None
    """Whether frames can be had from it."""
    output: bool | None
    """Whether frames can be given to it."""
    m2m: bool | None
    """Whether what it is given comes back changed."""
    multi_planar: bool | None
    """Whether its formats can have a buffer for each plane."""
    memory: Memory | None
    """Where its buffers may come from; None also while somebody uses it."""


Device = HeapDevice | UdmabufDevice | DrmDevice | V4l2Device


def find() -> list[Device]:
    """Return the heaps, udmabuf, the DRM and the V4L2 devices of this machine, in that order.

    Each is opened, asked and closed. One that can't be opened is listed all the same, with the
    reason and without what only it could tell. Needs neither libudev nor udevd. A display that
    nobody uses has this process as its master for that moment, as with everybody who opens one.
    """
    return [describe(kind, path) for kind, path in _nodes()]


def subsystems() -> list[str]:
    """Return the subsystems of the kernel that have such devices."""
    return list(_SUBSYSTEMS)


def kind_of(subsystem: str, name: str) -> str | None:
    """Return which kind of device the kernel's name of it stands for, None if it is none."""
    kind, pattern = _SUBSYSTEMS.get(subsystem, ("", "$^"))
    return kind if re.fullmatch(pattern, name) else None


def describe(kind: str, path: str) -> Device:
    """Return what there is to be known of a node."""
    permissions, _ = _attempt(lambda: _node.permissions(path))
    return _DESCRIBE[kind](path, permissions)


_BUSES = ("virtio-pci", "faux_driver")
# What the kernel calls the nodes of each subsystem. Render nodes belong to their primary node's
# device, and V4L2's other nodes (vbi, radio, subdev) carry no frames.
_SUBSYSTEMS = {
    "dma_heap": ("heap", ".+"),
    "misc": ("udmabuf", "udmabuf"),
    "drm": ("drm", r"card\d+"),
    "video4linux": ("v4l2", r"video\d+"),
}


def _nodes() -> list[tuple[str, str]]:
    """Return the kind and path of every device."""
    found = {("heap", info.path) for info in _attempt(heaps)[0] or ()}
    for subsystem in _SUBSYSTEMS:
        for name, path in _listed(subsystem):
            kind = kind_of(subsystem, name)
            if kind is not None:
                found.add((kind, path))
    order = list(_DESCRIBE)
    return sorted(found, key=lambda node: (order.index(node[0]), _natural(node[1])))


def _listed(subsystem: str) -> Iterator[tuple[str, str]]:
    """Give the kernel's name and the node of each device of a subsystem."""
    context = udev()
    if context is not None:
        for device in context.list_devices(subsystem=subsystem):
            if device.device_node:
                yield device.sys_name, device.device_node
        return
    folder = f"/sys/class/{subsystem}"
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        node = re.search(r"^DEVNAME=(.+)$", _read(f"{folder}/{name}/uevent"), re.MULTILINE)
        if node is not None:
            yield name, f"/dev/{node[1]}"


def udev() -> Any | None:
    """Return udev's library, None where there is none."""
    try:
        import pyudev

        return pyudev.Context()
    except ImportError:
        return None


def _natural(path: str) -> list[str | int]:
    parts = re.split(r"(\d+)", path)
    return [int(part) if part.isdigit() else part for part in parts]


def _attempt(function: Callable[[], _Result]) -> tuple[_Result | None, str | None]:
    """Return what a function returns, or the words of its error."""
    try:
        return function(), None
    except OSError as error:
        return None, error.strerror or str(error)


def _heap(path: str, permissions: str | None) -> HeapDevice:
    info = HeapInfo(_node.kernel_name(path), path)
    _, error = _attempt(lambda: Heap(path).close())
    usable = error is None
    return HeapDevice(
        "heap", path, permissions, usable, error, info.name, info.contiguous, info.protected
    )


def _udmabuf(path: str, permissions: str | None) -> UdmabufDevice:
    _, error = _attempt(lambda: os.close(_node.open_node(path, os.O_RDWR, udmabuf._KIND)))
    limits, _ = _attempt(udmabuf.limits)
    return UdmabufDevice("udmabuf", path, permissions, error is None, error, limits)


def _drm(path: str, permissions: str | None) -> DrmDevice:
    from dmabuf.devices import drm

    render = drm.sibling(path, "renderD")
    render_permissions = None
    info, error = _attempt(lambda: drm.inspect(path))
    if render is not None:
        render_permissions, _ = _attempt(lambda: _node.permissions(render))
        if info is None:
            info, _ = _attempt(lambda: drm.inspect(render))
            info = info and info._replace(dumb=None)  # the primary node's alone
    usable = info is not None
    if info is None:
        info = drm.DrmInfo(path, None, None, None, drm.has_connectors(path), None, None, None)
        info = info._replace(driver=_driver("drm", path))
    about = ("drm", path, permissions, usable, error, render, render_permissions)
    return DrmDevice(*about, *info[1:])


def _v4l2(path: str, permissions: str | None) -> V4l2Device:
    from dmabuf.devices import v4l2

    info, error = _attempt(lambda: v4l2.inspect(path))
    if info is not None:
        _, driver, card, bus, capture, output, m2m, multi_planar, memory = info
        about = (driver, card, bus, capture, output, m2m, multi_planar, memory)
        return V4l2Device("v4l2", path, permissions, True, None, *about)
    name = _read(f"/sys/class/video4linux/{os.path.basename(path)}/name").strip() or None
    known = (_driver("video4linux", path), name, None, None, None, None, None, None)
    return V4l2Device("v4l2", path, permissions, False, error, *known)


def _driver(subsystem: str, path: str) -> str | None:
    """Return the driver's name in sysfs, None where that has only the bus's."""
    link = f"/sys/class/{subsystem}/{os.path.basename(path)}/device/driver"
    name = os.path.basename(os.readlink(link)) if os.path.islink(link) else None
    return None if name in _BUSES else name


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


_DESCRIBE: dict[str, Callable[[str, str | None], Device]] = {
    "heap": _heap,
    "udmabuf": _udmabuf,
    "drm": _drm,
    "v4l2": _v4l2,
}
