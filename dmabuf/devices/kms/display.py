"""Displays: images on a screen, by kernel mode setting (KMS), without a copy."""

from __future__ import annotations

import contextlib
import errno
import os
import threading

from dmabuf._fd import Descriptor, Hold, own_duplicate
from dmabuf._timeout import deadline, seconds_left
from dmabuf.devices.drm import Device, can_import
from dmabuf.devices.drm import _ioctl as _drm_ioctl
from dmabuf.devices.drm._inspect import primary_nodes
from dmabuf.devices.kms import _ioctl
from dmabuf.devices.kms._commit import Atomic, Legacy, Wanted
from dmabuf.devices.kms._events import Events, Pending
from dmabuf.devices.kms._fit import choose_mode, require_showable, require_types
from dmabuf.devices.kms._framebuffer import Framebuffers
from dmabuf.devices.kms._pipeline import choose_pipeline, require_display, restore
from dmabuf.devices.kms._writeback import Writeback, find_writeback
from dmabuf.devices.kms.flip import Flip
from dmabuf.devices.kms.outputs import (
    Connector,
    DisplayPlane,
    Mode,
    read_connectors,
    read_planes,
)
from dmabuf.errors import UnsupportedError, os_error
from dmabuf.fence import Fence
from dmabuf.image import Image

_NOW = 0.0
"""A deadline that has passed."""
_LONGEST = 10.0
"""Seconds for which a close waits for a flip: in them vgem's fences expire, and GPUs are reset."""


