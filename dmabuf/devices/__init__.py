"""The devices that export and import buffers: what there is, and what comes and goes."""

from dmabuf.devices.discovery import (
    Device,
    DrmDevice,
    HeapDevice,
    UdmabufDevice,
    V4l2Device,
    find,
)
from dmabuf.devices.hotplug import Event, Watch, watch

__all__ = [
    "Device",
    "DrmDevice",
    "Event",
    "HeapDevice",
    "UdmabufDevice",
    "V4l2Device",
    "Watch",
    "find",
    "watch",
]
