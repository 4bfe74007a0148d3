"""DRM devices: import, export and creation of buffers, sync objects, and vgem, a test device."""

from dmabuf.devices.gem import Capabilities, Device, DumbBuffer, GemBuffer
from dmabuf.devices.syncobj import Syncobj, SyncobjEvent, SyncobjFile, wait_all, wait_any
from dmabuf.devices.vgem import Vgem, VgemFence

__all__ = [
    "Capabilities",
    "Device",
    "DumbBuffer",
    "GemBuffer",
    "Syncobj",
    "SyncobjEvent",
    "SyncobjFile",
    "Vgem",
    "VgemFence",
    "wait_all",
    "wait_any",
]
