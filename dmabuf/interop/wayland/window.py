"""A window on a Wayland desktop, which shows images."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Literal, NamedTuple

from dmabuf._checked import whole
from dmabuf._locks import Lock
from dmabuf._record import record
from dmabuf._timeout import deadline, seconds_left
from dmabuf.access import Access
from dmabuf.fence import Fence
from dmabuf.image import Image, PixelFormat
from dmabuf.interop.wayland import _globals
from dmabuf.interop.wayland._buffers import Release, Shown, SurfaceBuffers
from dmabuf.interop.wayland._client import Client, Events
from dmabuf.interop.wayland._formats import Formats
from dmabuf.interop.wayland._globals import Globals
from dmabuf.interop.wayland._timelines import Timelines, find_device, ready
from dmabuf.interop.wayland.flip import Flip

_ALL = 0x7FFFFFFF


@record
class WindowEvent(NamedTuple):
    """A request of the user or the desktop to the window.

        for event in window:
            if event.kind == "close":
                break

    `Window.next()` and the iteration return them.
    """

    kind: Literal["close", "resize"]
    """"close" if the window should be closed, "resize" if it should have another size."""
    width: int
    """The requested width in pixels."""
    height: int
    """The requested height in pixels."""


class Window(Client):
    """A window that shows images without a copy, on any compositor that imports dma-bufs.

        with wayland.Window(640, 480, title="camera") as window:
            flip = window.show(image)
            flip.wait()

    It appears with the first image. `for event in window` returns the requests of its user;
    `fileno()` is readable when there is one. Thread-safe. Use it as a context manager, or call
    `close()`. In a forked child every call raises ValueError: the window belongs to the parent.
    """

    __slots__ = (
        *("_asked", "_buffers", "_events", "_formats", "_latest", "_shell", "_showing", "_size"),
        *("_surface", "_sync", "_synced", "_timelines", "_xdg_surface"),
    )

    def __init__(
        self,
        width: int,
        height: int,
        title: str = "",
        *,
        app_id: str = "",
        display: str | os.PathLike[str] | None = None,
        timeout: float | None = 10.0,
    ) -> None:
        """Open a window of a size in pixels. Images may have another size.

        `display` is the name or the path of a compositor's socket; the default is that of the
        desktop session (WAYLAND_SOCKET, WAYLAND_DISPLAY). `app_id` tells the desktop which program
        it is.

        OSError if no compositor answers there, TimeoutError if it does not within `timeout`
        seconds, and UnsupportedError if it lacks zwp_linux_dmabuf_v1 version 3.
        """
        self._size = whole(width, "width"), whole(height, "height")
        if min(self._size) < 1:
            raise ValueError(f"a window must have at least one pixel, not {width}x{height}")
        self._asked = self._size
        self._events: deque[WindowEvent] = deque()
        self._latest: Release | None = None
        self._timelines: Timelines | None = None
        self._showing = Lock()
        end = deadline(timeout)
        super().__init__(display)
        try:
            self._set_up(title, app_id, end)
        except BaseException:
            self.close()
            raise

    def _set_up(self, title: str, app_id: str, end: float) -> None:
        offers = Globals(self, seconds_left(end))
        compositor = offers.bind(_globals.COMPOSITOR, {})
        self._shell = offers.bind(_globals.SHELL, {0: ("u", self._answer_ping)})
        self._formats = Formats(self, offers, seconds_left(end))
        self._surface = self.new(dict.fromkeys((0, 1), ("o", None)))
        self.send(compositor, _globals.COMPOSITOR_CREATE_SURFACE, self._surface)
        self._synced = 0
        device = find_device() if offers.version(_globals.SYNCOBJ) else None
        if device is not None:
            self._timelines = Timelines(self, offers, self._surface, device)
        elif offers.version(_globals.SYNC):
            sync = offers.bind(_globals.SYNC, {})
            self._synced = self.new({})
            self.send(sync, _globals.SYNC_GET_SYNCHRONIZATION, self._synced, self._surface)
        self._buffers = SurfaceBuffers(self._formats, with_timelines=device is not None)
        configured: list[int] = []
        self._xdg_surface = self.new({0: ("u", configured.append)})
        self.send(self._shell, _globals.SHELL_GET_XDG_SURFACE, self._xdg_surface, self._surface)
        toplevel = self.new({0: ("iia", self._note_size), 1: ("", self._note_close)})
        self.send(self._xdg_surface, _globals.XDG_SURFACE_GET_TOPLEVEL, toplevel)
        self.send(toplevel, _globals.TOPLEVEL_SET_TITLE, title)
        if app_id:
            self.send(toplevel, _globals.TOPLEVEL_SET_APP_ID, app_id)
        self.send(self._surface, _globals.SURFACE_COMMIT)
        left = seconds_left(end)
        if not self.wait_for(lambda: bool(configured), left):
            raise TimeoutError(errno.ETIMEDOUT, f"the Wayland compositor gave {self!r} no place")
        self._acknowledge(configured[-1])
        self._objects[self._xdg_surface] = {0: ("u", self._acknowledge)}

    def _answer_ping(self, serial: int) -> None:
        self.send(self._shell, _globals.SHELL_PONG, serial)

    def _acknowledge(self, serial: int) -> None:
        self.send(self._xdg_surface, _globals.XDG_SURFACE_ACK_CONFIGURE, serial)

    def _note_size(self, width: int, height: int, states: bytes) -> None:
        asked = (width, height) if width > 0 and height > 0 else self._asked
        if asked != self._asked:
            self._asked = asked
            self._events.append(WindowEvent("resize", *asked))

    def _note_close(self) -> None:
        self._events.append(WindowEvent("close", *self._asked))

    @property
    def size(self) -> tuple[int, int]:
        """The width and height in pixels, as opened or as requested since."""
        return self._asked

    @property
    def explicit_sync(self) -> bool:
        """True if the compositor accepts and returns fences.

        It does so by wp_linux_drm_syncobj, which needs Linux 6.6 and a GPU with timelines here, or
        by zwp_linux_explicit_synchronization. Otherwise a fence is imported into the image's
        buffers, where compositors look for it.
        """
        return bool(self._synced) or self._timelines is not None

    @property
    def formats(self) -> dict[PixelFormat, list[int]]:
        """The formats that the compositor imports, each with its modifiers; 0 is linear.

        A format without modifiers is imported in a layout on which its exporter and the driver
        agree; what the CPU writes is always linear.
        """
        return self._formats.known()

    def show(
        self, image: Image, fence: Fence | None = None, *, timeout: float | None = None
    ) -> Flip:
        """Show an image as soon as it is ready. Return the `Flip` to it at once.

        The compositor waits for `fence` or, without one, for the pending writers of the image's
        buffers, as its GPU's driver does. The window takes the image's size. The image's buffers
        may be written again once the flip of the next image is done. If the compositor sees the
        image for the first time, the call blocks until it has imported it; TimeoutError after
        `timeout` seconds, and nothing has changed then.

        RefusedError if the compositor does not support the image's format or modifier, or can't
        import it. ConnectionResetError, with the reason, if it is gone. Without explicit sync
        `fence` needs Linux 6.0.
        """
        if not isinstance(image, Image):
            raise TypeError(f"image must be a dmabuf.Image, not {type(image).__name__}")
        if fence is not None and not isinstance(fence, Fence):
            raise TypeError(f"fence must be a dmabuf.Fence, not {type(fence).__name__}")
        deadline(timeout)  # what is no time is refused before anything is sent
        self.require_alive()
        with self._showing:
            self.read()
            surface_buffer = self._buffers.get(self, image, timeout)
            if fence is not None and not self.explicit_sync:
                for buffer in image.buffers:
                    buffer.import_fence(fence, Access.WRITE)
            shown = Shown(surface_buffer, self._latest)
            if self._timelines is None:
                self._commit(shown, fence)
            else:
                with ready(image, fence) as known:
                    self._commit(shown, known)
            self._latest = shown.release
        self.flush()
        return Flip(self, shown)

    def _commit(self, shown: Shown, fence: Fence | None) -> None:
        surface, synced = self._surface, self._synced
        surface_buffer = shown.surface_buffer
        with self._lock:  # nothing else comes between
            if self._timelines is not None and fence is not None:
                self._timelines.set_points(self, shown, fence)
            elif synced:
                if fence is not None:
                    self.send(synced, _globals.SURFACE_SYNC_SET_ACQUIRE_FENCE, owners=[fence])
                told: Events = {0: ("h", shown.note_fence), 1: ("", surface_buffer.note_release)}
                self.send(synced, _globals.SURFACE_SYNC_GET_RELEASE, self.new(told))
            self.send(surface, _globals.SURFACE_ATTACH, surface_buffer.number, 0, 0)
            self.send(surface, _globals.SURFACE_DAMAGE_BUFFER, 0, 0, _ALL, _ALL)
            frame = self.new({0: ("u", shown.note_frame)})
            self.send(surface, _globals.SURFACE_FRAME, frame)
            self.send(surface, _globals.SURFACE_COMMIT)
            surface_buffer.release = shown.release

    def _let_go(self) -> None:
        super()._let_go()
        if self._timelines is not None:
            self._timelines.close()

    def __del__(self) -> None:
        try:
            super().__del__()
        finally:  # the warning may be an error
            timelines: Timelines | None = getattr(self, "_timelines", None)
            if timelines is not None:
                timelines.close()

    def next(self, timeout: float | None = None) -> WindowEvent:
        """Wait for the next event and return it. TimeoutError if `timeout` seconds pass first.

        ConnectionResetError, with the reason, if the compositor is gone.
        """
        if not self.wait_for(self._has_event, timeout):
            raise TimeoutError(errno.ETIMEDOUT, f"no event of {self!r} within {timeout} s")
        return self._events.popleft()

    def _has_event(self) -> bool:
        return bool(self._events)

    def __iter__(self) -> Iterator[WindowEvent]:
        return self

    def __next__(self) -> WindowEvent:
        return self.next()

    def __aiter__(self) -> AsyncIterator[WindowEvent]:
        return self

    async def __anext__(self) -> WindowEvent:
        await self.ready_for(self._has_event)
        return self._events.popleft()

    def __repr__(self) -> str:
        if not hasattr(self, "_number"):
            return "<dmabuf.interop.wayland.Window [not opened]>"
        state = "[closed]" if self._closed else f"fd={self._number}"
        return f"<dmabuf.interop.wayland.Window {state} at {self._name}>"
