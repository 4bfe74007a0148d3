"""DRM devices: import, export and creation of buffers, and vgem, which holds them busy."""

from dmabuf.devices.gem import Capabilities, Device, DumbBuffer, GemBuffer
from dmabuf.devices.vgem import Vgem, VgemFence

__all__ = ["Capabilities", "Device", "DumbBuffer", "GemBuffer", "Vgem", "VgemFence"]
