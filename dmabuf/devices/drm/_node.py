"""An open DRM node and the handles of it: what devices, their buffers and sync objects share."""

from __future__ import annotations

import errno
import os
from functools import partial
from operator import setitem
from typing import Any, Generic, TypeVar

from dmabuf._closing import require_new
from dmabuf._fd import Descriptor, Owner
from dmabuf._node import Kind, open_node
from dmabuf._owning import own
from dmabuf.devices.drm import _ioctl
from dmabuf.devices.drm._handles import Claim, Destroy, Handles, Make
from dmabuf.errors import UnsupportedError, os_error

_RENDER = Kind("DRM device", "drm", "render", "", ("CONFIG_DRM",), "")
_PRIMARY = _RENDER._replace(group="video")  # distributions give these to a group of their own
# What drivers say without the function behind an ioctl, by kernel version.
_LACKING = (errno.ENOSYS, errno.EOPNOTSUPP)

NodeT = TypeVar("NodeT", bound="Node")


class Node(Descriptor):
    """An open node of a DRM device."""

    __slots__ = ("_driver", "_handles", "_path")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a primary node or a render node. OSError, with the path, if that fails."""
        require_new(self)
        self._path = os.fspath(path)
        self._handles = Handles()
        kind = _RENDER if is_render(self._path) else _PRIMARY
        own(self, partial(open_node, self._path, os.O_RDWR, kind))

    def _own(self, number: int) -> None:
        self._driver = _ioctl.driver_name(number)
        super()._own(number)

    @property
    def path(self) -> str:
        """The path of the node."""
        return self._path

    @property
    def driver(self) -> str:
        """The kernel's name of the driver."""
        return self._driver

    @property
    def forked(self) -> bool:
        """True in a child that the process forked after opening; it releases no handle."""
        return self._handles.forked

    def __repr__(self) -> str:
        state = "[closed]" if self._closed else f"fd={self._number}"
        return f"<dmabuf.devices.drm.{type(self).__name__} {self._path} {self._driver} {state}>"


class Handle(Owner, Generic[NodeT]):
    """A handle of a device, with one owner."""

    __slots__ = ("_device", "_give_back")

    def _adopt(self, device: NodeT, destroy: Destroy, make: Make, *details: Any) -> None:
        """Own the handle that a call makes; `details` are for `_own`."""
        handles, claim = device._handles, Claim(destroy)
        self._device = device
        self._give_back = partial(setitem, handles.released, claim)
        try:
            own(self, partial(handles.make, device, claim, make), *details)
        finally:
            handles.settle(device)

    def _let_go(self) -> None:
        super()._let_go()
        self._device._handles.settle(self._device)

    @property
    def device(self) -> NodeT:
        """The device that the handle belongs to."""
        return self._device

    @property
    def closed(self) -> bool:
        """True once this object or its device was closed."""
        return self._closed or self._device.closed

    @property
    def handle(self) -> int:
        """The device's own number of the object. ValueError if closed."""
        if self._closed:
            self._require_open()
        return self._number

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            if self._device.closed:
                self._number = -1  # it went with its device
            try:
                super().__del__()
            finally:  # the warning may be an error
                self._let_go()


def refusal(node: Node, error: OSError, what: str, advice: str = "") -> OSError:
    """Return the error of a device that can't do what it was asked, with what to do."""
    number = error.errno or errno.EIO
    text = f"{node.path} ({node.driver}) {what}"
    if number in _LACKING:
        return UnsupportedError(number, f"{text}: its driver has no such function")
    if number == errno.EACCES and is_render(node.path):
        primary = sibling(node.path, "card") or "/dev/dri/card…"
        text = f"{text}: it is a render node; open the primary node, {primary}"
    return os_error(number, f"{text} ({error.strerror}){advice}")


def is_render(path: str) -> bool:
    """Return True for the path of a render node."""
    return os.path.basename(path).startswith("renderD")


def sibling(path: str | os.PathLike[str], prefix: str) -> str | None:
    """Return another node of the same DRM device, "card" or "renderD", None if it has none."""
    folder, name = os.path.split(path)
    try:
        names = os.listdir(f"/sys/class/drm/{name}/device/drm")
    except OSError:
        return None
    return next((os.path.join(folder, name) for name in names if name.startswith(prefix)), None)


def has_connectors(path: str | os.PathLike[str]) -> bool:
    """Return True if sysfs shows connectors of the DRM device that a node is of. Opens nothing."""
    name = os.path.basename(sibling(path, "card") or path)
    try:
        return any(entry.startswith(f"{name}-") for entry in os.listdir(f"/sys/class/drm/{name}"))
    except OSError:
        return False
