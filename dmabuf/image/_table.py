"""The one table of pixel formats: what DRM and V4L2 call them, and how they lie in memory.

Follows include/uapi/drm/drm_fourcc.h, include/uapi/linux/videodev2.h and
Documentation/userspace-api/media/v4l/pixfmt*.rst.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from dmabuf.image.layout import Component, Packing, PixelFormat, PlaneLayout, fourcc

_BIG_ENDIAN = 1 << 31  # v4l2_fourcc_be


def _format(
    name: str,
    codes: tuple[str | None, str | None, str | None],
    planes: tuple[PlaneLayout, ...],
    model: str,
    components: tuple[Component, ...],
) -> PixelFormat:
    drm, v4l2, planar = (fourcc(text) if text else None for text in codes)
    if name.endswith("_BE") and v4l2 is not None:
        v4l2 |= _BIG_ENDIAN
    return PixelFormat(name, drm, v4l2, planar, planes, model, components)


def _rgb(order: str, bits: tuple[int, ...], drm: str, v4l2: str | None) -> PixelFormat:
    """Describe packed RGB by its components from the high bits to the low, as DRM names them."""
    low = dict(zip(order, (sum(bits[place + 1 :]) for place in range(len(bits))), strict=True))
    width = dict(zip(order, bits, strict=True))
    if set(bits) in ({8}, {16}):  # an element each
        layout = PlaneLayout("u1" if bits[0] == 8 else "<u2", len(bits))
        components = tuple(Component(bits[0], channel=low[c] // bits[0]) for c in "RGB")
    else:
        layout = PlaneLayout(_unsigned(sum(bits)))
        components = tuple(Component(width[c], low[c]) for c in "RGB")
    name = order + "".join(map(str, bits))
    return _format(name, (drm, v4l2, None), (layout,), "RGB", components)


def _unsigned(bits: int) -> str:
    return "u1" if bits <= 8 else f"<u{bits // 8}"


def _half_float(order: str, drm: str) -> PixelFormat:
    """Describe RGB of half floats, by its components from the high bits to the low."""
    components = tuple(Component(16, channel=order[::-1].index(c)) for c in "RGB")
    layout = PlaneLayout("<f2", len(order))
    return _format(f"{order}16161616F", (drm, None, None), (layout,), "RGB", components)


def _yuyv(order: str, name: str = "", bits: int = 8) -> PixelFormat:
    """Describe two pixels in four elements: an array of (luma, chroma) pairs, or the reverse."""
    luma, blue, red = (order.index(letter) for letter in "YUV")
    dtype, shift = _high(bits)
    components = (
        Component(bits, shift, channel=luma % 2),
        *(
            Component(bits, shift, channel=place % 2, first=place // 2, step=2)
            for place in (blue, red)
        ),
    )
    layout = PlaneLayout(dtype, channels=2, across=2, columns=2)
    name = name or order
    return _format(name, (name, name, None), (layout,), "YUV", components)


def _high(bits: int) -> tuple[str, int]:
    """Return the type of elements that hold values in their high bits, and the lowest of these."""
    return ("u1", 0) if bits == 8 else ("<u2", 16 - bits)


def _packed_yuv(name: str, order: str, drm: str | None, v4l2: str | None) -> PixelFormat:
    """Describe all of a pixel's YUV together: a byte each, in the order in memory."""
    components = tuple(Component(channel=order.index(letter)) for letter in "YUV")
    layout = PlaneLayout(channels=len(order))
    return _format(name, (drm, v4l2, None), (layout,), "YUV", components)


def _yuv_word(name: str, drm: str) -> PixelFormat:
    """Describe YUV of 10 bits each in a word: alpha or nothing, Cr, Y, Cb from the high bits."""
    components = Component(10, 10), Component(10, 0), Component(10, 20)
    return _format(name, (drm, None, None), (PlaneLayout("<u4"),), "YUV", components)


def _semi_planar(
    name: str,
    across: int,
    down: int,
    planar: str | None = None,
    *,
    bits: int = 8,
    v4l2: bool = True,
) -> PixelFormat:
    """Describe a plane of luma and one of interleaved chroma. NV21, 61 and 42 have red first."""
    dtype, shift = _high(bits)
    planes = PlaneLayout(dtype), PlaneLayout(dtype, channels=2, across=across, down=down)
    red = name in ("NV21", "NV61", "NV42")
    components = (
        Component(bits, shift),
        Component(bits, shift, plane=1, channel=int(red)),
        Component(bits, shift, plane=1, channel=int(not red)),
    )
    codes = (name, name if v4l2 else None, planar)
    return _format(name, codes, planes, "YUV", components)


