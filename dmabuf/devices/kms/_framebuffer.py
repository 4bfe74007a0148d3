"""Framebuffers: images as a display has them, kept for as long as their buffers are open."""

from __future__ import annotations

import errno
import weakref
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from dmabuf._fd import require_open, unwatch, watch
from dmabuf.buffer import Buffer
from dmabuf.devices.drm import Device
from dmabuf.devices.drm._handles import Claim, Handles
from dmabuf.devices.kms import _ioctl
from dmabuf.errors import os_error
from dmabuf.image import Image
from dmabuf.image.formats import LINEAR
from dmabuf.image.image import pixels_key


class Mark:
    """Marks a framebuffer once one of its buffers is closed or collected, in whatever thread."""

    __slots__ = ("_key", "_marked")

    def __init__(self, marked: dict[object, None], key: object) -> None:
        self._marked = marked
        self._key = key

    def owner_closed(self, _: object = None) -> None:
        """Mark it."""
        self._marked[self._key] = None


class Framebuffer(NamedTuple):
    """The kernel's id of a framebuffer, and the buffers that it was made of."""

    number: int
    claim: Claim
    buffers: tuple[weakref.ref[Buffer], ...]
    mark: Mark

    def can_be_shown(self) -> bool:
        """Whether all of its buffers are open, so that its image may be shown again."""
        for reference in self.buffers:
            buffer = reference()
            if buffer is None or buffer.closed:
                return False
        return True

    def unwatch(self) -> None:
        """Mark it no more."""
        for reference in self.buffers:
            if buffer := reference():
                unwatch(buffer, self.mark)


class Framebuffers:
    """The framebuffers of one open display, by what they show."""

    def __init__(self, handles: Handles, *, with_modifiers: bool) -> None:
        self._handles = handles
        self._with_modifiers = with_modifiers
        self._kept: dict[object, Framebuffer] = {}
        self._marked: dict[object, None] = {}  # to be looked at: some have lost a buffer

    def get(self, device: Device, image: Image) -> int:
        """Return the framebuffer of an image, made when it or its like is first shown.

        The kernel's framebuffer keeps the memory, so the handles are given back at once.
        """
        for buffer in image.buffers:
            require_open(buffer)
        key = pixels_key(image)
        framebuffer = self._kept.get(key)
        if framebuffer is None or not framebuffer.can_be_shown():
            framebuffer = self._keep(device, image, key, framebuffer)
        return framebuffer.number

    def _keep(
        self, device: Device, image: Image, key: object, before: Framebuffer | None
    ) -> Framebuffer:
        """Keep a new framebuffer, or the one before, whose memory has come in other buffers."""
        claim, made = Claim(_ioctl.remove_framebuffer), list[int]()
        mark = Mark(self._marked, key)
        try:
            if before is None:
                self._make(device, image, claim, made)
            else:
                before.unwatch()
                claim, made = before.claim, [before.number]
            buffers = tuple(weakref.ref(buffer, mark.owner_closed) for buffer in image.buffers)
            framebuffer = Framebuffer(made[0], claim, buffers, mark)
            self._kept[key] = framebuffer
            for buffer in image.buffers:
                watch(buffer, mark, mark)
            return framebuffer
        except BaseException:
            if key in self._kept:
                self._marked[key] = None  # nobody may watch its buffers
            elif made:
                self._handles.released[claim] = made[0]
                self._handles.settle(device)
            raise

    def _make(self, device: Device, image: Image, claim: Claim, made: list[int]) -> None:
        """Have the kernel make a framebuffer, and add its id to a list."""
        modifiers: list[int | None] = [image.modifier if self._with_modifiers else None]
        if modifiers == [LINEAR]:
            modifiers.append(None)  # where it has none for this format, it takes no name of one
        with ExitStack() as stack:
            handles = {
                buffer: stack.enter_context(device.import_buffer(buffer)).handle
                for buffer in image.buffers
            }
            planes = [
                _ioctl.FramebufferPlane(handles[plane.buffer], plane.stride, plane.offset)
                for plane in image.planes
            ]
            for modifier in modifiers:
                add = partial(
                    _ioctl.add_framebuffer,
                    size=(image.width, image.height),
                    pixel_format=image.format.drm or 0,
                    planes=planes,
                    modifier=modifier,
                )
                try:
                    self._handles.make(device, claim, add, made)
                    return
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
            layout = ", ".join(f"stride {p.stride} offset {p.offset}" for p in image.planes)
            raise os_error(
                errno.EINVAL,
                f"{device.path} ({device.driver}) refuses a framebuffer of {image!r}:"
                f" check its alignment ({layout})",
            )

    def forget(self, device: Device, *, but: int) -> None:
        """Remove those whose buffers were closed or collected, but for the one on the screen."""
        for key in list(self._marked):
            framebuffer = self._kept.get(key)
            if framebuffer is None:
                del self._marked[key]
            elif framebuffer.number != but and not framebuffer.can_be_shown():
                framebuffer.unwatch()
                # No signal handler runs here: it is kept, or released.
                del self._kept[key]
                self._handles.released[framebuffer.claim] = framebuffer.number
                del self._marked[key]
        self._handles.settle(device)

    def unwatch(self) -> None:
        """Leave the buffers alone: the framebuffers go with the closed device."""
        for framebuffer in list(self._kept.values()):
            framebuffer.unwatch()
