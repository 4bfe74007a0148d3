"""Windows of Wayland desktops, which show images without a copy.

with dmabuf.interop.wayland.Window(640, 480, title="camera") as window:
    flip = window.show(frame.image)

It speaks Wayland's protocol itself: no library is needed, but a compositor that takes dma-bufs, as
weston, sway, GNOME's and KDE's do.
"""

from dmabuf.interop.wayland.flip import Flip
from dmabuf.interop.wayland.window import Window, WindowEvent

__all__ = ["Flip", "Window", "WindowEvent"]
