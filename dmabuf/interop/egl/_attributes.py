"""An image as the attributes that EGL imports by, and what a driver refuses, in words."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence

from dmabuf.errors import RefusedError, UnsupportedError
from dmabuf.image import ColorEncoding, ColorRange, Image
from dmabuf.image.formats import LINEAR, from_drm
from dmabuf.interop.egl import _egl
from dmabuf.interop.egl._formats import MODIFIERS

# EGL/egl.h and EGL/eglext.h
_HEIGHT, _WIDTH = 0x3056, 0x3057
_FOURCC = 0x3271
# Per plane: descriptor, offset, pitch, and the modifier's low and high half.
_PLANES = (
    (0x3272, 0x3273, 0x3274, 0x3443, 0x3444),
    (0x3275, 0x3276, 0x3277, 0x3445, 0x3446),
    (0x3278, 0x3279, 0x327A, 0x3447, 0x3448),
)
_COLOR_SPACE, _SAMPLE_RANGE = 0x327B, 0x327C
_COLOR_SPACES = {
    ColorEncoding.BT601: 0x327F,
    ColorEncoding.BT709: 0x3280,
    ColorEncoding.BT2020: 0x3281,
}
_RANGES = {ColorRange.FULL: 0x3282, ColorRange.LIMITED: 0x3283}
_MOST = (1 << 31) - 1


def attributes(display: int, image: Image, descriptors: Sequence[int]) -> list[int]:
    """Return what describes an image, whose planes are in these descriptors; see `check`."""
    found = [_WIDTH, image.width, _HEIGHT, image.height]
    found += [_FOURCC, _egl.signed(image.format.drm or 0)]
    explicit = image.modifier != LINEAR or LINEAR in known_modifiers(display, image)
    parts = zip(_PLANES, image.planes, descriptors, strict=False)
    for (fd, offset, pitch, low, high), plane, descriptor in parts:
        found += [fd, descriptor, offset, plane.offset, pitch, plane.stride]
        if explicit:
            words = _egl.halves(image.modifier)
            found += [low, words[0], high, words[1]]
    if image.format.model == "YUV":
        # What isn't known is as `to_rgb` has it.
        encoding = image.color_encoding or ColorEncoding.BT601
        found += [_COLOR_SPACE, _COLOR_SPACES[encoding]]
        found += [_SAMPLE_RANGE, _RANGES[image.color_range or ColorRange.LIMITED]]
    return found


def known_modifiers(display: int, image: Image) -> dict[int, bool]:
    """Return with which modifiers an image's format is imported, and which for sampling alone."""
    if not _egl.has(display, MODIFIERS):
        return {}
    return _egl.modifiers(display, image.format.drm or 0)


def check(display: int, image: Image) -> None:
    """Raise RefusedError, in words, for what the driver would refuse with a bare error."""
    what = f"the GPU can't import {image!r}"
    for problem in _problems(display, image):
        raise RefusedError(errno.EINVAL, f"{what}: {problem}")
    if image.modifier != LINEAR and not _egl.has(display, MODIFIERS):
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            f"{what}: its driver takes no modifiers; have the image's source make it linear",
        )


def _problems(display: int, image: Image) -> Iterator[str]:
    name, code = image.format.name, image.format.drm
    if code is None:
        yield f"DRM has no format {name}; convert it to one of `formats()` first"
    elif _egl.has(display, MODIFIERS):
        codes = _egl.formats(display)
        if code not in codes:
            yield (
                f"the driver has no {name}, only {', '.join(_names(codes))}; have the image's"
                " source give one of these, or draw `image.to_rgb()` into an image of one"
            )
        else:
            modifiers = known_modifiers(display, image)
            if image.modifier != LINEAR and image.modifier not in modifiers:
                known = ", ".join(map(hex, modifiers)) or "none"
                yield f"the driver has no modifier {image.modifier:#x} of {name}; it has {known}"
    if image.color_encoding not in (None, *_COLOR_SPACES) and image.format.model == "YUV":
        known = ", ".join(encoding.value for encoding in _COLOR_SPACES)
        yield f"EGL knows the colours {known} only; say one of them as the image's color_encoding"
    if any(max(plane.offset, plane.stride) > _MOST for plane in image.planes):
        yield f"EGL takes offsets and strides up to {_MOST} bytes"


def _names(codes: Sequence[int]) -> Iterator[str]:
    for code in codes:
        try:
            yield from_drm(code).name
        except ValueError:
            continue
