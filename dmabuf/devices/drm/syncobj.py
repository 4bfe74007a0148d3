"""DRM sync objects: containers for fences that can be created before the work is submitted.

A binary sync object holds at most one fence, at point 0. A timeline holds a fence at each of its
points, which start at 1. Follows drivers/gpu/drm/drm_syncobj.c.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar, overload

from dmabuf import _wait
from dmabuf._fd import Descriptor, Hold
from dmabuf._keep import keep
from dmabuf._owning import descriptor_number, own
from dmabuf.devices.drm import _syncobj_ioctl as _ioctl
from dmabuf.devices.drm._handles import Make
from dmabuf.devices.drm._node import Handle
from dmabuf.devices.drm._syncobj_event import SyncobjEvent, closed_with
from dmabuf.devices.drm._syncobj_wait import call_error, creation_error, wait_for
from dmabuf.devices.drm.device import Device
from dmabuf.fence import Fence, own_fence

if TYPE_CHECKING:
    from dmabuf._owning import HasFileno

_LAST_POINT = 2**64 - 1
_Result = TypeVar("_Result")


class Syncobj(Handle[Device]):
    """A container for fences that can be created before the work is submitted.

        with Device("/dev/dri/renderD128") as gpu, Syncobj(gpu) as done:
            done.import_fence(fence, 1)
            assert done.wait(1, timeout=2)

    It holds one fence at point 0, or it is a timeline with fences at points from 1 on. Points other
    than 0, `available` and events need a driver with timelines: UnsupportedError. Thread-safe. Use
    it as a context manager, or call `close()`. Closing it, or its device, ends awaits with
    ValueError.
    """

    __slots__ = ()

    def __init__(self, device: Device, *, signaled: bool = False) -> None:
        """Create a sync object without a fence or, if `signaled`, with one that has signalled.

        UnsupportedError if the driver has no sync objects.
        """
        flags = _ioctl.DRM_SYNCOBJ_CREATE_SIGNALED if signaled else 0
        self._create(device, lambda fd, made: _ioctl.syncobj_create(fd, flags, made))

    @classmethod
    def from_fd(cls, device: Device, fd: int | HasFileno) -> Syncobj:
        """Return the sync object that `export()` gave a descriptor of, also from another device.

        `fd` is a number or an object with `fileno()`, and stays open. OSError (EINVAL) if it is
        something else.
        """
        number = descriptor_number(fd)
        syncobj = cls.__new__(cls)
        syncobj._create(device, lambda fd, made: _ioctl.syncobj_fd_to_handle(fd, number, made))
        return syncobj

    def _create(self, device: Device, make: Make) -> None:
        if not isinstance(device, Device):
            raise TypeError(f"device must be a drm.Device, not {type(device).__name__}")
        try:
            self._adopt(device, _ioctl.syncobj_destroy, make)
        except OSError as error:
            raise creation_error(error, device) from None

    @property
    def point(self) -> int:
        """The last point of the timeline up to which all fences have signalled; 0 if none has."""
        return self._call(lambda fd, handle: _ioctl.syncobj_query(fd, handle, 0))

    @property
    def submitted(self) -> int:
        """The last point of the timeline that has a fence; 0 if none has."""
        flags = _ioctl.DRM_SYNCOBJ_QUERY_FLAGS_LAST_SUBMITTED
        return self._call(lambda fd, handle: _ioctl.syncobj_query(fd, handle, flags))

    def signal(self, point: int = 0) -> None:
        """Put a fence that has signalled at a point. The points of a timeline must increase."""
        if _checked_point(point):
            self._call(lambda fd, handle: _ioctl.syncobj_timeline_signal(fd, handle, point))
        else:
            self._call(_ioctl.syncobj_signal)

    def reset(self) -> None:
        """Remove the fence, or all fences of the timeline."""
        self._call(_ioctl.syncobj_reset)

    def transfer(self, target: Syncobj, *, point: int = 0, target_point: int = 0) -> None:
        """Copy the fence at `point` to `target_point` of another sync object of the same device.

        OSError (EINVAL) if there is no fence yet.
        """
        _checked_target(target, self._device)
        start, end = _checked_point(point), _checked_point(target_point)
        with Hold(target) as other:
            self._call(lambda fd, own: _ioctl.syncobj_transfer(fd, (own, start), (other, end)))

    def import_fence(self, fence: Fence, point: int = 0) -> None:
        """Put a fence at a point, in place of the fence there. The caller still owns `fence`."""
        if not isinstance(fence, Fence):
            raise TypeError(f"fence must be a dmabuf.Fence, not {type(fence).__name__}")
        if _checked_point(point):
            with Syncobj(self._device) as binary:
                binary.import_fence(fence)
                binary.transfer(self, target_point=point)
            return
        with Hold(fence) as sync_file:
            self._call(lambda fd, handle: _ioctl.syncobj_import_sync_file(fd, handle, sync_file))

    def export_fence(self, point: int = 0) -> Fence:
        """Return the fence at a point. OSError (EINVAL) if there is no fence yet."""
        if _checked_point(point):
            with Syncobj(self._device) as binary:
                self.transfer(binary, point=point)
                return binary.export_fence()
        flags = _ioctl.DRM_SYNCOBJ_HANDLE_TO_FD_FLAGS_EXPORT_SYNC_FILE
        export = _ioctl.syncobj_handle_to_fd
        return self._call(lambda fd, handle: own_fence(partial(export, fd, handle, flags)))

    def export(self) -> SyncobjFile:
        """Return a descriptor of the sync object itself, for another process or device."""
        export = _ioctl.syncobj_handle_to_fd
        return self._call(
            lambda fd, handle: own(SyncobjFile.__new__(SyncobjFile), partial(export, fd, handle, 0))
        )

    def wait(
        self,
        point: int = 0,
        timeout: float | None = None,
        *,
        for_submit: bool = False,
        available: bool = False,
    ) -> bool:
        """Block until a point signals. Return False if `timeout` seconds pass first.

        OSError (EINVAL) if the point has no fence yet, unless `for_submit`, which waits for the
        fence to be there and to signal. `available` waits only until the fence is there. Other
        threads run meanwhile. A signal handler that raises ends the wait.
        """
        return wait_all([(self, point)], timeout, for_submit=for_submit, available=available)

    async def ready(self, point: int = 0, *, available: bool = False) -> None:
        """Wait in asyncio until a point signals or, if `available`, until it has a fence.

        ValueError if the sync object or its device is closed meanwhile. Needs Linux 6.6:
        UnsupportedError.
        """
        with (
            self.event(point, available=available) as event,
            closed_with(self, event),
            closed_with(self._device, event),
        ):
            await _wait.ready(event, _wait.READABLE)

    def event(self, point: int = 0, *, available: bool = False) -> SyncobjEvent:
        """Return a descriptor that is readable once a point signals or, if `available`, exists.

        For select, selectors, trio and anyio. A point exists once it has a fence. The descriptor
        does not become readable when the sync object is destroyed. Needs Linux 6.6:
        UnsupportedError. Follows DRM_IOCTL_SYNCOBJ_EVENTFD.
        """
        flags = _ioctl.DRM_SYNCOBJ_WAIT_FLAGS_WAIT_AVAILABLE if available else 0
        wanted = _checked_point(point)

        def make(made: list[int]) -> None:
            keep(made, os.eventfd, 0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._call(lambda fd, own: _ioctl.syncobj_eventfd(fd, own, wanted, made[0], flags))

        return own(SyncobjEvent.__new__(SyncobjEvent), make)

    def _call(self, call: Callable[[int, int], _Result]) -> _Result:
        """Call an ioctl with the device's descriptor and the handle."""
        with Hold(self._device) as number, Hold(self) as handle:
            try:
                return call(number, handle)
            except OSError as error:
                raise call_error(error, self) from None

    def __repr__(self) -> str:
        state = "[closed]" if self._closed else f"handle={self._number}"
        return f"<dmabuf.devices.drm.Syncobj {state} of {self._device.path}>"


