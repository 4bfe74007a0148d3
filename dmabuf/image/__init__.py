"""Images: the pixel formats of DRM and V4L2, and what the bytes of buffers are as pixels."""

from dmabuf.image.formats import (
    FORMATS,
    Component,
    PixelFormat,
    PlaneLayout,
    fourcc,
    fourcc_text,
    from_drm,
    from_v4l2,
    pixel_format,
)
from dmabuf.image.image import LINEAR, Image, ImageScope, Plane

__all__ = [
    "FORMATS",
    "LINEAR",
    "Component",
    "Image",
    "ImageScope",
    "PixelFormat",
    "Plane",
    "PlaneLayout",
    "fourcc",
    "fourcc_text",
    "from_drm",
    "from_v4l2",
    "pixel_format",
]
