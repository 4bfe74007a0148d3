"""The one table of pixel formats: what DRM and V4L2 call them, and how they lie in memory.

Follows include/uapi/drm/drm_fourcc.h, include/uapi/linux/videodev2.h and
Documentation/userspace-api/media/v4l/pixfmt*.rst.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from dmabuf.image.layout import Component, PixelFormat, PlaneLayout, fourcc


def _format(
    name: str,
    codes: tuple[str | None, str | None, str | None],
    planes: tuple[PlaneLayout, ...],
    model: str,
    components: tuple[Component, ...],
) -> PixelFormat:
    drm, v4l2, planar = (fourcc(text) if text else None for text in codes)
    return PixelFormat(name, drm, v4l2, planar, planes, model, components)


def _rgb(order: str, bits: tuple[int, ...], drm: str, v4l2: str | None) -> PixelFormat:
    """Describe packed RGB by its components from the high bits to the low, as DRM names them."""
    low = dict(zip(order, (sum(bits[place + 1 :]) for place in range(len(bits))), strict=True))
    width = dict(zip(order, bits, strict=True))
    if set(bits) in ({8}, {16}):  # an element each
        layout = PlaneLayout("u1" if bits[0] == 8 else "<u2", len(bits))
        components = tuple(Component(bits[0], channel=low[c] // bits[0]) for c in "RGB")
    else:
        layout = PlaneLayout(f"<u{sum(bits) // 8}")
        components = tuple(Component(width[c], low[c]) for c in "RGB")
    name = order + "".join(map(str, bits))
    return _format(name, (drm, v4l2, None), (layout,), "RGB", components)


def _yuyv(order: str) -> PixelFormat:
    """Describe two pixels in four bytes: an array of (luma, chroma) pairs, or the reverse."""
    luma, blue, red = (order.index(letter) for letter in "YUV")
    components = (
        Component(channel=luma % 2),
        *(Component(channel=place % 2, first=place // 2, step=2) for place in (blue, red)),
    )
    layout = PlaneLayout(channels=2, across=2, columns=2)
    return _format(order, (order, order, None), (layout,), "YUV", components)


def _semi_planar(
    name: str, across: int, down: int, planar: str | None = None, *, bits: int = 8
) -> PixelFormat:
    """Describe a plane of luma and one of interleaved chroma. NV21, 61 and 42 have red first."""
    dtype, shift = ("u1", 0) if bits == 8 else ("<u2", 16 - bits)
    planes = PlaneLayout(dtype), PlaneLayout(dtype, channels=2, across=across, down=down)
    red = name in ("NV21", "NV61", "NV42")
    components = (
        Component(bits, shift),
        Component(bits, shift, plane=1, channel=int(red)),
        Component(bits, shift, plane=1, channel=int(not red)),
    )
    return _format(name, (name, name, planar), planes, "YUV", components)


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
        across = {10: 4, 12: 2}[bits]
        layout = PlaneLayout(across=across, columns=across * bits // 8)
    else:
        layout = PlaneLayout("u1" if bits == 8 else "<u2")
    return _format(name, (drm, v4l2, None), (layout,), model, (Component(bits),))


def _bayer(bits: int, packed: str, codes: Mapping[str, str]) -> Iterator[PixelFormat]:
    for order, v4l2 in codes.items():
        yield _raw(f"S{order}{bits}{packed}", None, v4l2, order, bits)


def _table() -> Iterator[PixelFormat]:
    yield _rgb("RGB", (5, 6, 5), "RG16", "RGBP")
    yield _rgb("BGR", (5, 6, 5), "BG16", None)
    yield _rgb("RGB", (8, 8, 8), "RG24", "BGR3")
    yield _rgb("BGR", (8, 8, 8), "BG24", "RGB3")
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
    for order in ("YUYV", "YVYU", "UYVY", "VYUY"):
        yield _yuyv(order)
    yield _semi_planar("NV12", 2, 2, "NM12")
    yield _semi_planar("NV21", 2, 2, "NM21")
    yield _semi_planar("NV16", 2, 1, "NM16")
    yield _semi_planar("NV61", 2, 1, "NM61")
    yield _semi_planar("NV24", 1, 1)
    yield _semi_planar("NV42", 1, 1)
    yield _semi_planar("P010", 2, 2, bits=10)
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
    yield _raw("Y10P", None, "Y10P", "Y", 10)
    yield _raw("Y12P", None, "Y12P", "Y", 12)
    yield from _bayer(8, "", {"BGGR": "BA81", "GBRG": "GBRG", "GRBG": "GRBG", "RGGB": "RGGB"})
    yield from _bayer(10, "", {"BGGR": "BG10", "GBRG": "GB10", "GRBG": "BA10", "RGGB": "RG10"})
    yield from _bayer(12, "", {"BGGR": "BG12", "GBRG": "GB12", "GRBG": "BA12", "RGGB": "RG12"})
    yield from _bayer(14, "", {"BGGR": "BG14", "GBRG": "GB14", "GRBG": "GR14", "RGGB": "RG14"})
    yield from _bayer(16, "", {"BGGR": "BYR2", "GBRG": "GB16", "GRBG": "GR16", "RGGB": "RG16"})
    yield from _bayer(10, "P", {"BGGR": "pBAA", "GBRG": "pGAA", "GRBG": "pgAA", "RGGB": "pRAA"})
    yield from _bayer(12, "P", {"BGGR": "pBCC", "GBRG": "pGCC", "GRBG": "pgCC", "RGGB": "pRCC"})


FORMATS: Mapping[str, PixelFormat] = MappingProxyType({entry.name: entry for entry in _table()})
"""Every format by its name."""
