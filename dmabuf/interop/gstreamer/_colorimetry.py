"""GStreamer's words for colours: "bt709", or four numbers for range, matrix, transfer, primaries.

Follows gst-libs/gst/video/video-color.c of gst-plugins-base.
"""

from __future__ import annotations

import re

from dmabuf.image import ColorEncoding, ColorRange

_RANGES = {"1": ColorRange.FULL, "2": ColorRange.LIMITED}
_MATRICES = {
    "3": ColorEncoding.BT709,
    "4": ColorEncoding.BT601,
    "5": ColorEncoding.SMPTE240M,
    "6": ColorEncoding.BT2020,
}
_NAMES = {
    "bt601": "2:4",
    "bt709": "2:3",
    "smpte240m": "2:5",
    "sRGB": "1:1",
    **dict.fromkeys(("bt2020", "bt2020-10", "bt2100-pq", "bt2100-hlg"), "2:6"),
}


def parse_colorimetry(text: str) -> tuple[ColorEncoding | None, ColorRange | None]:
    """Return what a colorimetry says of the encoding and the range; None for what it doesn't."""
    found = re.match(r"(\d+):(\d+)(?::|$)", _NAMES.get(text, text))
    if found is None:
        return None, None
    return _MATRICES.get(found[2]), _RANGES.get(found[1])


def colorimetry(encoding: ColorEncoding | None, range: ColorRange | None) -> str | None:
    """Return the colorimetry of Y'CbCr; None if not both are known, which GStreamer wants."""
    if encoding is None or range is None:
        return None
    ranges = {kind: number for number, kind in _RANGES.items()}
    matrices = {kind: number for number, kind in _MATRICES.items()}
    return f"{ranges[range]}:{matrices[encoding]}:0:0"
