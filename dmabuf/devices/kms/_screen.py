"""A display's state: its pipeline, what is pending on it, and the turns that commits take."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from dmabuf._fd import Descriptor, Hold
from dmabuf._locks import Lock
from dmabuf._owning import own_duplicate
from dmabuf._timeout import deadline, seconds_left
from dmabuf.devices.drm import Device
from dmabuf.devices.drm import _ioctl as _drm_ioctl
from dmabuf.devices.kms import _ioctl
from dmabuf.devices.kms._commit import Atomic, Legacy, Obstacle
from dmabuf.devices.kms._events import Events, Pending
from dmabuf.devices.kms._framebuffer import Framebuffers
from dmabuf.devices.kms._pipeline import choose_pipeline, require_display, restore
from dmabuf.devices.kms.flip import Flip
from dmabuf.devices.kms.outputs import Mode
from dmabuf.errors import os_error
from dmabuf.image import Image

_LONGEST = 10.0
"""Seconds for which a close waits for a flip: in them vgem's fences expire, and GPUs are reset."""

_Result = TypeVar("_Result")


class Screen(Device):
    """What a display shows, and has been told to: one commit at a time is pending."""

    __slots__ = (
        *("_commit", "_events", "_framebuffers", "_leaving", "_mode", "_pending", "_pipeline"),
        *("_restored", "_showing", "_shown"),
    )

    def __init__(self, path: str | os.PathLike[str], connector: str | None, atomic: bool) -> None:
        self._events = Events()
        self._pending: Pending | None = None
        self._mode: Mode | None = None
        self._shown = 0
        self._leaving = False
        self._showing = Lock()
        super().__init__(path)
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

    def _take_turn(
        self, attempt: Callable[[int], _Result | Obstacle], timeout: float | None
    ) -> _Result:
        """Return what `attempt` does with the descriptor, once nothing is pending or in its way.

        An obstacle is waited for, and looked for again: others may have their turn before. At the
        end of the time-out TimeoutError; nothing has changed then.
        """
        self._require_own()
        end = deadline(timeout)
        with Hold(self) as fd:
            while True:
                with self._showing:
                    if self._leaving:
                        raise ValueError(f"operation on a closed Display: {self!r}")
                    self._events.read(self)
                    before = self._unfinished()
                    made = self._flip_before(before, timeout) if before else attempt(fd)
                # Others may have their turn, or close, while this waits.
                if not isinstance(made, Obstacle):
                    return made
                if not made.wait(seconds_left(end)):
                    raise TimeoutError(made.late)

    def _flip_before(self, pending: Pending, timeout: float | None) -> Obstacle:
        return Obstacle(
            partial(self._events.wait_turn, self, pending),
            f"{self.path}: the flip before is still pending after {timeout} s, "
            f"for its fence or the next frame; wait for it",
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

    def _submit(
        self,
        image: Image,
        mode: Mode | None,
        use: str,
        commit: Callable[[int, Pending], _Result],
    ) -> tuple[Pending, _Result]:
        """Have a commit take an image's framebuffer; return what pends then, and its result.

        With a mode it is on the screen from here on. `use` is what the commit does with the image.
        """
        self._framebuffers.forget(self, but=self._shown)
        framebuffer = self._framebuffers.get(self, image)
        pending = self._events.expect()
        try:
            return pending, commit(framebuffer, pending)
        except BaseException as error:
            raise self._with_meaning(error, f"can't {use} {image!r}") from None
        finally:
            # No signal handler runs here, before it is known what the kernel has taken.
            if mode is not None and (pending.shown or pending.taken):
                self._shown = framebuffer
                self._mode = mode
            if pending.taken:
                self._pending = pending
            else:
                self._events.forget(pending)

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
        """Close the display and restore the picture from before the first `show()`.

        Blocks until the pending flip is done, at most 10 seconds; a signal handler that raises ends
        the wait. After that a thread restores the picture once the flip's fence has signalled, and
        this process stays DRM master until then. If the process ends earlier, its exit blocks in
        the kernel until the fence signals: close the fence's source first.

        Nothing is restored by a forked child, or if another program has become master, or if the
        device is gone. A display that is garbage collected without `close()` restores nothing, and
        may block.
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

    def _restore(self, fd: int) -> None:
        mode, self._mode = self._mode, None
        if mode is not None:
            restore(fd, self._pipeline, self._restored)


def _enable_atomic(fd: int) -> bool:
    """Ask for atomic commits; False if the driver can't."""
    try:
        _ioctl.set_client_cap(fd, _ioctl.DRM_CLIENT_CAP_ATOMIC, 1)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        return False
    return True
