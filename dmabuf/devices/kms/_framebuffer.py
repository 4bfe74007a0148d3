"""Framebuffers: images as a display has them, kept for as long as their buffers are open."""

from __future__ import annotations

import errno
import weakref
from contextlib import ExitStack
from typing import NamedTuple

from dmabuf._fd import require_open
from dmabuf.buffer import Buffer
from dmabuf.devices.drm import Device
from dmabuf.devices.kms import _ioctl
from dmabuf.errors import os_error
from dmabuf.image import Image


class Framebuffer(NamedTuple):
    """The kernel's id of a framebuffer, and the buffers that it was made of."""

    number: int
    buffers: tuple[weakref.ref[Buffer], ...]

    def can_be_shown(self) -> bool:
        """Whether all of its buffers are open, so that its image may be shown again."""
        buffers = [reference() for reference in self.buffers]
        return all(buffer is not None and not buffer.closed for buffer in buffers)


class Framebuffers:
    """The framebuffers of one open display, by what they show."""

    def __init__(self, *, with_modifiers: bool) -> None:
        self._with_modifiers = with_modifiers
        self._kept: dict[object, Framebuffer] = {}

    def get(self, device: Device, fd: int, image: Image) -> int:
        """Return the framebuffer of an image, made when it or its like is first shown.

        The kernel's framebuffer keeps the memory, so the handles are given back at once.
        """
        for buffer in image.buffers:
            require_open(buffer)
        code = image.format.drm
        places = tuple((hash(one.buffer), one.offset, one.stride) for one in image.planes)
        key = code, image.width, image.height, image.modifier, places
        framebuffer = self._kept.get(key)
        if framebuffer is None or not framebuffer.can_be_shown():
            number = self._add(device, fd, image) if framebuffer is None else framebuffer.number
            framebuffer = Framebuffer(number, tuple(map(weakref.ref, image.buffers)))
            self._kept[key] = framebuffer
        return framebuffer.number

    def _add(self, device: Device, fd: int, image: Image) -> int:
        with ExitStack() as stack:
            handles = {
                buffer: stack.enter_context(device.import_buffer(buffer)).handle
                for buffer in image.buffers
            }
            planes = [
                _ioctl.FramebufferPlane(handles[plane.buffer], plane.stride, plane.offset)
                for plane in image.planes
            ]
            modifier = image.modifier if self._with_modifiers else None
            try:
                size = image.width, image.height
                return _ioctl.add_framebuffer(fd, size, image.format.drm or 0, planes, modifier)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                layout = ", ".join(f"stride {p.stride} offset {p.offset}" for p in image.planes)
                raise os_error(
                    errno.EINVAL,
                    f"{device.path} ({device.driver}) makes no framebuffer of {image!r}: "
                    f"check its alignment ({layout})",
                ) from None

    def forget(self, fd: int, *, but: int) -> None:
        """Remove those whose buffers were closed or collected, but for the one on the screen."""
        for key, framebuffer in list(self._kept.items()):
            if framebuffer.number != but and not framebuffer.can_be_shown():
                del self._kept[key]
                _ioctl.remove_framebuffer(fd, framebuffer.number)