class Display(Device):
    """One monitor on one DRM device, whose master this process is: the one who may change it.

    Closing it shows again what was there before. Thread-safe. Use it as a context manager, or call
    `close()`. A forked child has a copy of the descriptor, which keeps the master's right until it
    is closed; it shows nothing (ValueError), and leaves the picture and what is pending alone.

        with Display() as display:
            image = dmabuf.Image(buffer, "XRGB8888", *display.connector.modes[0].size)
            display.show(image).wait()
    """

    __slots__ = (
        "_commit",
        "_events",
        "_framebuffers",
        "_leaving",
        "_mode",
        "_pending",
        "_pipeline",
        "_restored",
        "_showing",
        "_shown",
        "_writeback",
    )

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        connector: str | None = None,
        atomic: bool = True,
    ) -> None:
        """Open a device's primary node and choose a connector.

        Without `path`, the first connected display whose driver can import buffers. `connector` is
        the name of one of its `connectors()`, by default the first with a monitor. With `atomic`
        False, and where the driver can't, images are shown by the calls that came before atomic
        commits. OSError: ENODEV for what is no display or has no monitor, EBUSY while another
        program is master. ValueError if there is no such connector.
        """
        self._events = Events()
        self._pending: Pending | None = None
        self._mode: Mode | None = None
        self._shown = 0
        self._leaving = False
        self._writeback: Writeback | None = None
        self._showing = threading.RLock()
        super().__init__(_find_display() if path is None else path)
        try:
            with Hold(self) as fd:
                self._open(fd, connector, atomic)
        except BaseException:
            super().close()
            raise

    def _open(self, fd: int, connector: str | None, atomic: bool) -> None:
        require_display(self, fd)
        os.set_blocking(fd, False)
        _ioctl.set_client_cap(fd, _ioctl.DRM_CLIENT_CAP_UNIVERSAL_PLANES, 1)
        uses_atomic = atomic and _enable_atomic(fd)
        pipeline = choose_pipeline(self, fd, connector)
        self._commit = Atomic(fd, pipeline, self._handles) if uses_atomic else Legacy(pipeline)
        has_modifiers = bool(_drm_ioctl.get_cap(fd, _drm_ioctl.DRM_CAP_ADDFB2_MODIFIERS))
        self._framebuffers = Framebuffers(self._handles, with_modifiers=has_modifiers)
        self._restored = _ioctl.get_crtc(fd, pipeline.crtc)
        self._pipeline = pipeline

    @property
    def atomic(self) -> bool:
        """True if images are shown by atomic commits, which take and give fences."""
        return isinstance(self._commit, Atomic)

    def connectors(self) -> list[Connector]:
        """Ask for the device's connectors; the kernel asks each monitor, which may take a second.

        Follows DRM_IOCTL_MODE_GETCONNECTOR.
        """
        with Hold(self) as fd:
            return read_connectors(fd)

    @property
    def connector(self) -> Connector:
        """The connector that shows the images, as it was when the display was opened."""
        return self._pipeline.connector

    def planes(self) -> list[DisplayPlane]:
        """Ask for the device's planes. Follows DRM_IOCTL_MODE_GETPLANE."""
        with Hold(self) as fd:
            return list(read_planes(fd))

    @property
    def plane(self) -> DisplayPlane:
        """The plane that images are shown on; its formats are those that can be shown."""
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
        """Show an image as soon as it is ready, and return the flip to it without waiting for that.

        The kernel waits for `fence` or, without one, for the pending writers of the image's
        buffers, and flips at the next frame; no code of this process is needed for that. Readers
        hold nothing up. (Before Linux 5.15 not every driver waits for the writers: cirrus does
        not.) On a driver that is not atomic the fence is imported into the buffers, as a writer's
        (Linux 6.0), and setting a mode blocks until the image is ready.

        Only one flip can be pending: blocks until the one before is done, TimeoutError after
        `timeout` seconds; nothing has changed then. `mode` is one of the connector's, by default
        the best of the image's size, which it must have; it is set when it differs from the last.
        The framebuffer is kept until its buffers are closed or collected.

        RefusedError (EINVAL) if the plane doesn't have the image's format or modifier, or no mode
        its size. An NV12 image of a camera is converted so: `rgb = image.to_rgb()`, and in a
        `write()` of an XRGB8888 image `planes[0][..., 2::-1] = rgb`. OSError of the device: EACCES
        when another program has become master, ENODEV when it is gone. Follows
        drivers/gpu/drm/drm_atomic_uapi.c.
        """
        require_types(image, fence)
        require_showable(self.path, self._pipeline, image)
        chosen = self._mode
        if mode is not None or chosen is None or chosen.size != (image.width, image.height):
            chosen = choose_mode(self.connector, image, mode)
        self._require_own()
        end = deadline(timeout)
        with Hold(self) as fd:
            while True:
                with self._showing:
                    self._require_stay()
                    self._events.read(self)
                    wanted = Wanted(image, fence, None if chosen == self._mode else chosen)
                    before = self._unfinished()
                    if before is None and self._commit.can_flip(wanted, _NOW):
                        return self._flip(fd, wanted, chosen)
                # Others may show, or close, while this waits.
                if before is not None:
                    self._wait_turn(before, end, timeout)
                elif not self._commit.can_flip(wanted, end):
                    raise TimeoutError(
                        f"a display that is not atomic sets a mode only for an image that is "
                        f"ready, and {image!r} is still being written"
                    )

    def capture(self, image: Image, *, timeout: float | None = None) -> Fence:
        """Have the display write what it shows into an image; return the fence that says it has.

        What is shown is all that `show()` was given, and what the hardware adds to it. The kernel
        writes the next frame: use the image once the fence has signalled, `fence.wait()`, or have
        others wait by `buffer.import_fence(fence, Access.WRITE)`. It is for tests, recordings and
        pictures of the screen.

            with display.capture(image) as fence:
                fence.wait()
            image.save("screen.png")

        Blocks until a pending flip and the capture before are done, TimeoutError after `timeout`
        seconds. The first time the screen may flicker. Where the device can't drive both at once,
        as vkms on Linux 6.12, the monitor is dark from there on, until the next `show()`.

        UnsupportedError where the device has no writeback connector: vkms, the Raspberry Pi and
        many SoCs of ARM have one, PCs' GPUs and virtual ones don't; and on a display that is not
        atomic. RefusedError (EINVAL) before the first `show()`, or if the image has not the size of
        the mode, or a format that is not written back. OSError of the device, as for `show()`.
        Follows drivers/gpu/drm/drm_writeback.c (Linux 5.0).
        """
        require_types(image, None)
        self._require_own()
        end = deadline(timeout)
        with Hold(self) as fd:
            while True:
                with self._showing:
                    self._require_stay()
                    self._events.read(self)
                    writeback = self._find_writeback(fd)
                    writeback.require_fitting(self.path, image, self._mode)
                    before = self._unfinished()
                    written = writeback.unfinished() if before is None else None
                    if before is None and written is None:
                        return self._capture(fd, writeback, image)
                if before is not None:
                    self._wait_turn(before, end, timeout)
                elif written is not None and not written.wait(seconds_left(end)):
                    raise TimeoutError(
                        f"{self.path}: the capture before is still being written after {timeout} s"
                    )

    def _find_writeback(self, fd: int) -> Writeback:
        if self._writeback is None:
            self._writeback = find_writeback(fd, self._pipeline)
        if self._writeback is None:
            raise UnsupportedError(
                errno.EOPNOTSUPP,
                f"{self.path} ({self.driver}) can't be captured: it has no writeback connector, or "
                f"was opened with atomic=False; capture the images that are shown instead",
            )
        return self._writeback

    def _capture(self, fd: int, writeback: Writeback, image: Image) -> Fence:
        self._framebuffers.forget(self, but=self._shown)
        framebuffer = self._framebuffers.get(self, image)
        pending = Pending()
        cookie = self._events.expect(pending)
        try:
            return writeback.commit(fd, framebuffer, pending, cookie)
        except BaseException as error:
            raise self._with_meaning(error, f"can't write its picture into {image!r}") from None
        finally:
            # No signal handler runs here, before it is known what the kernel has taken.
            if pending.taken:
                self._pending = pending
            else:
                self._events.forget(cookie)

    def _wait_turn(self, before: Pending, end: float, timeout: float | None) -> None:
        """Wait until a flip is done; TimeoutError at the `end` of a time-out."""
        if not self._events.wait_turn(self, before, seconds_left(end)):
            raise TimeoutError(
                f"{self.path}: the flip before is still pending after {timeout} s, "
                f"for its fence or the next frame; wait for it"
            )

    def _unfinished(self) -> Pending | None:
        """Return the flip that the kernel has not done yet."""
        pending = self._pending
        if pending is None or pending.event is not None:
            return None
        return None if Flip(self, self._events, pending).done else pending

    def _require_own(self) -> None:
        if self.forked:
            raise ValueError(
                f"{self.path} is the display of this process's parent, and this is a forked child; "
                f"close it in both, and open it here"
            )

    def _require_stay(self) -> None:
        if self._leaving:
            raise ValueError(f"operation on a closed Display: {self!r}")

    def _flip(self, fd: int, wanted: Wanted, mode: Mode) -> Flip:
        if self._writeback is not None and self._mode is not None:
            self._writeback.give_back(fd, self._shown, self._mode)
        self._framebuffers.forget(self, but=self._shown)
        framebuffer = self._framebuffers.get(self, wanted.image)
        pending = Pending()
        cookie = self._events.expect(pending)
        try:
            pending.fence = self._commit.flip(self, fd, framebuffer, wanted, pending, cookie)
        except BaseException as error:
            raise self._with_meaning(error, f"can't show {wanted.image!r}") from None
        finally:
            # No signal handler runs here, before it is known what the kernel has taken.
            if pending.shown or pending.taken:
                self._shown = framebuffer
                self._mode = mode
            if pending.taken:
                self._pending = pending
            else:
                self._events.forget(cookie)
        return Flip(self, self._events, pending)

    def _with_meaning(self, error: BaseException, refusal: str) -> BaseException:
        """Return an error of a commit with what it means; `refusal` is what its driver can't."""
        reasons = {
            errno.EACCES: "another program has become master of it",
            errno.EBUSY: "something else is pending on it",
            errno.ENODEV: "it is gone; close it",
            errno.EINVAL: f"its driver {refusal}",
        }
        if not isinstance(error, OSError) or error.errno not in reasons:
            return error
        reason = reasons[error.errno]
        return os_error(error.errno, f"{self.path} ({self.driver}): {reason} ({error.args[1]})")

    def close(self) -> None:
        """Close, and show again what was there before the first `show()`.

        Blocks until the pending flip is done, which waits for its fence and then for a frame, but
        for 10 seconds at the most; a signal handler that raises ends that, too. Then a thread does
        the rest once the fence has signalled: until then this process stays the display's master.
        A process that ends before hangs in the kernel until somebody signals the fence: close what
        it is of first.

        Nothing is restored by a forked child, when another program has become master, or when the
        device is gone. A display that is collected unclosed restores nothing, and may block.
        """
        try:
            if not (self._closed or self.forked):
                self._leave()
        finally:
            super().close()

    def _leave(self) -> None:
        with self._showing:
            self._leaving = True  # nobody flips any more
        with contextlib.suppress(ValueError):  # another thread has closed it
            try:
                if pending := self._unfinished():
                    self._events.wait_turn(self, pending, _LONGEST)
            finally:
                if self._unfinished():
                    later = own_duplicate(Descriptor.__new__(Descriptor), self)
                    threading.Thread(target=self._restore_later, args=(later,), daemon=True).start()
                else:
                    with Hold(self) as fd:
                        self._restore(fd)
                        self._events.read(self)

    def _restore_later(self, later: Descriptor) -> None:
        """Restore by a descriptor of its own: the kernel waits for the pending flip, maybe long."""
        with later, Hold(later) as fd:
            self._restore(fd)

    def _let_go(self) -> None:
        super()._let_go()
        self._pending = None
        self._events.end()
        if hasattr(self, "_framebuffers"):
            self._framebuffers.unwatch()
        writeback: Writeback | None = getattr(self, "_writeback", None)
        if writeback is not None:
            writeback.close()

    def _restore(self, fd: int) -> None:
        mode, self._mode = self._mode, None
        if mode is not None:
            restore(fd, self._pipeline, self._restored)

    def __repr__(self) -> str:
        state = "[closed]" if self.closed else f"fd={self._number}"
        monitor = f" {self.connector.name}" if hasattr(self, "_pipeline") else ""
        return f"<dmabuf.devices.kms.Display {self.path} {self.driver}{monitor} {state}>"


def _enable_atomic(fd: int) -> bool:
    """Ask for atomic commits; False if the driver can't."""
    try:
        _ioctl.set_client_cap(fd, _ioctl.DRM_CLIENT_CAP_ATOMIC, 1)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        return False
    return True


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
