"""What a CRTC shows, written into memory: by a connector of its own, which no monitor is on."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from functools import partial
from struct import iter_unpack
from typing import TypeVar

from dmabuf._fd import close_kept
from dmabuf._owning import duplicate, own
from dmabuf.devices.kms import _ioctl
from dmabuf.devices.kms._events import Pending
from dmabuf.devices.kms._pipeline import Pipeline
from dmabuf.devices.kms.outputs import Mode, format_name
from dmabuf.errors import RefusedError
from dmabuf.fence import Fence, OutFence
from dmabuf.image import Image

_MOMENT = 0.02
"""Seconds in which vkms has ended a frame for certain."""
_Fence = TypeVar("_Fence", bound=Fence)


class Writeback:
    """A writeback connector that a CRTC can have, beside its monitor or in its place."""

    def __init__(self, fd: int, connector: int, pipeline: Pipeline, moment: float) -> None:
        """Ask for what it can do. `moment` is how many seconds are between two frames at least."""
        self._connector = connector
        self._pipeline = pipeline
        properties = _ioctl.get_properties(fd, connector)
        self._ids = {name: number for name, (number, _) in properties.items()}
        codes = _ioctl.get_blob(fd, properties["WRITEBACK_PIXEL_FORMATS"][1])
        self._formats = [format_name(code) for (code,) in iter_unpack("=I", codes)]
        self._moment = moment
        self._alone = False
        """Whether the monitor has no picture: the CRTC can't be on both."""
        self._last: list[int] = []
        """The out-fence of the last frame, also where a signal handler has kept the caller's."""

    def require_fitting(self, path: str, image: Image, mode: Mode | None) -> None:
        """Raise RefusedError unless an image can take what is shown."""
        if mode is None:
            raise RefusedError(
                errno.EINVAL, f"{path} shows nothing that could be captured; show() an image first"
            )
        if (image.width, image.height) != mode.size:
            raise RefusedError(
                errno.EINVAL,
                f"an image of {image.width}x{image.height} pixels can't take the picture of {path},"
                f" which has {mode.width}x{mode.height}",
            )
        if image.format.name not in self._formats:
            raise RefusedError(
                errno.EINVAL,
                f"{path} writes no {image.format} back, only {', '.join(self._formats)}",
            )

    def commit(self, fd: int, framebuffer: int, pending: Pending) -> Fence:
        """Have the next frame written into a framebuffer, and return the fence of that."""
        if not self._alone:
            try:
                return self._commit(fd, framebuffer, pending)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
        self._alone = True
        return self._commit(fd, framebuffer, pending)

    def _commit(self, fd: int, framebuffer: int, pending: Pending) -> Fence:
        crtc = self._ids["CRTC_ID"]  # the kernel has one property of this name for all
        values = {crtc: self._pipeline.crtc, self._ids["WRITEBACK_FB_ID"]: framebuffer}
        objects = {self._connector: values}
        if self._alone:
            objects[self._pipeline.connector.number] = {crtc: 0}
        fence_property = self._ids["WRITEBACK_OUT_FENCE_PTR"]
        request = _ioctl.AtomicRequest(objects, self._connector, fence_property)
        flags = _ioctl.DRM_MODE_ATOMIC_NONBLOCK | _ioctl.DRM_MODE_PAGE_FLIP_EVENT
        flags |= _ioctl.DRM_MODE_ATOMIC_ALLOW_MODESET  # the first time the CRTC gets a connector
        request.commit(fd, flags, pending.cookie, pending.taken, self._last)
        return self._fence(Fence)

    def unfinished(self) -> Callable[[float | None], bool] | None:
        """Return the wait for the frame that is still being written; None if none is.

        It takes seconds, or None, and returns False if they pass first. The next frame waits for
        it, and then a moment: vkms ends a frame in a worker, some time after its fence, and by that
        the frame that has begun until then.
        """
        if self._last:
            fence = self._fence(OutFence)
            done = fence.signaled_at
            if done is None:
                return fence.wait
            left = done + self._moment - time.monotonic()
            if left > 0:
                return partial(_pause, left)
            close_kept(self._last)
        return None

    def _fence(self, kind: type[_Fence]) -> _Fence:
        return own(kind.__new__(kind), partial(duplicate, self._last[0]))

    def close(self) -> None:
        """Forget the frame that is being written. Idempotent."""
        close_kept(self._last)

    def __del__(self) -> None:
        self.close()

    def give_back(self, fd: int, framebuffer: int, mode: Mode) -> None:
        """Have the monitor show the picture again, if it gave it up; blocks for that."""
        if self._alone:
            shown = _ioctl.Crtc(framebuffer, 0, 0, mode.timings)
            monitor = self._pipeline.connector.number
            _ioctl.set_crtc(fd, self._pipeline.crtc, [monitor], shown, [])
            self._alone = False


def _pause(seconds: float, timeout: float | None) -> bool:
    """Wait for so many seconds; False if `timeout` seconds pass first."""
    longest = seconds if timeout is None else min(seconds, timeout)
    time.sleep(longest)
    return longest == seconds


def find_writeback(fd: int, pipeline: Pipeline, driver: str) -> Writeback | None:
    """Return the first writeback connector that a display's CRTC can have; None without."""
    try:
        _ioctl.set_client_cap(fd, _ioctl.DRM_CLIENT_CAP_WRITEBACK_CONNECTORS, 1)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
            return None
        raise
    try:
        there = _ioctl.get_resources(fd)
        for connector in there.connectors:
            about, encoders, _ = _ioctl.get_connector(fd, connector)
            if about.connector_type == _ioctl.DRM_MODE_CONNECTOR_WRITEBACK:
                masks = (_ioctl.get_encoder(fd, encoder)[1] for encoder in encoders)
                if any(mask >> there.crtcs.index(pipeline.crtc) & 1 for mask in masks):
                    moment = _MOMENT if driver == "vkms" else 0.0
                    return Writeback(fd, connector, pipeline, moment)
        return None
    finally:  # they are no connectors for pictures: `connectors()` leaves them out
        _ioctl.set_client_cap(fd, _ioctl.DRM_CLIENT_CAP_WRITEBACK_CONNECTORS, 0)
