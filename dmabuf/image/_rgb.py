"""Conversion of planes to 8-bit RGB, for looking at; imports numpy, so imported when first used.

Every value is that of exact arithmetic, rounded once to the nearest (halves up).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy

from dmabuf.image.colors import ColorEncoding
from dmabuf.image.layout import Component, Packing, PixelFormat, PlaneLayout

Array = numpy.ndarray[Any, Any]

# The weights of red and blue in luma: Rec. ITU-R BT.601-7, 2.5.1; BT.709-6, item 3.2; BT.2020-2,
# table 4; SMPTE 240M as the kernel's documentation of colorspaces has it.
_WEIGHTS = {
    ColorEncoding.BT601: (0.299, 0.114),
    ColorEncoding.BT709: (0.2126, 0.0722),
    ColorEncoding.BT2020: (0.2627, 0.0593),
    ColorEncoding.SMPTE240M: (0.212, 0.087),
}

# Halves go up. Exact values lie on a lattice whose points are 1e-11 or more off any half that they
# don't meet, and doubles are off by 1e-12 at the most: the sum's floor is that of exact arithmetic.
_HALF = 0.5 + 2.0**-39


def to_rgb(
    format: PixelFormat,
    planes: tuple[Array, ...],
    width: int,
    height: int,
    encoding: ColorEncoding,
    full_range: bool,
) -> Array:
    """Return (height, width, 3) of "u1"; see `Image.to_rgb`."""
    if format.model == "YUV":
        luma, blue, red = (
            _samples(format, planes, component, width, height) for component in format.components
        )
        return _from_yuv(luma, blue, red, format.components[0].bits, encoding, full_range)
    rgb = numpy.empty((height, width, 3), "u1")
    if format.model == "RGB":
        for channel, component in enumerate(format.components):
            samples = _samples(format, planes, component, width, height)
            rgb[..., channel] = _eight_bits(samples, component.bits, full_range)
        return rgb
    bits = format.components[0].bits
    raw = _samples(format, planes, format.components[0], width, height)
    if format.model == "Y":
        rgb[:] = _eight_bits(raw, bits, full_range)[..., None]
    else:
        _demosaic(raw, bits, format.model, rgb)
    return rgb


def _samples(
    format: PixelFormat, planes: tuple[Array, ...], component: Component, width: int, height: int
) -> Array:
    """Return a component's value at each pixel: the nearest one where it is sub-sampled."""
    layout, plane = format.planes[component.plane], planes[component.plane]
    if plane.ndim == 3:
        plane = plane[..., component.channel]
    if layout.packing is not Packing.NONE:
        plane = _unpacked(layout, plane, component.bits)
    elif component.bits < 8 * layout.itemsize:
        plane = plane >> component.shift & (1 << component.bits) - 1
    plane = plane[:, component.first :: component.step]
    across = layout.across * component.step // layout.values(component.bits)
    if layout.down > 1:
        plane = plane.repeat(layout.down, 0)
    if across > 1:
        plane = plane.repeat(across, 1)
    return plane[:height, :width]


