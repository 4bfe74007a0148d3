"""DRM devices: import, export and creation of buffers, sync objects, and vgem, a test device."""

from dmabuf.devices.drm.gem import Capabilities, Device, DumbBuffer, GemBuffer, sibling
from dmabuf.devices.drm.inspect import DrmInfo, has_connectors, inspect
from dmabuf.devices.drm.syncobj import Syncobj, SyncobjEvent, SyncobjFile, wait_all, wait_any
from dmabuf.devices.drm.vgem import Vgem, VgemFence

__all__ = [
    "Capabilities",
    "Device",
    "DrmInfo",
    "DumbBuffer",
    "GemBuffer",
    "Syncobj",
    "SyncobjEvent",
    "SyncobjFile",
    "Vgem",
    "VgemFence",
    "has_connectors",
    "inspect",
    "sibling",
    "wait_all",
    "wait_any",
]
