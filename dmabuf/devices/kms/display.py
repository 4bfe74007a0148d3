"""Displays: images on a screen, by kernel mode setting (KMS), without a copy."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dmabuf._fd import Hold
from dmabuf.access import Access
from dmabuf.buffer import Buffer
from dmabuf.devices.drm import Device
from dmabuf.devices.drm import _ioctl as _drm_ioctl
from dmabuf.devices.kms import _ioctl
from dmabuf.devices.kms._commit import Atomic, Legacy, Pipeline
from dmabuf.devices.kms._fit import choose_mode, require_showable
from dmabuf.devices.kms._framebuffer import Framebuffers
from dmabuf.devices.kms.flip import Events, Flip, OutFence, Pending
from dmabuf.devices.kms.outputs import (
    Connector,
    ConnectorStatus,
    Mode,
    Plane,
    PlaneKind,
    find_crtc,
    read_connector,
    read_planes,
)
from dmabuf.errors import os_error
from dmabuf.exporters import allocate
from dmabuf.fence import Fence, own_fence_as

if TYPE_CHECKING:
    from dmabuf.image import Image

_NODES = Path("/dev/dri")


class Display(Device):
    """One monitor on one DRM device, which this process is master of.

    Closing it shows again what was there before. Thread-safe. Use it as a context manager, or call
    `close()`.
    """

    __slots__ = (
        "_commit",
        "_connector",
        "_crtc",
        "_events",
        "_framebuffers",
        "_mode",
        "_pending",
        "_plane",
        "_restored",
        "_showing",
        "_shown",
    )

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        connector: str | None = None,
        atomic: bool = True,
    ) -> None:
        """Open a device's primary node, without a path the first with a monitor that imports.

        `connector` is the name of one of its `connectors`, by default the first with a monitor on
        it. Without `atomic`, and where the driver can't, images are shown by the calls that came
        before atomic commits. OSError: ENODEV for what is no display or has no monitor, EBUSY while
        another program is master.
        """
        super().__init__(_find_display() if path is None else path)
        try:
            with Hold(self) as fd:
                self._open(fd, connector, atomic)
        except BaseException:
            super().close()
            raise

    def _open(self, fd: int, connector: str | None, atomic: bool) -> None:
        self._require_display(fd)
        self._require_master(fd)
        os.set_blocking(fd, False)
        _ioctl.set_client_cap(fd, _ioctl.DRM_CLIENT_CAP_UNIVERSAL_PLANES, 1)
        atomic = atomic and _has_atomic(fd)
        self._connector = self._choose(connector)
        self._crtc, index = find_crtc(fd, self._connector.number)
        self._plane, properties = next(
            (plane, properties)
            for plane, properties in read_planes(fd)
            if plane.kind is PlaneKind.PRIMARY and plane.crtcs >> index & 1
        )
        pipeline = Pipeline(self._connector.number, self._crtc, self._plane.number)
        ids = {name: number for name, (number, _) in properties.items()}
        self._commit = Atomic(fd, pipeline, ids) if atomic else Legacy(pipeline)
        has_modifiers = bool(_drm_ioctl.get_cap(fd, _drm_ioctl.DRM_CAP_ADDFB2_MODIFIERS))
        self._framebuffers = Framebuffers(with_modifiers=has_modifiers)
        self._events = Events()
        self._showing = threading.RLock()
        self._mode: Mode | None = None
        self._pending: Pending | None = None
        self._shown = 0
        self._restored = _ioctl.get_crtc(fd, self._crtc)

    def _require_display(self, fd: int) -> None:
        try:
            there = _ioctl.get_resources(fd)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL):
                raise
            there = _ioctl.Resources([], [])
        if not (there.crtcs and there.connectors):
            what = f"{self.path} ({self.driver}) is no display"
            if os.path.basename(self.path).startswith("renderD"):
                what += " but a render node; open /dev/dri/card…"
            raise os_error(errno.ENODEV, what)

    def _require_master(self, fd: int) -> None:
        try:
            _ioctl.auth_magic(fd, 0)  # nobody's
        except OSError as error:
            if error.errno != errno.EACCES:
                return
            what = f"{self.path}: another program is master of this display, such as a desktop"
            raise os_error(
                errno.EBUSY, f"{what}; end it, or switch to another virtual terminal"
            ) from None

    def _choose(self, name: str | None) -> Connector:
        connectors = self.connectors
        if name is not None:
            for connector in connectors:
                if connector.name == name:
                    return connector
            names = ", ".join(connector.name for connector in connectors)
            raise ValueError(f"{self.path} has no connector {name!r} but {names}")
        for connector in connectors:
            if connector.status is ConnectorStatus.CONNECTED and connector.modes:
                return connector
        states = ", ".join(f"{one.name} is {one.status.name.lower()}" for one in connectors)
        raise os_error(errno.ENODEV, f"{self.path} ({self.driver}) has no monitor: {states}")

    @property
    def atomic(self) -> bool:
        """Whether images are shown by atomic commits, which take and give fences."""
        return isinstance(self._commit, Atomic)

    @property
    def connectors(self) -> list[Connector]:
        """The device's connectors now; the kernel asks each monitor, which may take a second."""
        with Hold(self) as fd:
            numbers = _ioctl.get_resources(fd).connectors
            return [read_connector(fd, number) for number in numbers]

    @property
    def connector(self) -> Connector:
        """The connector that is shown on, as it was when the display was opened."""
        return self._connector

    @property
    def planes(self) -> list[Plane]:
        """The device's planes."""
        with Hold(self) as fd:
            return [plane for plane, _ in read_planes(fd)]

    @property
    def plane(self) -> Plane:
        """The plane that images are shown on; its formats are those that can be shown."""
        return self._plane

    @property
    def mode(self) -> Mode | None:
        """The mode that was set by the last `show()`; None before the first."""
        return self._mode

    def show(
        self,
        image: Image,
        fence: Fence | None = None,
        *,
        mode: Mode | None = None,
        timeout: float | None = None,
    ) -> Flip:
        """Show an image as soon as it is ready, and return at once with the flip to it.

        The kernel waits for `fence`, or, without one, for the pending writers of the image's
        buffers, and flips at the next frame; no code of this process is needed for that. Readers
        hold nothing up. (Before Linux 5.15 not every driver waits for the writers: cirrus does
        not.) On a driver that is not atomic the fence is imported into the buffers, as a writer's
        (Linux 6.0), and setting a mode waits for them.

        A flip that is still pending is waited for, `timeout` seconds at the most: OSError (EBUSY)
        then. `mode` is one of the connector's, by default the best of the image's size, which it
        must have; it is set when it differs from the last. The framebuffer is kept until its
        buffers are closed or collected.

        RefusedError (EINVAL) if the plane doesn't have the image's format or modifier, or no mode
        its size; OSError of the device: EACCES when another program has become master, ENODEV when
        it is gone. Follows drivers/gpu/drm/drm_atomic_uapi.c.
        """
        _check(image, fence)
        require_showable(self._plane, image)
        if mode is None and self._mode and self._mode.size == (image.width, image.height):
            mode = self._mode
        wanted = choose_mode(self._connector, image, mode)
        deadline = None if timeout is None else time.monotonic() + timeout
        with Hold(self) as fd:
            while True:
                with self._showing:
                    before = Flip(self, self._pending) if self._pending else None
                    if before is None or before.done:
                        return self._flip(fd, image, fence, wanted, deadline)
                if not before.wait(None if deadline is None else deadline - time.monotonic()):
                    what = f"{self.path}: the flip before is still pending, for its fence or the"
                    raise os_error(errno.EBUSY, f"{what} next frame; wait for it")

    def _flip(
        self, fd: int, image: Image, fence: Fence | None, mode: Mode, deadline: float | None
    ) -> Flip:
        self._require_open()
        self._events.read(self)
        self._framebuffers.forget(fd, but=self._shown)
        changed = None if mode == self._mode else mode
        framebuffer = self._framebuffers.get(self, fd, image)
        if not self.atomic:
            self._hand_over(image, fence, deadline, waits=changed is not None)
        pending = Pending()
        cookie = self._events.expect(pending)
        try:
            if isinstance(self._commit, Atomic):
                with contextlib.ExitStack() as stack:
                    in_fence = stack.enter_context(Hold(fence)) if fence is not None else None
                    out_fence = self._commit.flip(fd, framebuffer, changed, in_fence, cookie)
                pending.fence = own_fence_as(OutFence, out_fence)
            else:
                self._commit.flip(fd, framebuffer, changed, cookie)
        except BaseException as error:
            self._events.forget(cookie)
            raise self._explained(error, image) from None
        self._pending = pending
        self._mode = mode
        self._shown = framebuffer
        return Flip(self, pending)

    def _hand_over(
        self, image: Image, fence: Fence | None, deadline: float | None, *, waits: bool
    ) -> None:
        """Leave the fence in the buffers, where a driver that is not atomic looks for it."""
        for buffer in image.buffers:
            if fence is not None:
                buffer.import_fence(fence, Access.WRITE)
            left = None if deadline is None else deadline - time.monotonic()
            if waits and not buffer.wait(Access.READ, left):
                text = f"{self.path} sets a mode only for an image that is ready; {image!r} is not"
                raise os_error(errno.EBUSY, text)

    def _explained(self, error: BaseException, image: Image) -> BaseException:
        """Return the error of a show with what it means."""
        reasons = {
            errno.EACCES: "another program has become master of it",
            errno.EBUSY: "something else is pending on it",
            errno.ENODEV: "it is gone; close it",
            errno.EINVAL: f"its driver can't show {image!r}",
        }
        if not isinstance(error, OSError) or error.errno not in reasons:
            return error
        reason = reasons[error.errno]
        return os_error(error.errno, f"{self.path} ({self.driver}): {reason} ({error.args[1]})")

    def close(self) -> None:
        """Close, and show again what was there before the first `show()`; waits for a frame.

        Nothing is restored by a forked child, when another program has become master, or when the
        device is gone.
        """
        try:
            if not (self.closed or self._forked):
                with self._showing, contextlib.suppress(ValueError), Hold(self) as fd:
                    self._restore(fd)
        finally:
            super().close()

    def _let_go(self) -> None:
        super()._let_go()
        self._pending, self._events = None, Events()  # their fences

    def _restore(self, fd: int) -> None:
        if self._mode is None:
            return
        self._mode = None
        with contextlib.suppress(OSError):
            try:
                connectors = [self._connector.number] if self._restored.timings else []
                _ioctl.set_crtc(fd, self._crtc, connectors, self._restored)
            except OSError as error:
                if error.errno in (errno.ENODEV, errno.EACCES):
                    raise
                _ioctl.set_crtc(fd, self._crtc, [], _ioctl.OFF)  # its framebuffer has gone
            self._events.read(self)

    def __repr__(self) -> str:
        state = "[closed]" if self.closed else f"fd={self._number}"
        monitor = f" {self._connector.name}" if hasattr(self, "_connector") else ""
        return f"<dmabuf.devices.kms.Display {self.path} {self.driver}{monitor} {state}>"


