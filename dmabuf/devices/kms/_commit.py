"""How a framebuffer gets to the screen: an atomic commit, or the calls that came before it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from dmabuf._fd import Hold, own
from dmabuf._timeout import seconds_left
from dmabuf.access import Access
from dmabuf.devices.drm import Device
from dmabuf.devices.drm._handles import Claim, Handles
from dmabuf.devices.kms import _ioctl
from dmabuf.devices.kms._events import Pending
from dmabuf.devices.kms._pipeline import Pipeline
from dmabuf.devices.kms.outputs import Mode
from dmabuf.fence import Fence, OutFence
from dmabuf.image import Image

Ids = Mapping[str, int]


class Wanted(NamedTuple):
    """What is to be shown: an image, once its fence has signalled; with a mode, if that changes."""

    image: Image
    fence: Fence | None
    mode: Mode | None


class Atomic:
    """One commit for everything, which waits for a fence that it is given, and gives one."""

    def __init__(self, fd: int, pipeline: Pipeline, handles: Handles) -> None:
        self._pipeline = pipeline
        self._handles = handles
        self._connector = _property_ids(fd, pipeline.connector.number)
        self._crtc = _property_ids(fd, pipeline.crtc)
        self._plane = _property_ids(fd, pipeline.plane.number)
        self._kept: dict[bool, _ioctl.AtomicRequest] = {}
        """Requests that set no mode, to be used again: with a fence to wait for, and without."""

    def can_flip(self, wanted: Wanted, deadline: float) -> bool:
        """Return True: the commit takes the fence."""
        return True

    def flip(
        self,
        device: Device,
        fd: int,
        framebuffer: int,
        wanted: Wanted,
        pending: Pending,
        cookie: int,
    ) -> Fence | None:
        """Commit without waiting, and return the out-fence."""
        if wanted.mode is None:
            return self._commit(fd, framebuffer, wanted, 0, pending, cookie)
        timings, claim, blobs = wanted.mode.timings, Claim(_ioctl.destroy_blob), list[int]()
        try:
            self._handles.make(
                device, claim, lambda fd, made: _ioctl.create_blob(fd, timings, made), blobs
            )
            return self._commit(fd, framebuffer, wanted, blobs[0], pending, cookie)
        finally:
            if blobs:
                self._handles.released[claim] = blobs[0]
            self._handles.settle(device)

    def _commit(
        self, fd: int, framebuffer: int, wanted: Wanted, blob: int, pending: Pending, cookie: int
    ) -> Fence:
        fence, mode = wanted.fence, wanted.mode
        flags = _ioctl.DRM_MODE_ATOMIC_NONBLOCK | _ioctl.DRM_MODE_PAGE_FLIP_EVENT
        if mode is not None:
            flags |= _ioctl.DRM_MODE_ATOMIC_ALLOW_MODESET
        # Taken out while it is used: a signal handler may show an image amid this.
        request = None if mode else self._kept.pop(fence is not None, None)
        if request is None:
            request = self._request(fence is not None, mode, blob)
        request.values[0] = framebuffer

        commit = partial(request.commit, fd, flags, cookie, pending.taken)
        if fence is None:
            out_fence = own(OutFence.__new__(OutFence), commit)
        else:
            with Hold(fence) as number:
                request.values[1] = number
                out_fence = own(OutFence.__new__(OutFence), commit)
        if mode is None:
            request.out_fence[0] = -1  # before a handler can come in the next commit
            self._kept[fence is not None] = request
        return out_fence

    def _request(self, has_fence: bool, mode: Mode | None, blob: int) -> _ioctl.AtomicRequest:
        """Return a request whose first value is the framebuffer, and the second one the fence."""
        plane = {self._plane["FB_ID"]: 0}
        crtc: dict[int, int] = {}
        objects = {self._pipeline.plane.number: plane, self._pipeline.crtc: crtc}
        if has_fence:
            plane[self._plane["IN_FENCE_FD"]] = 0
        if mode is not None:
            plane |= self._placement(mode)
            crtc |= {self._crtc["ACTIVE"]: 1, self._crtc["MODE_ID"]: blob}
            connector = {self._connector["CRTC_ID"]: self._pipeline.crtc}
            objects[self._pipeline.connector.number] = connector
        return _ioctl.AtomicRequest(objects, self._pipeline.crtc, self._crtc["OUT_FENCE_PTR"])

    def _placement(self, mode: Mode) -> dict[int, int]:
        """Return where the plane is: the image's pixels (16.16) on those of the mode."""
        place = {"CRTC_ID": self._pipeline.crtc}
        place |= {"CRTC_X": 0, "CRTC_Y": 0, "CRTC_W": mode.width, "CRTC_H": mode.height}
        place |= {"SRC_X": 0, "SRC_Y": 0, "SRC_W": mode.width << 16, "SRC_H": mode.height << 16}
        return {self._plane[name]: value for name, value in place.items()}


class Legacy:
    """A mode is set, which waits, and pages are flipped, which doesn't. Knows no fences."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def can_flip(self, wanted: Wanted, deadline: float) -> bool:
        """Wait until a flip to an image can be asked for; False if the deadline passes first.

        A mode is set at once, without a look at fences: the image must be ready before.
        """
        if wanted.mode is None:
            return True
        fence = wanted.fence
        return (fence is None or fence.wait(seconds_left(deadline))) and all(
            buffer.wait(Access.READ, seconds_left(deadline)) for buffer in wanted.image.buffers
        )

    def flip(
        self,
        device: Device,
        fd: int,
        framebuffer: int,
        wanted: Wanted,
        pending: Pending,
        cookie: int,
    ) -> Fence | None:
        """Set the mode, and flip; the flip to what is shown already is there for its event.

        A fence is left in the buffers, where the driver looks for it.
        """
        crtc = self._pipeline.crtc
        if wanted.mode is not None:
            shown = _ioctl.Crtc(framebuffer, 0, 0, wanted.mode.timings)
            _ioctl.set_crtc(fd, crtc, [self._pipeline.connector.number], shown, pending.shown)
        elif wanted.fence is not None:
            for buffer in wanted.image.buffers:
                buffer.import_fence(wanted.fence, Access.WRITE)
        _ioctl.page_flip(fd, crtc, framebuffer, cookie, pending.taken)
        return None


def _property_ids(fd: int, thing: int) -> Ids:
    return {name: number for name, (number, _) in _ioctl.get_properties(fd, thing).items()}
