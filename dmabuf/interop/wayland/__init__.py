"""Windows on Wayland desktops, which show images without a copy.

    with dmabuf.interop.wayland.Window(640, 480, title="camera") as window:
        flip = window.show(frame.image)

It implements the Wayland protocol itself and needs no library, but a compositor that imports
dma-bufs: weston, sway, GNOME and KDE do.
"""

from dmabuf.interop.wayland.flip import Flip
from dmabuf.interop.wayland.window import Window, WindowEvent

__all__ = ["Flip", "Window", "WindowEvent"]
