"""DRM devices: import, export and creation of buffers, sync objects, and vgem, a test device."""

from dmabuf.devices.drm._inspect import can_import, inspect
from dmabuf.devices.drm._node import has_connectors, sibling
from dmabuf.devices.drm._syncobj_event import SyncobjEvent
from dmabuf.devices.drm.device import Device, DrmInfo
from dmabuf.devices.drm.gem import DumbBuffer, GemBuffer
from dmabuf.devices.drm.syncobj import Syncobj, SyncobjFile, wait_all, wait_any
from dmabuf.devices.drm.vgem import Vgem, VgemFence

__all__ = [
    "Device",
    "DrmInfo",
    "DumbBuffer",
    "GemBuffer",
    "Syncobj",
    "SyncobjEvent",
    "SyncobjFile",
    "Vgem",
    "VgemFence",
    "can_import",
    "has_connectors",
    "inspect",
    "sibling",
    "wait_all",
    "wait_any",
]
