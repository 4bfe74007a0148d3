"""Displays: show images on a screen by kernel mode setting (KMS), without a copy."""

from __future__ import annotations

import errno
import os
from functools import partial

from dmabuf._fd import Hold
from dmabuf.devices.drm import can_import
from dmabuf.devices.drm._inspect import primary_nodes
from dmabuf.devices.kms._capture import CapturedScreen
from dmabuf.devices.kms._commit import Atomic, Obstacle, Wanted
from dmabuf.devices.kms._fit import choose_mode, require_showable, require_types
from dmabuf.devices.kms.flip import Flip
from dmabuf.devices.kms.outputs import (
    Connector,
    DisplayPlane,
    Mode,
    read_connectors,
    read_planes,
)
from dmabuf.errors import os_error
from dmabuf.fence import Fence
from dmabuf.image import Image


class Display(CapturedScreen):
    """One monitor on one DRM device.

    This process is DRM master, which alone may change the picture.

        with Display() as display:
            image = dmabuf.Image(buffer, "XRGB8888", *display.connector.modes[0].size)
            display.show(image).wait()

    Closing it restores the picture that was there before. Thread-safe. Use it as a context manager,
    or call `close()`. A forked child has a copy of the descriptor, and the device keeps its master
    until the child has closed it too. The child can't show anything (ValueError), and closing there
    changes neither the picture nor a pending flip.
    """

    __slots__ = ()

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        connector: str | None = None,
        atomic: bool = True,
    ) -> None:
        """Open a device's primary node and choose a connector.

        Without `path`, the first connected display whose driver can import buffers. `connector` is
        the name of one of its `connectors()`; the default is the first one with a monitor. With
        `atomic` False, and if the driver has no atomic commits, images are shown by the older
        ioctls (SETCRTC, PAGE_FLIP).

        OSError: ENODEV if the device is not a display or has no monitor, EBUSY while another
        program is master, EACCES if this user may not open the node. ValueError if there is no such
        connector.
        """
        super().__init__(_find_display() if path is None else path, connector, atomic)

    @property
    def atomic(self) -> bool:
        """True if images are shown by atomic commits, which accept and return fences."""
        return isinstance(self._commit, Atomic)

    def connectors(self) -> list[Connector]:
        """Return the device's connectors as they are now.

        The kernel queries each monitor, which may take a second. Follows
        DRM_IOCTL_MODE_GETCONNECTOR.
        """
        with Hold(self) as fd:
            return read_connectors(fd)

    @property
    def connector(self) -> Connector:
        """The connector that shows the images, as it was when the display was opened."""
        return self._pipeline.connector

    def planes(self) -> list[DisplayPlane]:
        """Return the device's planes. Follows DRM_IOCTL_MODE_GETPLANE."""
        with Hold(self) as fd:
            return list(read_planes(fd))

    @property
    def plane(self) -> DisplayPlane:
        """The plane that shows the images. Its `formats` are those that can be shown."""
        return self._pipeline.plane

    @property
    def mode(self) -> Mode | None:
        """The mode that the last `show()` set; None before the first."""
        return self._mode

    def show(
        self,
        image: Image,
        fence: Fence | None = None,
        *,
        mode: Mode | None = None,
        timeout: float | None = None,
    ) -> Flip:
        """Show an image as soon as it is ready. Return the `Flip` to it at once.

        The kernel waits for `fence` or, without one, for the pending writers of the image's
        buffers, and flips with the next frame. It does not wait for readers. Before Linux 5.15 some
        drivers, such as cirrus, do not wait for the writers. If the display is not atomic, the
        fence is imported into the buffers as that of a writer (Linux 6.0), and setting a mode
        blocks until the image is ready.

        Only one flip can be pending: the call blocks until the previous one is done. TimeoutError
        after `timeout` seconds; nothing has changed then. `mode` is one of the connector's modes;
        the default is the best one that has the image's size. It is set if it differs from the
        previous one. The kernel's framebuffer is kept until the image's buffers are closed or
        collected.

        RefusedError (EINVAL) if the plane does not support the image's format or modifier, or if no
        mode has its size. To show an NV12 image of a camera, convert it: `rgb = image.to_rgb()`,
        and in a `write()` of an XRGB8888 image `planes[0][..., 2::-1] = rgb`. OSError of the
        device: EACCES if another program has become master, ENODEV if the device is gone. Follows
        drivers/gpu/drm/drm_atomic_uapi.c.
        """
        require_types(image, fence)
        require_showable(self.path, self._pipeline, image)
        chosen = self._mode
        if mode is not None or chosen is None or chosen.size != (image.width, image.height):
            chosen = choose_mode(self.connector, image, mode)
        return self._take_turn(partial(self._try_to_show, image, fence, chosen), timeout)

    def _try_to_show(
        self, image: Image, fence: Fence | None, mode: Mode, fd: int
    ) -> Flip | Obstacle:
        wanted = Wanted(image, fence, None if mode == self._mode else mode)
        if wanted.mode is not None and (obstacle := self._commit.find_obstacle(wanted)):
            return obstacle
        if self._writeback is not None and self._mode is not None:
            self._writeback.give_back(fd, self._shown, self._mode)
        commit = partial(self._commit.flip, self, fd, wanted)
        pending, out_fence = self._submit(image, mode, "show", commit)
        pending.fence = out_fence
        return Flip(self, self._events, pending)

    def __repr__(self) -> str:
        state = "[closed]" if self.closed else f"fd={self._number}"
        monitor = f" {self.connector.name}" if hasattr(self, "_pipeline") else ""
        return f"<dmabuf.devices.kms.Display {self.path} {self.driver}{monitor} {state}>"


def _find_display() -> str:
    """Return the first primary node with a monitor whose driver imports buffers."""
    refusals = []
    for node in primary_nodes():
        try:
            with Display(node) as display:
                if can_import(display):
                    return display.path
                refusals.append(f"{node} ({display.driver}) imports no buffers")
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EACCES, errno.EPERM):
                raise  # it could be the one
            refusals.append(error.args[1])
    causes = "; ".join(refusals) or "there is no node /dev/dri/card*"
    raise os_error(errno.ENODEV, f"no display that could be used: {causes}")
