"""How a framebuffer gets to the screen: an atomic commit, or the calls that came before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from dmabuf._fd import Hold
from dmabuf._owning import own
from dmabuf._timeout import deadline, seconds_left
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


class Obstacle(NamedTuple):
    """What must be over before a commit."""

    wait: Callable[[float | None], bool]
    """Waits for so many seconds, None for ever; returns False if they pass first."""
    late: str
    """The words of the TimeoutError for who has waited in vain."""


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

    def find_obstacle(self, wanted: Wanted) -> None:
        """Return None: the commit that sets a mode takes the fence."""

    def flip(
        self, device: Device, fd: int, wanted: Wanted, framebuffer: int, pending: Pending
    ) -> Fence | None:
        """Commit without waiting, and return the out-fence."""
        if wanted.mode is None:
            return self._commit(fd, wanted, 0, framebuffer, pending)
        timings, claim, blobs = wanted.mode.timings, Claim(_ioctl.destroy_blob), list[int]()
        try:
            self._handles.make(
                device, claim, lambda fd, made: _ioctl.create_blob(fd, timings, made), blobs
            )
            return self._commit(fd, wanted, blobs[0], framebuffer, pending)
        finally:
            if blobs:
                self._handles.released[claim] = blobs[0]
            self._handles.settle(device)

    def _commit(
        self, fd: int, wanted: Wanted, blob: int, framebuffer: int, pending: Pending
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

        commit = partial(request.commit, fd, flags, pending.cookie, pending.taken)
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

    def find_obstacle(self, wanted: Wanted) -> Obstacle | None:
        """Return the writers of an image that isn't ready: setting a mode looks at no fences."""
        if _wait_until_ready(wanted, 0.0):
            return None
        return Obstacle(
            partial(_wait_until_ready, wanted),
            f"a display that is not atomic sets a mode only for an image that is ready, and"
            f" {wanted.image!r} is still being written",
        )

    def flip(
        self, device: Device, fd: int, wanted: Wanted, framebuffer: int, pending: Pending
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
        _ioctl.page_flip(fd, crtc, framebuffer, pending.cookie, pending.taken)
        return None


def _property_ids(fd: int, thing: int) -> Ids:
    return {name: number for name, (number, _) in _ioctl.get_properties(fd, thing).items()}


def _wait_until_ready(wanted: Wanted, timeout: float | None) -> bool:
    """Wait until an image is written; False if `timeout` seconds pass first."""
    end = deadline(timeout)
    fence = wanted.fence
    return (fence is None or fence.wait(seconds_left(end))) and all(
        buffer.wait(Access.READ, seconds_left(end)) for buffer in wanted.image.buffers
    )
