"""Look-up of pixel formats, by name or by a code of DRM's or V4L2's.

Names are DRM's, and read as DRM reads them: XRGB8888 is a little-endian word with blue in its low
bits, so its bytes are B, G, R, X; RGB888 is B, G, R. Where DRM has no name (Bayer, packed grey),
names are V4L2's.

The two APIs share most four-character codes, with one meaning. Two codes they read differently:
"RG16" is RGB565 to DRM and SRGGB16 to V4L2, "BA12" is BGRA4444 and SGRBG12. So give a code that
comes from an ioctl to `from_drm` or `from_v4l2`; `pixel_format` refuses these two.
"""

from __future__ import annotations

from dmabuf._checked import whole
from dmabuf.image._table import FORMATS
from dmabuf.image.layout import PixelFormat, fourcc, fourcc_text

LINEAR = 0
"""DRM_FORMAT_MOD_LINEAR: rows follow each other, `stride` bytes apart."""

_ALIASES = {"I420": "YUV420"}  # as GStreamer, FFmpeg and Windows have it
_DEPRECATED = {"BGR4": "XRGB8888", "RGB4": "BGRX8888", "R444": "XRGB4444", "RGBO": "XRGB1555"}

_BY_DRM = {entry.drm: entry for entry in FORMATS.values() if entry.drm is not None}
_BY_V4L2 = {
    code: entry
    for entry in FORMATS.values()
    for code in (entry.v4l2, entry.v4l2_planar)
    if code is not None
} | {fourcc(code): FORMATS[name] for code, name in _DEPRECATED.items()}


def pixel_format(spec: str | int | PixelFormat) -> PixelFormat:
    """Return a format by its name ("NV12", "I420"), or by a code of DRM or V4L2, as text or int.

    ValueError if there is no such format, or if the code means different formats to DRM and V4L2.
    """
    if isinstance(spec, PixelFormat):
        return spec
    if isinstance(spec, str):
        named = FORMATS.get(_ALIASES.get(spec, spec))
        if named is not None:
            return named
        code = fourcc(spec) if 0 < len(spec) <= 4 and spec.isascii() else -1
    else:
        code = whole(spec, "a pixel format, unless it is text,")
    drm, v4l2 = _BY_DRM.get(code), _BY_V4L2.get(code)
    if drm is not None and v4l2 is not None and drm is not v4l2:
        raise ValueError(
            f"{fourcc_text(code)} is {drm} to DRM and {v4l2} to V4L2;"
            " say which, by name, from_drm() or from_v4l2()"
        )
    found = drm or v4l2
    if found is None:
        shown = repr(spec) if isinstance(spec, str) else fourcc_text(code)
        raise ValueError(
            f"no pixel format {shown} is known;"
            " give a name as DRM's (XRGB8888, NV12), or a code of DRM's or V4L2's"
        )
    return found


def from_drm(code: int) -> PixelFormat:
    """Return the format of a DRM code; ValueError if it is not in the table."""
    return _look_up(_BY_DRM, code, "DRM")


def from_v4l2(code: int) -> PixelFormat:
    """Return the format of a V4L2 code; ValueError if it is not in the table.

    Several codes can mean one format: the one with a buffer per plane (NM12 for NV12), and those
    that V4L2 has deprecated (BGR4 for XRGB8888, RGB4 for BGRX8888).
    """
    return _look_up(_BY_V4L2, code, "V4L2")


def _look_up(table: dict[int, PixelFormat], code: int, api: str) -> PixelFormat:
    found = table.get(whole(code, f"a code of {api}'s"))
    if found is None:
        raise ValueError(f"{api}'s pixel format {fourcc_text(code)} is not known")
    return found