class SyncobjFile(Descriptor):
    """A descriptor of a sync object: `Syncobj.export` returns it and `Syncobj.from_fd` takes it.

        with syncobj.export() as file, Syncobj.from_fd(another_gpu, file) as same:
            same.signal()

    It can be sent to another process over a Unix socket. Use it as a context manager, or call
    `close()`.
    """

    __slots__ = ()


def wait_all(
    points: Iterable[Syncobj | tuple[Syncobj, int]],
    timeout: float | None = None,
    *,
    for_submit: bool = False,
    available: bool = False,
) -> bool:
    """Block until all points have signalled. Return False if `timeout` seconds pass first.

    Each point is a sync object, or a pair (sync object, point); all must belong to one device. The
    options and errors are those of `Syncobj.wait`.
    """
    flags = _ioctl.DRM_SYNCOBJ_WAIT_FLAGS_WAIT_ALL
    pairs = [_checked_pair(point) for point in points]
    device = _device_of(pairs)
    first = wait_for(device, pairs, timeout, flags, for_submit=for_submit, available=available)
    return first is not None


@overload
def wait_any(
    points: Iterable[Syncobj],
    timeout: float | None = None,
    *,
    for_submit: bool = False,
    available: bool = False,
) -> Syncobj | None: ...


@overload
def wait_any(
    points: Iterable[Syncobj | tuple[Syncobj, int]],
    timeout: float | None = None,
    *,
    for_submit: bool = False,
    available: bool = False,
) -> Syncobj | tuple[Syncobj, int] | None: ...