@functools.lru_cache
def _scale(bits: int, full_range: bool) -> Array:
    """Return the 8 bits of each value."""
    values = numpy.arange(1 << bits, dtype="i8")
    if full_range:
        above, span = values, (1 << bits) - 1
    else:  # of 256 parts of all values, 16 are below black and 219 are between it and white
        above, span = (values << 8) - (16 << bits), 219 << bits
    eight: Array = numpy.clip((above * 510 + span) // (2 * span), 0, 255).astype("u1")
    return eight


def _eight_bits(values: Array, bits: int, full_range: bool) -> Array:
    """Scale so that white becomes 255. Of floats that is 1; what is no number is 0."""
    if values.dtype.kind == "f":
        exact: Array = numpy.nan_to_num(values.astype("f8"), nan=0.0).clip(0, 1) * 255 + _HALF
        return exact.astype("u1")
    return values if bits == 8 and full_range else _scale(bits, full_range)[values]


def _from_yuv(
    luma: Array, blue: Array, red: Array, bits: int, encoding: ColorEncoding, full_range: bool
) -> Array:
    of_red, of_blue = _WEIGHTS[encoding]
    of_green = 1 - of_red - of_blue
    unit = 1 << bits - 8
    peak = (1 << bits) - 1
    luma_scale, chroma_scale = (
        (255 / peak, 255 / peak) if full_range else (255 / (219 * unit), 255 / (224 * unit))
    )
    black = 0 if full_range else 16 * unit
    red_scale, blue_scale = 2 * (1 - of_red) * chroma_scale, 2 * (1 - of_blue) * chroma_scale
    rgb = numpy.empty((*luma.shape, 3), "u1")
    rows = max(1, (1 << 16) // luma.shape[1])  # at a time: what stays in the processor's cache
    for start in range(0, luma.shape[0], rows):
        part = slice(start, start + rows)
        grey = luma[part] * luma_scale + (_HALF - black * luma_scale)
        cr = (red[part] - 128.0 * unit) * red_scale
        cb = (blue[part] - 128.0 * unit) * blue_scale
        green = grey - cr * (of_red / of_green) - cb * (of_blue / of_green)
        for channel, exact in enumerate((grey + cr, green, grey + cb)):
            rgb[part, :, channel] = numpy.clip(exact, 0, 255)
    return rgb


def _unpacked(layout: PlaneLayout, plane: Array, bits: int) -> Array:
    """Return the values of a packed plane, row by row."""
    groups = plane.reshape(len(plane), -1, layout.columns)
    if layout.packing is Packing.MIPI:
        below, count = bits - 8, layout.values(bits)
        low = _low_first(groups[..., count:], below)
        values = groups[..., :count].astype("u2") << below | low
    else:
        word = layout.packing.value
        values = _low_first(groups.reshape(len(plane), -1, word), bits)
    return values.reshape(len(plane), -1)


def _low_first(words: Array, bits: int) -> Array:
    """Return the values that fill each word, whose bytes are the last axis, from its low bits."""
    count = words.shape[-1]
    whole = numpy.zeros(words.shape[:-1], "u8")
    for index in range(count):
        whole |= words[..., index].astype("u8") << numpy.uint64(8 * index)
    shifts = numpy.arange(count * 8 // bits, dtype="u8") * numpy.uint64(bits)
    return (whole[..., None] >> shifts & numpy.uint64((1 << bits) - 1)).astype("u2")


def _demosaic(raw: Array, bits: int, mosaic: str, rgb: Array) -> None:
    """Write the mean of the nearest samples of each colour. The image is mirrored at its edges.

    `mosaic` names the colours of the first 2x2 pixels, row by row.
    """
    height, width = raw.shape
    around = numpy.pad(raw.astype("u4"), 1, mode="reflect")

    def total(y: int, x: int, *places: tuple[int, int]) -> Array:
        """Add four samples around each second pixel, some of them repeatedly."""
        parts = [
            around[1 + y + b : 1 + height + b : 2, 1 + x + a : 1 + width + a : 2] for b, a in places
        ]
        return sum(parts[1:], parts[0]) * (4 // len(parts))

    beside, above = ((0, -1), (0, 1)), ((-1, 0), (1, 0))
    corners = ((-1, -1), (-1, 1), (1, -1), (1, 1))
    top = (1 << bits) - 1
    for place, colour in enumerate(mosaic):
        y, x = divmod(place, 2)
        if colour == "G":
            in_row = mosaic[place ^ 1]
            near = {"G": ((0, 0),), in_row: beside, "RB"[in_row == "R"]: above}
        else:
            near = {colour: ((0, 0),), "G": (*beside, *above), "RB"[colour == "R"]: corners}
        for channel, name in enumerate("RGB"):
            exact = total(y, x, *near[name])  # four times the mean
            rgb[y::2, x::2, channel] = (exact * 510 + 4 * top) // (8 * top)
