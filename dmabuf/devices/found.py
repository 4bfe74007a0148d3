"""The devices that `find` lists: four kinds, their nodes, and what is known about each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from dmabuf._record import record
from dmabuf.heap import HeapInfo

if TYPE_CHECKING:
    from dmabuf.devices.drm._inspect import DrmInfo
    from dmabuf.devices.v4l2.info import V4l2Info
    from dmabuf.udmabuf import Limits

Kind: TypeAlias = Literal["heap", "udmabuf", "drm", "v4l2"]
"""The kinds of devices, in the order in which `find` lists them."""


@record
class Node(NamedTuple):
    """A device node, and whether this process may use it.

        for node in device.nodes:
            print(node.path, node.permissions, node.error or "usable")

    In a container the node of a device that the kernel has may be missing.
    """

    path: str
    """The path of the node."""
    permissions: str | None
    """Mode, owner and group as `ls -l` shows them; None if the node does not exist here."""
    error: str | None
    """Why this process can't open the node, and what to do about it; None if it can."""

    @property
    def usable(self) -> bool:
        """True if this process can open the node."""
        return self.error is None


@record
class Found(NamedTuple):
    """What all devices that `find` lists have in common.

        for device in dmabuf.devices.find():
            if device.kind == "drm" and device.info.imports:
                print(device.path, device.driver)

    Each device has a `kind` too. It tells a type checker the type of `info`.
    """

    nodes: tuple[Node, ...]
    """The nodes of the device. Only a DRM device can have two: a primary node and a render node."""
    driver: str | None
    """The kernel's name of the driver; None for heaps and udmabuf, and if it is unknown."""
    name: str | None
    """A name for people: the heap's name, the camera's card, otherwise the driver's name; None if
    unknown."""
    info: Any
    """What the device reports about itself; the type depends on the kind."""

    @property
    def path(self) -> str:
        """The path of the node; for a DRM device, of its primary node."""
        return self.nodes[0].path

    @property
    def permissions(self) -> str | None:
        """The permissions of the node at `path`; None if it does not exist here."""
        return self.nodes[0].permissions

    @property
    def error(self) -> str | None:
        """Why the node at `path` can't be opened, and what to do about it; None if it can."""
        return self.nodes[0].error

    @property
    def usable(self) -> bool:
        """True if this process can open at least one node of the device."""
        return any(node.usable for node in self.nodes)


class HeapDevice(Found):
    """A dma-heap.

        with dmabuf.Heap(device.path) as heap:
            buffer = heap.allocate(4096)

    Its `info` has `contiguous` and `protected`.
    """

    __slots__ = ()
    kind: Final[Literal["heap"]] = "heap"
    """Always "heap"."""
    info: HeapInfo
    """The entry in `dmabuf.heaps()`."""


class UdmabufDevice(Found):
    """The device that makes buffers from memfds.

        if device.usable:
            buffer = dmabuf.udmabuf.allocate(4096)

    See `dmabuf.udmabuf`.
    """

    __slots__ = ()
    kind: Final[Literal["udmabuf"]] = "udmabuf"
    """Always "udmabuf"."""
    info: Limits | None
    """The result of `dmabuf.udmabuf.limits()`; None if it is unknown."""


class DrmDevice(Found):
    """A DRM device: a display, a GPU, or both.

        if device.info.imports:
            with dmabuf.devices.drm.Device(device.path) as opened:
                gem = opened.import_buffer(buffer)

    `devices.kms.Display(device.path)` opens one that is a display.
    """

    __slots__ = ()
    kind: Final[Literal["drm"]] = "drm"
    """Always "drm"."""
    info: DrmInfo
    """The result of `devices.drm.inspect()`, with None for what could not be queried."""

    @property
    def render(self) -> Node | None:
        """The render node; None if the device has none."""
        return self.nodes[1] if len(self.nodes) > 1 else None


class V4l2Device(Found):
    """A V4L2 video device.

        if device.info and device.info.capture:
            with dmabuf.devices.v4l2.Capture(device.path) as camera:
                print(camera.formats())

    A node without video, such as one for metadata, is listed too; its `info` has neither `capture`
    nor `output`.
    """

    __slots__ = ()
    kind: Final[Literal["v4l2"]] = "v4l2"
    """Always "v4l2"."""
    info: V4l2Info | None
    """The result of `devices.v4l2.inspect()`; None if this process can't open the device."""


FoundDevice: TypeAlias = HeapDevice | UdmabufDevice | DrmDevice | V4l2Device
"""A device of any kind. Its `kind` tells a type checker which."""
