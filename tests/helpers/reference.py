"""Pixels computed one by one with fractions, from bytes at addresses: what `to_rgb` must give.

Written from the kernel's documentation of the formats (drm_fourcc.h, pixfmt-*.rst) and from ITU-R
BT.601 and BT.709; knows nothing of the package's table.
"""

from __future__ import annotations

import math
import re
import struct
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
    "332": (3, 3, 2),
    "161616": (16, 16, 16),
}
# Of chroma: pixels that one value covers, across and down.
SUBSAMPLING = {
    **dict.fromkeys(("NV12", "NV21", "P010", "P012", "P016", "YUV420", "YVU420"), (2, 2)),
    **dict.fromkeys(("NV16", "NV61", "P210", "YUV422", "YVU422"), (2, 1)),
    **dict.fromkeys(("NV24", "NV42", "YUV444", "YVU444"), (1, 1)),
    **dict.fromkeys(("YUYV", "YVYU", "UYVY", "VYUY"), (2, 1)),
    **dict.fromkeys(("Y210", "Y212", "Y216"), (2, 1)),
    "NV15": (2, 2),
    "NV20": (2, 1),
    "NV30": (1, 1),
    "P030": (2, 2),
    **dict.fromkeys(("Y410", "XVYU2101010"), (1, 1)),
}
# A byte each, in the order in memory.
BYTES = {
    "VUY888": "YUV",
    "AYUV8888": "VUYA",
    "XYUV8888": "VUYX",
    "AVUY8888": "YUVA",
    "XVUY8888": "YUVX",
    "AYUV32": "AYUV",
    "XYUV32": "XYUV",
}
DEEP = {"Y212": 12, "Y216": 16, "P012": 12, "P016": 16}
DEEP |= dict.fromkeys(("P010", "P210", "Y210", "Y410", "XVYU2101010"), 10)
DEEP |= dict.fromkeys(("NV15", "NV20", "NV30", "P030"), 10)
RED = {
    "bt601": Fraction("0.299"),
    "bt709": Fraction("0.2126"),
    "bt2020": Fraction("0.2627"),
    "smpte240m": Fraction("0.212"),
}
BLUE = {
    "bt601": Fraction("0.114"),
    "bt709": Fraction("0.0722"),
    "bt2020": Fraction("0.0593"),
    "smpte240m": Fraction("0.087"),
}

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

    def ten_bits(self, plane: int, row: int, index: int) -> int:
        """Return the value at an index of a row: four in 5 bytes, of P030 three in 4."""
        values, word = (3, 4) if self.name == "P030" else (4, 5)
        whole = self.number(plane, row, index // values * word, word)
        return whole >> index % values * 10 & 1023


def pixel(picture: Picture, x: int, y: int, matrix: str = "bt601", full_range: bool = False) -> RGB:
    """Return red, green and blue of one pixel."""
    if picture.name in SUBSAMPLING or picture.name in BYTES:
        bits = DEEP.get(picture.name, 8)
        return from_yuv(*_yuv(picture, x, y), bits, matrix, full_range)
    if picture.name.endswith("F"):
        return _half_floats(picture, x, y)
    if picture.name in ("Y8I", "Y12I", "Y16I", "Z16", "Y16_BE"):
        return _grey(picture, x, y)
    packed = re.fullmatch(r"([RGBXA]+)(\d+)", picture.name)
    if packed and packed[2] in WIDTHS:
        return _rgb(picture, x, y, packed[1], WIDTHS[packed[2]])
    raw = re.fullmatch(r"(?:R|Y|Z|S(....))(\d+)(P?)", picture.name)
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


def scaled_limited(value: int, bits: int) -> int:
    """Scale so that 16/256 of all values become 0, and 235/256 255."""
    return rounded((Fraction(value * 256, 2**bits) - 16) * Fraction(255, 219))


def rounded(value: Fraction) -> int:
    """Round to the nearest of 0 to 255, halves up."""
    return min(max((value + Fraction(1, 2)).__floor__(), 0), 255)


def from_yuv(y: int, cb: int, cr: int, bits: int, matrix: str, full_range: bool) -> RGB:
    """Convert as these standards define: luma 16 to 235 and chroma 16 to 240, or all values."""
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
    if name in BYTES:
        order = BYTES[name]
        y_cb_cr = [picture.number(0, y, x * len(order) + order.index(c)) for c in "YUV"]
        return y_cb_cr[0], y_cb_cr[1], y_cb_cr[2]
    across, down = SUBSAMPLING[name]
    if name in ("YUYV", "YVYU", "UYVY", "VYUY"):
        four = [picture.number(0, y, x // 2 * 4 + byte) for byte in range(4)]
        luma = [byte for letter, byte in zip(name, four, strict=True) if letter == "Y"][x % 2]
        return luma, four[name.index("U")], four[name.index("V")]
    if name in ("Y410", "XVYU2101010"):
        word = picture.number(0, y, 4 * x, 4)
        return word >> 10 & 1023, word & 1023, word >> 20 & 1023
    if name in ("Y210", "Y212", "Y216"):
        unused = 16 - DEEP[name]
        luma, cb, cr = (
            picture.number(0, y, x // 2 * 8 + byte, 2) >> unused for byte in (x % 2 * 4, 2, 6)
        )
        return luma, cb, cr
    column, row = x // across, y // down
    if name in ("NV15", "NV20", "NV30", "P030"):
        cb, cr = (picture.ten_bits(1, row, 2 * column + place) for place in (0, 1))
        return picture.ten_bits(0, y, x), cb, cr
    if name in DEEP:
        unused = 16 - DEEP[name]
        luma = picture.number(0, y, 2 * x, 2) >> unused
        cb, cr = (picture.number(1, row, 4 * column + byte, 2) >> unused for byte in (0, 2))
        return luma, cb, cr
    luma = picture.number(0, y, x)
    if name.startswith("NV"):
        first, second = (picture.number(1, row, 2 * column + byte) for byte in (0, 1))
        swapped = name in ("NV21", "NV61", "NV42")
    else:
        first, second = (picture.number(plane, row, column) for plane in (1, 2))
        swapped = name.startswith("YVU")
    return (luma, second, first) if swapped else (luma, first, second)


def _half_floats(picture: Picture, x: int, y: int) -> RGB:
    """Return a pixel of four half floats, of which 1 is the greatest that is shown."""
    letters = picture.name[3::-1]
    values = {}
    for place, letter in enumerate(letters):
        start = picture.offsets[0] + y * picture.strides[0] + x * 8 + 2 * place
        (value,) = struct.unpack("<e", picture.memory[start : start + 2])
        shown = 0 if math.isnan(value) else min(max(value, 0), 1)
        values[letter] = rounded(Fraction(shown) * 255)
    return values["R"], values["G"], values["B"]


def _grey(picture: Picture, x: int, y: int) -> RGB:
    """Return a pixel of grey or depth; of two eyes' the left one's."""
    if picture.name == "Y8I":
        value, bits = picture.number(0, y, 2 * x), 8
    elif picture.name == "Y12I":
        value, bits = picture.number(0, y, 3 * x, 3) & 4095, 12
    else:
        value, bits = picture.number(0, y, x * (4 if picture.name == "Y16I" else 2), 2), 16
    if picture.name == "Y16_BE":
        value = value >> 8 | (value & 255) << 8
    shown = scaled(Fraction(value), bits)
    return shown, shown, shown


def _raw(picture: Picture, x: int, y: int, bits: int, packed: str) -> int:
    if not packed:
        size = 1 if bits == 8 else 2
        return picture.number(0, y, x * size, size) % 2**bits
    together, size = {10: (4, 5), 12: (2, 3), 14: (4, 7)}[bits]
    group, place = x // together * size, x % together
    high = picture.number(0, y, group + place)
    last = picture.number(0, y, group + together, size - together)
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
