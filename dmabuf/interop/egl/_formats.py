"""What the GPU imports: pixel formats, and the modifiers of each."""

from __future__ import annotations

from dmabuf.image import PixelFormat
from dmabuf.image.formats import from_drm
from dmabuf.interop.egl import _egl

MODIFIERS = "EGL_EXT_image_dma_buf_import_modifiers"


def formats(display: object = None) -> dict[PixelFormat, list[int]]:
    """Return the formats that the GPU imports, each with its modifiers.

    `display` is an EGLDisplay, as a number or a ctypes pointer; the default is that of the current
    context, or of this machine's GPU. A format without modifiers is imported in a layout on which
    its exporter and the driver agree; what the CPU writes is always linear. Formats that are not in
    `dmabuf.image.FORMATS` are left out.

    ImportError without libEGL. UnsupportedError if the driver lacks
    EGL_EXT_image_dma_buf_import_modifiers. Thread-safe.
    """
    chosen = _egl.choose_display(display)
    _egl.require(chosen, MODIFIERS)
    found = {}
    for code in _egl.formats(chosen):
        try:
            format = from_drm(code)
        except ValueError:
            continue
        found[format] = list(_egl.modifiers(chosen, code))
    return found
