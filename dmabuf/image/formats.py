"""Look up pixel formats by name, or by a DRM or V4L2 code.

Names are those of DRM and mean what they mean there: XRGB8888 is a little-endian word with blue in
its low bits, so its bytes are B, G, R, X; the bytes of RGB888 are B, G, R. Where DRM has no name
(Bayer, packed grey), the names are those of V4L2.

The two APIs share most four-character codes. Two codes have different meanings: "RG16" is RGB565 in
DRM and SRGGB16 in V4L2; "BA12" is BGRA4444 in DRM and SGRBG12 in V4L2. `pixel_format` refuses these
two. For a code that comes from an ioctl use `from_drm` or `from_v4l2`.
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
    """Return a format by its name ("NV12", "I420"), or by a DRM or V4L2 code, as text or int.

    ValueError if there is no such format, or if DRM and V4L2 give the code different meanings.
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
    """Return the format of a DRM code. ValueError if it is not in the table."""
    return _look_up(_BY_DRM, code, "DRM")


def from_v4l2(code: int) -> PixelFormat:
    """Return the format of a V4L2 code. ValueError if it is not in the table.

    Several codes can stand for one format: the code with one buffer per plane (NM12 for NV12), and
    deprecated codes (BGR4 for XRGB8888, RGB4 for BGRX8888).
    """
    return _look_up(_BY_V4L2, code, "V4L2")


def _look_up(table: dict[int, PixelFormat], code: int, api: str) -> PixelFormat:
    found = table.get(whole(code, f"a code of {api}'s"))
    if found is None:
        raise ValueError(f"{api}'s pixel format {fourcc_text(code)} is not known")
    return found
