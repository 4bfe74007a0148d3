"""Pixels computed one by one with fractions, from bytes at addresses: what `to_rgb` must give.

Written from the kernel's documentation of the formats (drm_fourcc.h, pixfmt-*.rst) and from ITU-R
BT.601 and BT.709; knows nothing of the package's table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

WIDTHS = {
    "565": (5, 6, 5),
    "888": (8, 8, 8),
    "8888": (8, 8, 8, 8),
    "4444": (4, 4, 4, 4),
    "1555": (1, 5, 5, 5),
    "5551": (5, 5, 5, 1),
    "2101010": (2, 10, 10, 10),
    "1010102": (10, 10, 10, 2),
    "16161616": (16, 16, 16, 16),
}
# Of chroma: pixels that one value covers, across and down.
SUBSAMPLING = {
    **dict.fromkeys(("NV12", "NV21", "P010", "YUV420", "YVU420"), (2, 2)),
    **dict.fromkeys(("NV16", "NV61", "YUV422", "YVU422"), (2, 1)),
    **dict.fromkeys(("NV24", "NV42", "YUV444", "YVU444"), (1, 1)),
    **dict.fromkeys(("YUYV", "YVYU", "UYVY", "VYUY"), (2, 1)),
}
RED = {"bt601": Fraction("0.299"), "bt709": Fraction("0.2126")}
BLUE = {"bt601": Fraction("0.114"), "bt709": Fraction("0.0722")}

RGB = tuple[int, int, int]


class Picture(NamedTuple):
    """Bytes, and where in them the planes of a format are."""

    memory: bytes
    name: str
    width: int
    height: int
    offsets: Sequence[int]
    strides: Sequence[int]

    def number(self, plane: int, row: int, byte: int, size: int = 1) -> int:
        """Return the little-endian number at a byte of a row of a plane."""
        start = self.offsets[plane] + row * self.strides[plane] + byte
        return int.from_bytes(self.memory[start : start + size], "little")


def pixel(picture: Picture, x: int, y: int, matrix: str = "bt601", full_range: bool = False) -> RGB:
    """Return red, green and blue of one pixel."""
    if picture.name in SUBSAMPLING:
        bits = 10 if picture.name == "P010" else 8
        return from_yuv(*_yuv(picture, x, y), bits, matrix, full_range)
    packed = re.fullmatch(r"([RGBXA]+)(\d+)", picture.name)
    if packed and packed[2] in WIDTHS:
        return _rgb(picture, x, y, packed[1], WIDTHS[packed[2]])
    raw = re.fullmatch(r"(?:R|Y|S(....))(\d+)(P?)", picture.name)
    assert raw, f"{picture.name} has no reference"
    mosaic, bits = raw[1], int(raw[2])
    if not mosaic:
        (value,) = [scaled(Fraction(_raw(picture, x, y, bits, raw[3])), bits)]
        return value, value, value
    red, green, blue = (
        scaled(_mean(picture, x, y, mosaic, colour, bits, raw[3]), bits) for colour in "RGB"
    )
    return red, green, blue


def scaled(value: Fraction, bits: int) -> int:
    """Scale so that the greatest value becomes 255."""
    return rounded(value * 255 / (2**bits - 1))


def rounded(value: Fraction) -> int:
    """Round to the nearest of 0 to 255, halves up."""
    return min(max((value + Fraction(1, 2)).__floor__(), 0), 255)


def from_yuv(y: int, cb: int, cr: int, bits: int, matrix: str, full_range: bool) -> RGB:
    """Convert as BT.601 and BT.709 define: luma 16 to 235 and chroma 16 to 240, or all values."""
    unit = 2 ** (bits - 8)
    if full_range:
        luma = Fraction(y, 2**bits - 1)
        blue, red = (Fraction(c - 128 * unit, 2**bits - 1) for c in (cb, cr))
    else:
        luma = Fraction(y - 16 * unit, 219 * unit)
        blue, red = (Fraction(c - 128 * unit, 224 * unit) for c in (cb, cr))
    kr, kb = RED[matrix], BLUE[matrix]
    r = luma + red * 2 * (1 - kr)
    b = luma + blue * 2 * (1 - kb)
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    return rounded(r * 255), rounded(g * 255), rounded(b * 255)


def _rgb(picture: Picture, x: int, y: int, order: str, widths: Sequence[int]) -> RGB:
    size = sum(widths) // 8
    word = picture.number(0, y, x * size, size)
    values = {}
    for letter, bits in zip(reversed(order), reversed(widths), strict=True):
        values[letter] = scaled(Fraction(word % 2**bits), bits)
        word >>= bits
    return values["R"], values["G"], values["B"]


def _yuv(picture: Picture, x: int, y: int) -> tuple[int, int, int]:
    name = picture.name
    across, down = SUBSAMPLING[name]
    if name in ("YUYV", "YVYU", "UYVY", "VYUY"):
        four = [picture.number(0, y, x // 2 * 4 + byte) for byte in range(4)]
        luma = [byte for letter, byte in zip(name, four, strict=True) if letter == "Y"][x % 2]
        return luma, four[name.index("U")], four[name.index("V")]
    column, row = x // across, y // down
    if name == "P010":
        luma = picture.number(0, y, 2 * x, 2) >> 6
        cb, cr = (picture.number(1, row, 4 * column + byte, 2) >> 6 for byte in (0, 2))
        return luma, cb, cr
    luma = picture.number(0, y, x)
    if name.startswith("NV"):
        first, second = (picture.number(1, row, 2 * column + byte) for byte in (0, 1))
        swapped = name in ("NV21", "NV61", "NV42")
    else:
        first, second = (picture.number(plane, row, column) for plane in (1, 2))
        swapped = name.startswith("YVU")
    return (luma, second, first) if swapped else (luma, first, second)


def _raw(picture: Picture, x: int, y: int, bits: int, packed: str) -> int:
    if not packed:
        size = 1 if bits == 8 else 2
        return picture.number(0, y, x * size, size) % 2**bits
    together, size = {10: (4, 5), 12: (2, 3)}[bits]
    group, place = x // together * size, x % together
    high, last = (picture.number(0, y, group + byte) for byte in (place, size - 1))
    return high << bits - 8 | last >> place * (bits - 8) & 2 ** (bits - 8) - 1


def _mean(
    picture: Picture, x: int, y: int, mosaic: str, colour: str, bits: int, packed: str
) -> Fraction:
    """Return the mean of the samples of a colour at a pixel, or else beside it, or else around."""

    def colour_at(x: int, y: int) -> str:
        return mosaic[y % 2 * 2 + x % 2]

    def mirrored(place: int, length: int) -> int:
        return min(abs(place), 2 * (length - 1) - abs(place))

    for distance in (0, 1, 2):
        found = [
            _raw(
                picture,
                mirrored(x + a, picture.width),
                mirrored(y + b, picture.height),
                bits,
                packed,
            )
            for a in (-1, 0, 1)
            for b in (-1, 0, 1)
            if abs(a) + abs(b) == distance and colour_at(x + a, y + b) == colour
        ]
        if found:
            return Fraction(sum(found), len(found))
    raise AssertionError(f"no {colour} near {x}, {y}")
