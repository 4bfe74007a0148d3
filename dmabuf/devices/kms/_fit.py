"""Whether an image fits a plane and a monitor: known before the kernel says a bare EINVAL."""

from __future__ import annotations

import errno

from dmabuf.devices.kms._pipeline import Pipeline
from dmabuf.devices.kms.outputs import Connector, Mode
from dmabuf.errors import RefusedError
from dmabuf.fence import Fence
from dmabuf.image import Image
from dmabuf.image.formats import LINEAR


def require_types(image: Image, fence: Fence | None) -> None:
    """Raise TypeError unless these are an image and a fence."""
    if not isinstance(image, Image):
        raise TypeError(f"image must be a dmabuf.Image, not {type(image).__name__}")
    if fence is not None and not isinstance(fence, Fence):
        raise TypeError(f"fence must be a dmabuf.Fence, not {type(fence).__name__}")


def require_showable(path: str, pipeline: Pipeline, image: Image) -> None:
    """Raise RefusedError unless a display's plane has an image's format, with its modifier."""
    name, plane = image.format.name, pipeline.plane
    modifiers = plane.formats.get(name, ())
    if modifiers is not None and image.modifier in modifiers:
        return
    kind, where = plane.kind.name.lower(), f"{path} {pipeline.connector.name}"
    if name not in plane.formats:
        raise RefusedError(
            errno.EINVAL,
            f"{where}: {kind} plane {plane.number} can't show {name} ({image.format.model}), only "
            f"{', '.join(plane.formats)}; have the image's source give one of these, or draw "
            f"`image.to_rgb()` into an image of one",
        )
    if modifiers is not None:
        raise RefusedError(
            errno.EINVAL,
            f"{where}: {kind} plane {plane.number} can't show {name} with modifier "
            f"{image.modifier:#x}, only with {', '.join(map(_words, modifiers))}",
        )
    if image.modifier != LINEAR:
        raise RefusedError(
            errno.EINVAL,
            f"{where}: {kind} plane {plane.number} can't show {name} with modifier "
            f"{image.modifier:#x}: its driver lists no modifiers; have the image's source make it "
            f"linear (modifier 0)",
        )


def _words(modifier: int) -> str:
    return "0 (linear)" if modifier == LINEAR else hex(modifier)


def choose_mode(connector: Connector, image: Image, wanted: Mode | None) -> Mode:
    """Return the mode that is wanted, or the best one of an image's size; RefusedError if none."""
    size = image.width, image.height
    if wanted is not None:
        if not isinstance(wanted, Mode):
            raise TypeError(f"mode must be one of a connector's modes, not {type(wanted).__name__}")
        if wanted.size != size:
            raise RefusedError(
                errno.EINVAL,
                f"an image of {size[0]}x{size[1]} pixels does not have the size of mode {wanted}",
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
