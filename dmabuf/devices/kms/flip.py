"""Flips: changes of the picture on a screen."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Generator

from dmabuf.devices.drm import Device
from dmabuf.devices.kms import _ioctl
from dmabuf.devices.kms._events import Events, Pending
from dmabuf.errors import UnsupportedError
from dmabuf.fence import Fence


class Flip:
    """The change of the screen to an image that `Display.show` has submitted to the kernel.

        flip = display.show(image)
        assert flip.wait(timeout=1)
        print(flip.timestamp)

    It is done once the image is on the screen. Then the buffers of the previous image may be
    written again; those of this image may not. `await flip` waits in asyncio. Thread-safe.
    """

    __slots__ = ("_device", "_events", "_pending")

    def __init__(self, device: Device, events: Events, pending: Pending) -> None:
        self._device = device
        self._events = events
        self._pending = pending

    @property
    def fence(self) -> Fence:
        """The out-fence, which signals when the flip is done. It does not need to be closed.

        Give it to the device that writes the previous image's buffers next. UnsupportedError
        (EOPNOTSUPP) if the display is not atomic. Follows OUT_FENCE_PTR in
        drivers/gpu/drm/drm_atomic_uapi.c.
        """
        fence = self._pending.fence
        if fence is None:
            raise UnsupportedError(
                errno.EOPNOTSUPP,
                f"{self._device!r} has no fences: its driver is not atomic; use wait()",
            )
        return fence

    @property
    def done(self) -> bool:
        """True once the image is on the screen."""
        if self._pending.event is not None:
            return True
        fence = self._open_fence()
        if fence is not None:
            with contextlib.suppress(ValueError):  # closed by another thread, just now
                return fence.signaled
        return self._event() is not None

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the flip is done. Return False if `timeout` seconds pass first.

        ValueError if the display is closed before the flip is done and is not atomic. Uses poll(2);
        other threads run meanwhile. A signal handler that raises ends the wait.
        """
        fence = self._open_fence()
        if fence is not None:
            try:
                return fence.wait(timeout)
            except ValueError:
                pass  # closed by another thread, just now
        return self._events.wait(self._device, self._pending, timeout)

    def __await__(self) -> Generator[object, None, None]:
        """Wait in the running asyncio event loop until the flip is done."""
        fence = self._open_fence()
        if fence is None:
            return self._events.ready(self._device, self._pending).__await__()
        return fence.__await__()

    def _open_fence(self) -> Fence | None:
        """Return the fence to wait for; it needs no reading, and so no other thread."""
        fence = self._pending.fence
        return None if fence is None or fence.closed else fence

    @property
    def sequence(self) -> int | None:
        """The display's frame counter at the flip; a gap between flips means frames in between.

        None until the flip is done, and if the driver does not count frames.
        """
        event = self._event()
        return None if event is None else event.sequence

    @property
    def timestamp(self) -> float | None:
        """The time at which the first frame with the image began, in `time.monotonic()` seconds.

        None until the flip is done.
        """
        event = self._event()
        return None if event is None else event.timestamp

    def _event(self) -> _ioctl.Event | None:
        if self._pending.event is None and not self._device.closed:
            self._events.read(self._device)
        return self._pending.event

    def __repr__(self) -> str:
        about = f"<dmabuf.devices.kms.Flip of {self._device.path}"
        event = self._pending.event
        if event is None:
            return f"{about}>"
        return f"{about} sequence={event.sequence} timestamp={event.timestamp:.6f}>"
