"""Explicit sync by timelines of DRM's sync objects, which the compositor has, too.

Each wl_buffer has two. At a point of the one its image is ready, at the same point of the other the
compositor has let go of it: each commit has its own point. See linux-drm-syncobj-v1.xml.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from dmabuf import _wait
from dmabuf._fd import Descriptor, Hold
from dmabuf._owning import duplicate, own
from dmabuf.access import Access
from dmabuf.devices.drm import Device, Syncobj, SyncobjEvent
from dmabuf.fence import Fence
from dmabuf.image import Image
from dmabuf.interop.wayland._buffers import Shown, Timeline
from dmabuf.interop.wayland._client import Client
from dmabuf.interop.wayland._globals import (
    POINTS_SET_ACQUIRE,
    POINTS_SET_RELEASE,
    SYNCOBJ,
    SYNCOBJ_GET_SURFACE,
    SYNCOBJ_IMPORT_TIMELINE,
    Globals,
)


class Points(Descriptor):
    """Readable once one of several points has a fence. One thread at a time adds or notes."""

    __slots__ = ("_epoll", "_waiting")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._waiting: dict[SyncobjEvent, Callable[[], None]] = {}
        own(self, partial(duplicate, self._epoll.fileno()))

    def add(self, event: SyncobjEvent, note: Callable[[], None]) -> None:
        """Have a point waited for, and noted then."""
        self._waiting[event] = note
        with Hold(event) as number:
            self._epoll.register(number, select.EPOLLIN)

    def note(self) -> None:
        """Note all points that have a fence by now."""
        for event, note in list(self._waiting.items()):
            if _wait.is_ready(event, _wait.READABLE):
                del self._waiting[event]
                with event:
                    note()

    def _let_go(self) -> None:
        super()._let_go()
        for event in self._waiting:
            event.close()
        self._waiting.clear()
        self._epoll.close()


class Timelines:
    """The timelines of one window."""

    def __init__(self, client: Client, offers: Globals, surface: int, device: Device) -> None:
        self._device = device
        self._points = Points()
        self._manager = offers.bind(SYNCOBJ, {})
        self._sync = client.new({})
        client.send(self._manager, SYNCOBJ_GET_SURFACE, self._sync, surface)
        client.also_read(self._points, self._points.note)

    def set_points(self, client: Client, shown: Shown, ready: Fence) -> None:
        """Tell when an image is ready, and where its release is to be told."""
        surface_buffer = shown.surface_buffer
        if not surface_buffer.timelines:
            surface_buffer.timelines = self._make(client), self._make(client)
        acquire, release = surface_buffer.timelines
        surface_buffer.point += 1
        point = surface_buffer.point
        acquire.syncobj.import_fence(ready, point)
        event = release.syncobj.event(point, available=True)
        self._points.add(event, partial(shown.note_point, release.syncobj, point))
        for opcode, line in ((POINTS_SET_ACQUIRE, acquire), (POINTS_SET_RELEASE, release)):
            client.send(self._sync, opcode, line.number, point >> 32, point)

    def _make(self, client: Client) -> Timeline:
        syncobj = Syncobj(self._device)
        with syncobj.export() as file:
            number = client.new({})
            client.send(self._manager, SYNCOBJ_IMPORT_TIMELINE, number, owners=[file])
        return Timeline(syncobj, number)

    def close(self) -> None:
        """Close all of them, with the device that they are of."""
        self._points.close()
        self._device.close()


def find_device() -> Device | None:
    """Return the first GPU here whose sync objects can tell of a compositor's fences, opened."""
    for node in sorted(Path("/dev/dri").glob("renderD*")):
        with ExitStack() as stack, contextlib.suppress(OSError):
            device = stack.enter_context(Device(node))
            with Syncobj(device) as probe, probe.event(1, available=True):
                stack.pop_all()
                return device
    return None


@contextlib.contextmanager
def ready(image: Image, fence: Fence | None) -> Iterator[Fence]:
    """Give the fence of an image: the caller's, or that of all who write its buffers."""
    if fence is not None:
        yield fence
        return
    with ExitStack() as stack:
        writers = [
            stack.enter_context(buffer.export_fence(Access.READ)) for buffer in image.buffers
        ]
        yield stack.enter_context(writers[0].merge(*writers[1:]))
