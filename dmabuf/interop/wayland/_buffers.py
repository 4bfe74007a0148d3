"""Images as a compositor has them, kept for as long as their buffers are open."""

from __future__ import annotations

import errno
import weakref
from typing import NamedTuple

from dmabuf._fd import Descriptor, Hold, require_open
from dmabuf._mapping import prove
from dmabuf.devices.drm import Syncobj
from dmabuf.errors import RefusedError
from dmabuf.fence import Fence, OutFence
from dmabuf.image import Image
from dmabuf.image.image import pixels_key
from dmabuf.interop.wayland._client import Client, Events
from dmabuf.interop.wayland._formats import Formats
from dmabuf.interop.wayland._globals import (
    BUFFER_DESTROY,
    DMABUF_CREATE_PARAMS,
    PARAMS_ADD,
    PARAMS_CREATE,
    PARAMS_DESTROY,
    TIMELINE_DESTROY,
)


class Release:
    """Whether a compositor has let go of an image's memory: once told, and once a fence says so."""

    __slots__ = ("fence", "told")

    def __init__(self) -> None:
        self.told = False
        self.fence: Fence | None = None


class Timeline(NamedTuple):
    """A sync object of ours, and the compositor's object for it."""

    syncobj: Syncobj
    number: int


class SurfaceBuffer:
    """A wl_buffer: one image, which the compositor has at most once."""

    __slots__ = ("_buffers", "number", "point", "release", "timelines")

    def __init__(self, image: Image) -> None:
        self._buffers = [weakref.ref(buffer) for buffer in image.buffers]
        self.number = 0
        self.release: Release | None = None
        """What the compositor will tell, while it has it."""
        self.timelines: tuple[Timeline, ...] = ()
        """Where it is told when it is ready, and when it is let go; empty for none yet."""
        self.point = 0
        """The last point of both."""

    def can_be_shown(self) -> bool:
        """Whether all of its buffers are open."""
        found = [reference() for reference in self._buffers]
        return all(buffer is not None and not buffer.closed for buffer in found)

    def note_release(self) -> None:
        """Note that the compositor reads its memory no more, but for the release's fence."""
        release, self.release = self.release, None
        if release is not None:
            release.told = True


class Shown:
    """One image that was given to a compositor."""

    __slots__ = ("_before", "_drawn", "release", "surface_buffer")

    def __init__(self, surface_buffer: SurfaceBuffer, before: Release | None) -> None:
        """`before` is the release of what it takes the place of."""
        self.surface_buffer = surface_buffer
        self.release = Release()
        self._drawn = False
        self._before = before

    def note_frame(self, time: int) -> None:
        """Note that it has been drawn, or that it is time for the next."""
        self._drawn = True

    def note_fence(self, descriptor: Descriptor) -> None:
        """Note that the compositor has let go of it once a fence has signalled."""
        self.release.fence = OutFence.from_fd(descriptor)
        self.surface_buffer.note_release()

    def note_point(self, syncobj: Syncobj, point: int) -> None:
        """Note that the compositor has let go of it once the fence at a point has signalled."""
        with syncobj.export_fence(point) as fence:
            self.release.fence = OutFence.from_fd(fence)
        self.release.told = True
        if self.surface_buffer.release is self.release:
            self.surface_buffer.release = None

    def is_told(self) -> bool:
        """Whether it is in its place, and the compositor has let go of what was there."""
        in_place = self._drawn or self.release.told
        return in_place and (self._before is None or self._before.told)

    def fence_before(self) -> Fence | None:
        """Return the fence that says when the compositor has read what was there."""
        return None if self._before is None else self._before.fence


class SurfaceBuffers:
    """The wl_buffers of one window, by what they show. One thread at a time."""

    def __init__(self, formats: Formats, *, with_timelines: bool) -> None:
        """`with_timelines` where these tell of releases, which then count for nothing else."""
        self._formats = formats
        self._with_timelines = with_timelines
        self._kept: dict[object, list[SurfaceBuffer]] = {}

    def get(self, client: Client, image: Image, timeout: float | None) -> SurfaceBuffer:
        """Return a wl_buffer of an image that the compositor has not, made if there is none."""
        for buffer in image.buffers:
            require_open(buffer)
        modifier = self._formats.choose_modifier(image)
        self._forget(client)
        key = modifier, pixels_key(image)
        for found in self._kept.get(key, ()):
            if found.release is None:
                return found
        made = self._make(client, image, modifier, timeout)
        self._kept.setdefault(key, []).append(made)
        return made

    def _forget(self, client: Client) -> None:
        """Destroy what was made of buffers that are closed, unless it is still shown."""
        for key, several in list(self._kept.items()):
            for one in list(several):
                if one.release is None and not one.can_be_shown():
                    several.remove(one)
                    client.send(one.number, BUFFER_DESTROY)
                    client.forget(one.number)
                    for syncobj, number in one.timelines:
                        client.send(number, TIMELINE_DESTROY)
                        client.forget(number)
                        syncobj.close()
            if not several:
                del self._kept[key]

    def _make(
        self, client: Client, image: Image, modifier: int, timeout: float | None
    ) -> SurfaceBuffer:
        surface_buffer, refused = SurfaceBuffer(image), list[bool]()

        def note_created(number: int) -> None:
            note = None if self._with_timelines else surface_buffer.note_release
            client.adopt(number, {0: ("", note)})
            surface_buffer.number = number

        events: Events = {0: ("n", note_created), 1: ("", lambda: refused.append(True))}
        params = client.new(events)
        client.send(self._formats.manager, DMABUF_CREATE_PARAMS, params)
        for index, plane in enumerate(image.planes):
            with Hold(plane.buffer) as number:
                prove(plane.buffer, number)
                where = index, plane.offset, plane.stride, modifier >> 32, modifier
                client.send(params, PARAMS_ADD, *where, owners=[plane.buffer])
        client.send(params, PARAMS_CREATE, image.width, image.height, image.format.drm or 0, 0)
        told = client.wait_for(lambda: bool(surface_buffer.number or refused), timeout)
        client.send(params, PARAMS_DESTROY)
        client.forget(params)
        if not told:
            raise TimeoutError(
                errno.ETIMEDOUT,
                f"the Wayland compositor did not take {image!r} within {timeout} s",
            )
        if refused:
            raise RefusedError(
                errno.EINVAL,
                f"the Wayland compositor can't import {image!r}: its GPU may ask for another"
                " stride (stride_align=256), offset or memory",
            )
        return surface_buffer
