"""The devices that export and import buffers: list them, and watch them come and go."""

from typing import TYPE_CHECKING

from dmabuf._lazy import attributes
from dmabuf.devices.discovery import find
from dmabuf.devices.found import (
    DrmDevice,
    Found,
    FoundDevice,
    HeapDevice,
    Kind,
    Node,
    UdmabufDevice,
    V4l2Device,
)

if TYPE_CHECKING:
    from dmabuf.devices import drm, kms, v4l2
    from dmabuf.devices.hotplug import Event, Watch, watch

__all__ = [
    "DrmDevice",
    "Event",
    "Found",
    "FoundDevice",
    "HeapDevice",
    "Kind",
    "Node",
    "UdmabufDevice",
    "V4l2Device",
    "Watch",
    "drm",
    "find",
    "kms",
    "v4l2",
    "watch",
]

# Imported when they are first used: each is for one kind of device, or for what comes and goes.
__getattr__, __dir__ = attributes(
    __name__,
    {
        **{name: name for name in ("drm", "kms", "v4l2")},
        **dict.fromkeys(("Event", "Watch", "watch"), "hotplug"),
    },
)
