"""GStreamer's video formats: what our pixel formats are called there, and where planes are.

Follows gst-libs/gst/video/video-format.h and fill_planes() of video-info.c of plugins-base.
"""

from __future__ import annotations

from typing import NamedTuple

from dmabuf.image.formats import pixel_format
from dmabuf.image.layout import PixelFormat

DMA_DRM = 114
"""GST_VIDEO_FORMAT_DMA_DRM: the format is told by `drm-format`."""

NAMES = {
    "YUV420": ("I420", 2),
    "YVU420": ("YV12", 3),
    "YUYV": ("YUY2", 4),
    "UYVY": ("UYVY", 5),
    "XBGR8888": ("RGBx", 7),
    "XRGB8888": ("BGRx", 8),
    "BGRX8888": ("xRGB", 9),
    "RGBX8888": ("xBGR", 10),
    "ABGR8888": ("RGBA", 11),
    "ARGB8888": ("BGRA", 12),
    "BGRA8888": ("ARGB", 13),
    "RGBA8888": ("ABGR", 14),
    "BGR888": ("RGB", 15),
    "RGB888": ("BGR", 16),
    "YUV422": ("Y42B", 18),
    "YVYU": ("YVYU", 19),
    "YUV444": ("Y444", 20),
    "NV12": ("NV12", 23),
    "NV21": ("NV21", 24),
    "R8": ("GRAY8", 25),
    "R16": ("GRAY16_LE", 27),
    "RGB565": ("RGB16", 29),
    "BGR565": ("BGR16", 30),
    "NV16": ("NV16", 51),
    "NV24": ("NV24", 52),
    "NV61": ("NV61", 60),
    "P010": ("P010_10LE", 62),
    "VYUY": ("VYUY", 64),
    "ARGB2101010": ("BGR10A2_LE", 85),
    "ABGR2101010": ("RGB10A2_LE", 86),
}
"""Our name of each format, and GStreamer's name and number."""

_OURS = {name: ours for ours, (name, _) in NAMES.items()}


class Placement(NamedTuple):
    """Where the planes of a picture are, and how many bytes it has in all."""

    strides: tuple[int, ...]
    offsets: tuple[int, ...]
    size: int


def find_format(name: str) -> PixelFormat:
    """Return our format of a name of GStreamer's. ValueError if there is none."""
    try:
        return pixel_format(_OURS[name])
    except KeyError:
        raise ValueError(
            f"GStreamer's format {name!r} is not known to dmabuf; convert in the pipeline:"
            " videoconvert ! video/x-raw,format=NV12"
        ) from None


def default_placement(format: PixelFormat, width: int, height: int) -> Placement:
    """Return where GStreamer takes planes to be that no GstVideoMeta tells.

    Rows are multiples of 4 bytes. Where chroma has half the rows, the rows of luma are even.
    """
    strides = tuple(-(-plane.row(width) // 4) * 4 for plane in format.planes)
    step = max(plane.down for plane in format.planes)
    even = -(-height // step) * step
    offsets, end = [], 0
    for plane, stride in zip(format.planes, strides, strict=True):
        offsets.append(end)
        end += even // plane.down * stride
    return Placement(strides, tuple(offsets), end)
