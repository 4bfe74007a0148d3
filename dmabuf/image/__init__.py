"""Images: the pixel formats of DRM and V4L2, and the pixels in buffers as numpy arrays."""

from dmabuf.image._table import FORMATS
from dmabuf.image.colors import ColorEncoding, ColorRange
from dmabuf.image.formats import LINEAR, from_drm, from_v4l2, pixel_format
from dmabuf.image.image import Image
from dmabuf.image.layout import (
    Component,
    Packing,
    PixelFormat,
    PlaneLayout,
    fourcc,
    fourcc_text,
)
from dmabuf.image.planes import Plane
from dmabuf.image.scope import ImageScope

__all__ = [
    "FORMATS",
    "LINEAR",
    "ColorEncoding",
    "ColorRange",
    "Component",
    "Image",
    "ImageScope",
    "Packing",
    "PixelFormat",
    "Plane",
    "PlaneLayout",
    "fourcc",
    "fourcc_text",
    "from_drm",
    "from_v4l2",
    "pixel_format",
]
