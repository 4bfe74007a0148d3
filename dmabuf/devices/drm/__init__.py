"""DRM devices: buffers that they import and create, sync objects, and vgem, a test device."""

from typing import TYPE_CHECKING

from dmabuf._lazy import attributes

if TYPE_CHECKING:
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

# Imported when they are first used: who only looks for devices needs few of them.
__getattr__, __dir__ = attributes(
    __name__,
    {
        "Device": "device",
        "DrmInfo": "device",
        "DumbBuffer": "gem",
        "GemBuffer": "gem",
        "Syncobj": "syncobj",
        "SyncobjEvent": "_syncobj_event",
        "SyncobjFile": "syncobj",
        "Vgem": "vgem",
        "VgemFence": "vgem",
        "can_import": "_inspect",
        "has_connectors": "_node",
        "inspect": "_inspect",
        "sibling": "_node",
        "wait_all": "syncobj",
        "wait_any": "syncobj",
    },
)
