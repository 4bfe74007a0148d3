"""How a framebuffer gets to the screen: an atomic commit, or the calls that came before it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from dmabuf._fd import Hold, own
from dmabuf._ioctl import address
from dmabuf.access import Access
from dmabuf.devices.kms import _ioctl
from dmabuf.devices.kms._pipeline import Pipeline
from dmabuf.devices.kms._uapi import ffi
from dmabuf.devices.kms.outputs import Mode
from dmabuf.fence import Fence
from dmabuf.image import Image

Ids = Mapping[str, int]


class OutFence(Fence):
    """The fence of a flip, which nobody has to close: whoever ignores it leaves nothing behind."""

    __slots__ = ()

    def __del__(self) -> None:
        self._closed = True
        super().__del__()


class Atomic:
    """One commit for everything, which waits for a fence that it is given, and gives one."""

    def __init__(self, fd: int, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._connector = _property_ids(fd, pipeline.connector.number)
        self._crtc = _property_ids(fd, pipeline.crtc)
        self._plane = _property_ids(fd, pipeline.plane.number)

    def prepare(
        self, image: Image, fence: Fence | None, mode: Mode | None, deadline: float | None
    ) -> None:
        """Do nothing: the commit takes the fence."""

    def flip(
        self, fd: int, framebuffer: int, mode: Mode | None, fence: Fence | None, cookie: int
    ) -> Fence | None:
        """Commit without waiting, and return the out-fence."""
        out_fence: Any = ffi.new("int32_t *", -1)
        plane = {self._plane["FB_ID"]: framebuffer}
        crtc = {self._crtc["OUT_FENCE_PTR"]: address(ffi, out_fence)}
        objects = {self._pipeline.crtc: crtc, self._pipeline.plane.number: plane}
        flags = _ioctl.DRM_MODE_ATOMIC_NONBLOCK | _ioctl.DRM_MODE_PAGE_FLIP_EVENT
        with ExitStack() as stack:
            if fence is not None:
                plane[self._plane["IN_FENCE_FD"]] = stack.enter_context(Hold(fence))
            if mode is not None:
                flags |= _ioctl.DRM_MODE_ATOMIC_ALLOW_MODESET
                blob = _ioctl.create_blob(fd, mode.timings)
                stack.callback(_ioctl.destroy_blob, fd, blob)
                crtc |= {self._crtc["ACTIVE"]: 1, self._crtc["MODE_ID"]: blob}
                connector = {self._connector["CRTC_ID"]: self._pipeline.crtc}
                objects[self._pipeline.connector.number] = connector
                plane |= self._placement(mode)
            _ioctl.atomic(fd, flags, objects, cookie)
            return own(OutFence.__new__(OutFence), lambda made: made.append(int(out_fence[0])))

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

    def prepare(
        self, image: Image, fence: Fence | None, mode: Mode | None, deadline: float | None
    ) -> None:
        """Leave the fence in the buffers, where the driver looks for it.

        A mode is set at once: wait for the image before that; TimeoutError after the deadline.
        """
        if mode is None:
            if fence is not None:
                for buffer in image.buffers:
                    buffer.import_fence(fence, Access.WRITE)
            return
        if not (
            (fence is None or fence.wait(_seconds_left(deadline)))
            and all(buffer.wait(Access.READ, _seconds_left(deadline)) for buffer in image.buffers)
        ):
            raise TimeoutError(
                f"a display that is not atomic sets a mode only for an image that is ready, and "
                f"{image!r} is still being written"
            )

    def flip(
        self, fd: int, framebuffer: int, mode: Mode | None, fence: Fence | None, cookie: int
    ) -> Fence | None:
        """Set the mode, and flip; the flip to what is shown already is there for its event."""
        crtc = self._pipeline.crtc
        if mode is not None:
            shown = _ioctl.Crtc(framebuffer, 0, 0, mode.timings)
            _ioctl.set_crtc(fd, crtc, [self._pipeline.connector.number], shown)
        _ioctl.page_flip(fd, crtc, framebuffer, cookie)
        return None


def _seconds_left(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()


def _property_ids(fd: int, thing: int) -> Ids:
    return {name: number for name, (number, _) in _ioctl.get_properties(fd, thing).items()}
