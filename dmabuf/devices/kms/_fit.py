"""Whether an image fits a plane and a monitor: known before the kernel says a bare EINVAL."""

from __future__ import annotations

import errno

from dmabuf.devices.kms.outputs import Connector, DisplayPlane, Mode
from dmabuf.errors import RefusedError
from dmabuf.image import Image
from dmabuf.image.formats import LINEAR


def require_showable(plane: DisplayPlane, image: Image) -> None:
    """Raise RefusedError unless a plane has an image's format, with its modifier."""
    name = image.format.name
    if name not in plane.formats:
        raise RefusedError(
            errno.EINVAL,
            f"the display can't show {name}, only {', '.join(plane.formats)}; "
            f"or draw `image.to_rgb()` into one of these",
        )
    modifiers = plane.formats[name]
    if modifiers is None and image.modifier != LINEAR:
        raise RefusedError(
            errno.EINVAL,
            f"the display can't show {name} with modifier {image.modifier:#x}: "
            f"its driver lists no modifiers",
        )
    if modifiers is not None and image.modifier not in modifiers:
        raise RefusedError(
            errno.EINVAL,
            f"the display can't show {name} with modifier {image.modifier:#x}, "
            f"only with {', '.join(map(hex, modifiers))}",
        )


def choose_mode(connector: Connector, image: Image, wanted: Mode | None) -> Mode:
    """Return the mode that is wanted, or the best one of an image's size; RefusedError if none."""
    size = image.width, image.height
    if wanted is not None:
        if not isinstance(wanted, Mode):
            raise TypeError(f"mode must be one of a connector's, not {type(wanted).__name__}")
        if wanted.size != size:
            raise RefusedError(
                errno.EINVAL,
                f"an image of {size[0]}x{size[1]} pixels doesn't fill the mode {wanted}",
            )
        return wanted
    fitting = [mode for mode in connector.modes if mode.size == size]
    if not fitting:
        sizes = dict.fromkeys(f"{one.width}x{one.height}" for one in connector.modes)
        raise RefusedError(
            errno.EINVAL,
            f"{connector.name} has no mode for an image of {size[0]}x{size[1]} pixels, "
            f"only for {', '.join(sizes)}",
        )
    return next((mode for mode in fitting if mode.preferred), fitting[0])
