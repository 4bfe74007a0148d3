"""What `find` lists: devices of four kinds, their nodes, and what is known of each."""

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

    A container may lack nodes of devices that the kernel has.
    """

    path: str
    """The path."""
    permissions: str | None
    """Mode, owner and group as `ls -l` shows them; None if the node is not here."""
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

    Every device has a `kind` too, which tells a type checker the type of its `info`.
    """

    nodes: tuple[Node, ...]
    """The device's nodes. Only a DRM device can have two: its primary node and its render node."""
    driver: str | None
    """The kernel's name of the driver; None for heaps and udmabuf, and where it is not known."""
    name: str | None
    """What the device is called: a heap's own name, a camera's card, else the driver's name."""
    info: Any
    """What the device says of itself; each kind has its type."""

    @property
    def path(self) -> str:
        """The path of the node; of a DRM device its primary node's."""
        return self.nodes[0].path

    @property
    def permissions(self) -> str | None:
        """The permissions of that node; None if it is not here."""
        return self.nodes[0].permissions

    @property
    def error(self) -> str | None:
        """Why that node can't be opened, and what to do about it; None if it can."""
        return self.nodes[0].error

    @property
    def usable(self) -> bool:
        """True if this process can open the device, by any of its nodes."""
        return any(node.usable for node in self.nodes)


class HeapDevice(Found):
    """A dma-heap.

        with dmabuf.Heap(device.path) as heap:
            buffer = heap.allocate(4096)

    Its `info` has `contiguous` and `protected`.
    """

    __slots__ = ()
    kind: Final[Literal["heap"]] = "heap"
    """The same for all heaps."""
    info: HeapInfo
    """What `dmabuf.heaps()` lists."""


class UdmabufDevice(Found):
    """The device that makes buffers of memfds.

        if device.usable:
            buffer = dmabuf.udmabuf.allocate(4096)

    See `dmabuf.udmabuf`.
    """

    __slots__ = ()
    kind: Final[Literal["udmabuf"]] = "udmabuf"
    """The same for every udmabuf device."""
    info: Limits | None
    """What `dmabuf.udmabuf.limits()` returns; None if that is not known."""


class DrmDevice(Found):
    """A DRM device: a display, a GPU, or both.

        if device.info.imports:
            with dmabuf.devices.drm.Device(device.path) as opened:
                gem = opened.import_buffer(buffer)

    A display can be opened by `devices.kms.Display(device.path)` too.
    """

    __slots__ = ()
    kind: Final[Literal["drm"]] = "drm"
    """The same for all DRM devices."""
    info: DrmInfo
    """What `devices.drm.inspect()` returns, with None for all that could not be asked."""

    @property
    def render(self) -> Node | None:
        """The render node; None if the device has none."""
        return self.nodes[1] if len(self.nodes) > 1 else None


class V4l2Device(Found):
    """A V4L2 video device.

        if device.info and device.info.capture:
            with dmabuf.devices.v4l2.Capture(device.path) as camera:
                print(camera.formats())

    Nodes that carry no video (metadata) are listed too, with neither capture nor output.
    """

    __slots__ = ()
    kind: Final[Literal["v4l2"]] = "v4l2"
    """The same for all V4L2 devices."""
    info: V4l2Info | None
    """What `devices.v4l2.inspect()` returns; None if this process can't open the device."""


FoundDevice: TypeAlias = HeapDevice | UdmabufDevice | DrmDevice | V4l2Device
"""A device of any kind. Its `kind` tells a type checker which."""