def _check(image: Image, fence: Fence | None) -> None:
    from dmabuf.image import Image

    if not isinstance(image, Image):
        raise TypeError(f"image must be a dmabuf.Image, not {type(image).__name__}")
    if fence is not None and not isinstance(fence, Fence):
        raise TypeError(f"fence must be a dmabuf.Fence, not {type(fence).__name__}")


def _has_atomic(fd: int) -> bool:
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
    for node in _nodes():
        try:
            with Display(node) as display:
                if _imports(display):
                    return display.path
                refusals.append(f"{node} ({display.driver}) imports no buffers")
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EACCES, errno.EPERM):
                raise  # it could be the one
            refusals.append(error.args[1])
    causes = "; ".join(refusals) or f"there is no node in {_NODES}"
    raise os_error(errno.ENODEV, f"no display that could be used: {causes}")


def _imports(display: Display) -> bool:
    """Whether a device takes buffers of others: some say that they do, and then don't."""
    if not display.capabilities().imports:
        return False
    buffer = _foreign_buffer(display)
    if buffer is None:
        return True  # there is nothing that it could import
    with buffer, contextlib.suppress(OSError):
        display.import_buffer(buffer).close()
        return True
    return False


def _foreign_buffer(device: Device) -> Buffer | None:
    with contextlib.suppress(OSError):
        return allocate(4096)
    for node in _nodes():
        with contextlib.suppress(OSError), Device(node) as other:
            if other.path != device.path:
                with other.create_dumb(64, 16, 32) as dumb:
                    return dumb.export()
    return None


def _nodes() -> list[Path]:
    """Return the primary nodes, in the order of their numbers."""
    return sorted(_NODES.glob("card*"), key=lambda node: (len(node.name), node.name))
