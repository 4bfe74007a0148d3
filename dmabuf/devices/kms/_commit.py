"""How a framebuffer gets to the screen: an atomic commit, or the calls that came before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from dmabuf.devices.kms import _ioctl
from dmabuf.devices.kms._uapi import ffi
from dmabuf.devices.kms.outputs import Mode

Ids = Mapping[str, int]


class Pipeline(NamedTuple):
    """The objects between a framebuffer and a monitor, by their ids."""

    connector: int
    crtc: int
    plane: int


class Atomic:
    """One commit for all, which waits for a fence that it is given."""

    def __init__(self, fd: int, pipeline: Pipeline, plane: Ids) -> None:
        self._pipeline = pipeline
        self._plane = plane
        self._connector = _ids(fd, pipeline.connector)
        self._crtc = _ids(fd, pipeline.crtc)

    def flip(
        self, fd: int, framebuffer: int, mode: Mode | None, fence: int | None, cookie: int
    ) -> int:
        """Commit without waiting, and return the out-fence's descriptor."""
        out_fence: Any = ffi.new("int32_t *", -1)
        plane = {self._plane["FB_ID"]: framebuffer}
        if fence is not None:
            plane[self._plane["IN_FENCE_FD"]] = fence
        crtc = {self._crtc["OUT_FENCE_PTR"]: int(ffi.cast("uintptr_t", out_fence))}
        objects = {self._pipeline.crtc: crtc, self._pipeline.plane: plane}
        flags = _ioctl.DRM_MODE_ATOMIC_NONBLOCK | _ioctl.DRM_MODE_PAGE_FLIP_EVENT
        if mode is None:
            _ioctl.atomic(fd, flags, objects, cookie)
            return int(out_fence[0])
        flags |= _ioctl.DRM_MODE_ATOMIC_ALLOW_MODESET
        blob = _ioctl.create_blob(fd, mode.timings)
        try:
            crtc |= {self._crtc["ACTIVE"]: 1, self._crtc["MODE_ID"]: blob}
            objects[self._pipeline.connector] = {self._connector["CRTC_ID"]: self._pipeline.crtc}
            plane |= self._fullscreen(mode)
            _ioctl.atomic(fd, flags, objects, cookie)
        finally:
            _ioctl.destroy_blob(fd, blob)
        return int(out_fence[0])

    def _fullscreen(self, mode: Mode) -> dict[int, int]:
        """Return where the plane is: the image's pixels (16.16) on those of the mode."""
        place = {"CRTC_ID": self._pipeline.crtc}
        place |= {"CRTC_X": 0, "CRTC_Y": 0, "CRTC_W": mode.width, "CRTC_H": mode.height}
        place |= {"SRC_X": 0, "SRC_Y": 0, "SRC_W": mode.width << 16, "SRC_H": mode.height << 16}
        return {self._plane[name]: value for name, value in place.items()}


class Legacy:
    """A mode is set, which waits, and pages are flipped, which doesn't."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def flip(self, fd: int, framebuffer: int, mode: Mode | None, cookie: int) -> None:
        """Set the mode, and flip; the flip to what is shown already is there for its event."""
        crtc = self._pipeline.crtc
        if mode is not None:
            shown = _ioctl.Crtc(framebuffer, 0, 0, mode.timings)
            _ioctl.set_crtc(fd, crtc, [self._pipeline.connector], shown)
        _ioctl.page_flip(fd, crtc, framebuffer, cookie)


def _ids(fd: int, thing: int) -> Ids:
    return {name: number for name, (number, _) in _ioctl.get_properties(fd, thing).items()}
