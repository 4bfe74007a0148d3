"""The meaning of pixel values: the encoding of luma and chroma, and the numeric range.

The names are those of the KMS properties COLOR_ENCODING and COLOR_RANGE.
"""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import Any, TypeVar


class ColorEncoding(Enum):
    """The matrix by which red, green and blue were encoded as luma and chroma.

        image = dmabuf.Image(buffer, "NV12", 1920, 1080, color_encoding=ColorEncoding.BT709)

    `Image` takes the member or its value, "bt709".
    """

    BT601 = "bt601"
    """ITU-R BT.601: standard definition, JPEG, and most webcams."""
    BT709 = "bt709"
    """ITU-R BT.709: high definition."""
    BT2020 = "bt2020"
    """ITU-R BT.2020 with non-constant luminance: ultra high definition."""
    SMPTE240M = "smpte240m"
    """SMPTE 240M: early high definition."""


class ColorRange(Enum):
    """The numeric range of the samples: which numbers stand for black and white.

        image = dmabuf.Image(buffer, "NV12", 640, 480, color_range=ColorRange.FULL)

    `Image` takes the member or its value, "full".
    """

    FULL = "full"
    """All numbers are used: 0 to 255 with 8 bits."""
    LIMITED = "limited"
    """16 to 235 with 8 bits, and 16 to 240 for chroma."""


Encoding = ColorEncoding | str | None
"""A colour encoding, its value as text ("bt709"), or None where it isn't known."""
Range = ColorRange | str | None
"""A colour range, its value as text ("full"), or None where it isn't known."""

_Member = TypeVar("_Member", bound=Enum)

_ENCODINGS = (None, *ColorEncoding)
_RANGES = (None, *ColorRange)


def checked_encoding(value: Encoding) -> ColorEncoding | None:
    """Return what somebody gave as a colour encoding; ValueError if it is none."""
    return _checked(value, ColorEncoding, "colour encoding")


def checked_range(value: Range) -> ColorRange | None:
    """Return what somebody gave as a colour range; ValueError if it is none."""
    return _checked(value, ColorRange, "colour range")


def _checked(value: _Member | str | None, kind: type[_Member], what: str) -> _Member | None:
    try:
        return None if value is None else kind(value)
    except ValueError:
        known = ", ".join(member.value for member in kind)
        raise ValueError(f"the {what} must be one of {known}, not {value!r}") from None


def pack_colors(encoding: ColorEncoding | None, range: ColorRange | None) -> int:
    """Return both as a byte; 0 if nothing is known."""
    return _ENCODINGS.index(encoding) | _RANGES.index(range) << 4


@cache
def unpack_colors(code: int) -> dict[str, Any]:
    """Return what `pack_colors` packed, as `Image` takes it; None for what is newer than this."""
    return {
        "color_encoding": dict(enumerate(_ENCODINGS)).get(code & 15),
        "color_range": dict(enumerate(_RANGES)).get(code >> 4),
    }