def wait_any(
    points: Iterable[Syncobj | tuple[Syncobj, int]],
    timeout: float | None = None,
    *,
    for_submit: bool = False,
    available: bool = False,
) -> Syncobj | tuple[Syncobj, int] | None:
    """Block until one point has signalled, and return it. None if `timeout` seconds pass first.

    Takes what `wait_all` takes. The result is the item as it was given: a sync object, or a pair
    (sync object, point).
    """
    given = list(points)
    pairs = [_checked_pair(point) for point in given]
    device = _device_of(pairs)
    first = wait_for(device, pairs, timeout, 0, for_submit=for_submit, available=available)
    return None if first is None else given[first]


def _checked_pair(point: Syncobj | tuple[Syncobj, int]) -> tuple[Syncobj, int]:
    syncobj, number = point if isinstance(point, tuple) else (point, 0)
    return _checked_syncobj(syncobj), _checked_point(number)


def _device_of(pairs: Sequence[tuple[Syncobj, int]]) -> Device:
    """Return the device that all sync objects are of; ValueError if there is none."""
    if not pairs:
        raise ValueError("there is no sync object to wait for: the list of points is empty")
    device = pairs[0][0].device
    for syncobj, _ in pairs:
        _checked_target(syncobj, device)
    return device


def _checked_point(point: int) -> int:
    if isinstance(point, bool) or not isinstance(point, int):
        raise TypeError(f"a point must be an int, not {type(point).__name__}")
    if not 0 <= point <= _LAST_POINT:
        raise ValueError(f"a point must be from 0 to {_LAST_POINT}, not {point}")
    return point


def _checked_syncobj(syncobj: Syncobj) -> Syncobj:
    if not isinstance(syncobj, Syncobj):
        raise TypeError(f"a sync object must be a drm.Syncobj, not {type(syncobj).__name__}")
    return syncobj


def _checked_target(syncobj: Syncobj, device: Device) -> None:
    if _checked_syncobj(syncobj).device is not device:
        raise ValueError(
            f"{syncobj!r} is not of {device!r}; use export() and from_fd() to have it there too"
        )