def _packed_semi_planar(
    name: str, across: int, down: int, packing: Packing, *, v4l2: bool = True
) -> PixelFormat:
    """Describe a plane of luma and one of interleaved chroma, 10 bits each without gaps."""
    word = packing.value
    values = word * 8 // 10
    words = values % 2 + 1  # until Cb is first again
    luma = PlaneLayout(across=values, columns=word, packing=packing)
    chroma = PlaneLayout(
        across=across * words * values // 2, down=down, columns=words * word, packing=packing
    )
    components = (
        Component(10),
        Component(10, plane=1, first=0, step=2),
        Component(10, plane=1, first=1, step=2),
    )
    return _format(name, (name, name if v4l2 else None, None), (luma, chroma), "YUV", components)


def _planar(
    name: str, drm: str, v4l2: str | None, planar: str, across: int, down: int
) -> PixelFormat:
    chroma = PlaneLayout(across=across, down=down)
    blue, red = (1, 2) if name.startswith("YUV") else (2, 1)
    components = Component(), Component(plane=blue), Component(plane=red)
    codes = (drm, v4l2, planar)
    return _format(name, codes, (PlaneLayout(), chroma, chroma), "YUV", components)


def _raw(name: str, drm: str | None, v4l2: str, model: str, bits: int) -> PixelFormat:
    """Describe grey or Bayer, one value per pixel: a byte, a word or (P) packed by MIPI CSI-2."""
    if name.endswith("P"):
        across = {10: 4, 12: 2, 14: 4}[bits]
        layout = PlaneLayout(across=across, columns=across * bits // 8, packing=Packing.MIPI)
    else:
        layout = PlaneLayout(">u2" if name.endswith("_BE") else "u1" if bits == 8 else "<u2")
    return _format(name, (drm, v4l2, None), (layout,), model, (Component(bits),))


def _stereo(name: str, v4l2: str, bits: int) -> PixelFormat:
    """Describe grey of two eyes, pixel by pixel the left one's and the right one's."""
    if bits == 12:
        layout, left = PlaneLayout(columns=3, packing=Packing.WORDS_OF_3), Component(12, step=2)
    else:
        layout, left = PlaneLayout(_unsigned(bits), channels=2), Component(bits)
    return _format(name, (None, v4l2, None), (layout,), "Y", (left,))


def _opaque(codes: Mapping[str, str], planes: int = 1) -> Iterator[PixelFormat]:
    """Describe what only devices read, in tiles or compressed, by its buffers alone."""
    for name, code in codes.items():
        one = None if planes > 1 else code
        several = code if planes > 1 else None
        yield _format(name, (None, one, several), (PlaneLayout(),) * planes, "", ())


def _bayer(bits: int, packed: str, codes: Mapping[str, str]) -> Iterator[PixelFormat]:
    for order, v4l2 in codes.items():
        yield _raw(f"S{order}{bits}{packed}", None, v4l2, order, bits)


def _table() -> Iterator[PixelFormat]:
    yield _rgb("RGB", (5, 6, 5), "RG16", "RGBP")
    yield _rgb("BGR", (5, 6, 5), "BG16", None)
    yield _rgb("RGB", (8, 8, 8), "RG24", "BGR3")
    yield _rgb("BGR", (8, 8, 8), "BG24", "RGB3")
    yield _rgb("RGB", (3, 3, 2), "RGB8", "RGB1")
    yield _rgb("RGB", (16, 16, 16), "RG48", "BGR6")
    yield _rgb("BGR", (16, 16, 16), "BG48", "RGB6")
    for order in ("XRGB", "XBGR", "RGBX", "BGRX", "ARGB", "ABGR", "RGBA", "BGRA"):
        code = order[0] + order[1] if order[0] in "XA" else order[0] + order[3]
        last = order[0] not in "XA"
        ten = f"{code}30"
        yield _rgb(order, (4, 4, 4, 4), f"{code}12", "GA12" if order == "BGRA" else f"{code}12")
        yield _rgb(order, (5, 5, 5, 1) if last else (1, 5, 5, 5), f"{code}15", f"{code}15")
        yield _rgb(order, (8, 8, 8, 8), f"{code}24", f"{code}24")
        v4l2 = ten if ten in ("RX30", "RA30", "AR30") else None
        yield _rgb(order, (10, 10, 10, 2) if last else (2, 10, 10, 10), ten, v4l2)
        if not last:
            yield _rgb(order, (16, 16, 16, 16), f"{code}48", None)
            yield _half_float(order, f"{code}4H")
    yield _format("C8", ("C8", "PAL8", None), (PlaneLayout(),), "C", (Component(),))
    for order in ("YUYV", "YVYU", "UYVY", "VYUY"):
        yield _yuyv(order)
    for bits in (10, 12, 16):
        yield _yuyv("YUYV", f"Y2{bits}", bits)
    yield _packed_yuv("VUY888", "YUV", "VU24", "YUV3")
    yield _packed_yuv("AYUV8888", "VUYA", "AYUV", "VUYA")
    yield _packed_yuv("XYUV8888", "VUYX", "XYUV", "VUYX")
    yield _packed_yuv("AVUY8888", "YUVA", "AVUY", "YUVA")
    yield _packed_yuv("XVUY8888", "YUVX", "XVUY", "YUVX")
    yield _packed_yuv("AYUV32", "AYUV", None, "AYUV")
    yield _packed_yuv("XYUV32", "XYUV", None, "XYUV")
    yield _yuv_word("Y410", "Y410")
    yield _yuv_word("XVYU2101010", "XV30")
    yield _semi_planar("NV12", 2, 2, "NM12")
    yield _semi_planar("NV21", 2, 2, "NM21")
    yield _semi_planar("NV16", 2, 1, "NM16")
    yield _semi_planar("NV61", 2, 1, "NM61")
    yield _semi_planar("NV24", 1, 1)
    yield _semi_planar("NV42", 1, 1)
    yield _semi_planar("P010", 2, 2, bits=10)
    yield _semi_planar("P012", 2, 2, "PM12", bits=12)
    yield _semi_planar("P016", 2, 2, bits=16, v4l2=False)
    yield _semi_planar("P210", 2, 1, bits=10, v4l2=False)
    yield _packed_semi_planar("NV15", 2, 2, Packing.WORDS_OF_5)
    yield _packed_semi_planar("NV20", 2, 1, Packing.WORDS_OF_5)
    yield _packed_semi_planar("NV30", 1, 1, Packing.WORDS_OF_5, v4l2=False)
    yield _packed_semi_planar("P030", 2, 2, Packing.WORDS_OF_4, v4l2=False)
    yield _planar("YUV420", "YU12", "YU12", "YM12", 2, 2)
    yield _planar("YVU420", "YV12", "YV12", "YM21", 2, 2)
    yield _planar("YUV422", "YU16", "422P", "YM16", 2, 1)
    yield _planar("YVU422", "YV16", None, "YM61", 2, 1)
    yield _planar("YUV444", "YU24", None, "YM24", 1, 1)
    yield _planar("YVU444", "YV24", None, "YM42", 1, 1)
    yield _raw("R8", "R8", "GREY", "Y", 8)
    for bits in (10, 12, 16):
        yield _raw(f"R{bits}", f"R{bits}", f"Y{bits}", "Y", bits)
    yield _raw("Y14", None, "Y14", "Y", 14)
    yield _raw("Y16_BE", None, "Y16", "Y", 16)
    yield _raw("Z16", None, "Z16", "Y", 16)
    for bits in (10, 12, 14):
        yield _raw(f"Y{bits}P", None, f"Y{bits}P", "Y", bits)
    yield _stereo("Y8I", "Y8I", 8)
    yield _stereo("Y12I", "Y12I", 12)
    yield _stereo("Y16I", "Y16I", 16)
    yield from _bayer(8, "", {"BGGR": "BA81", "GBRG": "GBRG", "GRBG": "GRBG", "RGGB": "RGGB"})
    yield from _bayer(10, "", {"BGGR": "BG10", "GBRG": "GB10", "GRBG": "BA10", "RGGB": "RG10"})
    yield from _bayer(12, "", {"BGGR": "BG12", "GBRG": "GB12", "GRBG": "BA12", "RGGB": "RG12"})
    yield from _bayer(14, "", {"BGGR": "BG14", "GBRG": "GB14", "GRBG": "GR14", "RGGB": "RG14"})
    yield from _bayer(16, "", {"BGGR": "BYR2", "GBRG": "GB16", "GRBG": "GR16", "RGGB": "RG16"})
    yield from _bayer(10, "P", {"BGGR": "pBAA", "GBRG": "pGAA", "GRBG": "pgAA", "RGGB": "pRAA"})
    yield from _bayer(12, "P", {"BGGR": "pBCC", "GBRG": "pGCC", "GRBG": "pgCC", "RGGB": "pRCC"})
    yield from _bayer(14, "P", {"BGGR": "pBEE", "GBRG": "pGEE", "GRBG": "pgEE", "RGGB": "pREE"})
    yield from _opaque({"NV12_4L4": "VT12", "NV12_16L16": "HM12", "NV12_32L32": "ST12"})
    yield from _opaque({"NV15_4L4": "VT15", "P010_4L4": "T010"})
    yield from _opaque({"NV12MT": "TM12", "NV12MT_16X16": "VM12", "NV12M_8L128": "NA12"}, 2)
    yield from _opaque({"MM21": "MM21", "MT2110T": "MT2T", "MT2110R": "MT2R"}, 2)
    for number in (1, 2):
        modes = {"RGGB": "R", "GRBG": "G", "GBRG": "g", "BGGR": "B", "MONO": "M"}
        names = {f"PISP_COMP{number}_{mode}": f"PC{number}{code}" for mode, code in modes.items()}
        yield from _opaque(names)


FORMATS: Mapping[str, PixelFormat] = MappingProxyType({entry.name: entry for entry in _table()})
"""Every format by its name."""
