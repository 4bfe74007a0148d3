"""Whether an image fits a plane and a monitor: known before the kernel says a bare EINVAL."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from dmabuf.devices.kms.outputs import Connector, Mode, Plane, fourcc
from dmabuf.errors import RefusedError

if TYPE_CHECKING:
    from dmabuf.image import Image

LINEAR = 0  # DRM_FORMAT_MOD_LINEAR in include/uapi/drm/drm_fourcc.h


def require_showable(plane: Plane, image: Image) -> None:
    """Raise RefusedError unless a plane has an image's format, with its modifier."""
    code = image.format.drm
    name = "" if code is None else fourcc(code)
    if name not in plane.formats:
        what = f"the display can't show {image.format.name}, only {', '.join(plane.formats)}"
        raise RefusedError(errno.EINVAL, what)
    modifiers = plane.formats[name]
    if image.modifier not in ((LINEAR,) if modifiers is None else modifiers):
        what = f"the display can't show {image.format.name} with modifier {image.modifier:#x}"
        known = "which its driver doesn't list" if modifiers is None else "only with"
        those = ", ".join(map(hex, modifiers or ()))
        raise RefusedError(errno.EINVAL, f"{what}, {known} {those}".rstrip())


def choose_mode(connector: Connector, image: Image, wanted: Mode | None) -> Mode:
    """Return the mode that is wanted, or the best one of an image's size; RefusedError if none."""
    size = image.width, image.height
    pixels = f"an image of {size[0]}x{size[1]} pixels"
    if wanted is not None:
        if not isinstance(wanted, Mode):
            raise TypeError(f"mode must be one of a connector's, not {type(wanted).__name__}")
        if wanted.size != size:
            raise RefusedError(errno.EINVAL, f"{pixels} doesn't fill the mode {wanted}")
        return wanted
    fitting = [mode for mode in connector.modes if mode.size == size]
    if not fitting:
        sizes = dict.fromkeys(f"{one.width}x{one.height}" for one in connector.modes)
        text = f"{connector.name} has no mode for {pixels}, only for {', '.join(sizes)}"
        raise RefusedError(errno.EINVAL, text)
    return next((mode for mode in fitting if mode.preferred), fitting[0])
