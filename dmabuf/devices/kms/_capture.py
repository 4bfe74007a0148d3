"""Captures: what a display shows, back into an image, by its writeback connector."""

from __future__ import annotations

import errno
import os
from functools import partial

from dmabuf.devices.kms._commit import Obstacle
from dmabuf.devices.kms._fit import require_types
from dmabuf.devices.kms._screen import Screen
from dmabuf.devices.kms._writeback import Writeback, find_writeback
from dmabuf.errors import UnsupportedError
from dmabuf.fence import Fence
from dmabuf.image import Image


class CapturedScreen(Screen):
    """A screen whose picture can be captured, where the device has a writeback connector."""

    __slots__ = ("_writeback",)

    def __init__(self, path: str | os.PathLike[str], connector: str | None, atomic: bool) -> None:
        self._writeback: Writeback | None = None
        super().__init__(path, connector, atomic)

    def capture(self, image: Image, *, timeout: float | None = None) -> Fence:
        """Write what the display shows into an image; return a fence that signals when it is done.

            with display.capture(image) as fence:
                fence.wait()
            image.save("screen.png")

        For tests, recordings and screenshots. The picture is the image that `show()` was given,
        with what the hardware adds to it. The kernel writes the next frame. Wait for the fence
        before you use the image, or have other devices wait for it with `buffer.import_fence(fence,
        Access.WRITE)`.

        Blocks until a pending flip and the previous capture are done; TimeoutError after `timeout`
        seconds. The first capture may make the screen flicker. Where the hardware can't drive the
        monitor and the capture together, as vkms on Linux 6.12, the monitor stays dark until the
        next `show()`.

        UnsupportedError if the device has no writeback connector, or the display is not atomic:
        vkms, the Raspberry Pi and many ARM SoCs have one; GPUs of PCs and of virtual machines do
        not. RefusedError (EINVAL) before the first `show()`, and if the image does not have the
        size of the mode or a format that the device writes. OSError of the device as for `show()`.
        Needs Linux 5.0. Follows drivers/gpu/drm/drm_writeback.c.
        """
        require_types(image, None)
        return self._take_turn(partial(self._try_to_capture, image, timeout), timeout)

    def _try_to_capture(self, image: Image, timeout: float | None, fd: int) -> Fence | Obstacle:
        if self._writeback is None:
            self._writeback = find_writeback(fd, self._pipeline, self.driver)
        writeback = self._writeback
        if writeback is None:
            raise UnsupportedError(
                errno.EOPNOTSUPP,
                f"{self.path} ({self.driver}) can't be captured: it has no writeback connector, or "
                f"was opened with atomic=False; capture the images that are shown instead",
            )
        writeback.require_fitting(self.path, image, self._mode)
        before = writeback.unfinished()
        if before is not None:
            return Obstacle(
                before,
                f"{self.path}: the capture before is still being written after {timeout} s",
            )
        commit = partial(writeback.commit, fd)
        return self._submit(image, None, "write its picture into", commit)[1]

    def _let_go(self) -> None:
        super()._let_go()
        if self._writeback is not None:
            self._writeback.close()
