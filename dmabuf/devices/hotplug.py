"""Events of devices that are added, removed or changed, from the kernel or udev."""

from __future__ import annotations

import errno
import os
import time
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from dmabuf import _forks
from dmabuf._arrivals import Arrivals
from dmabuf._locks import Lock
from dmabuf._owning import duplicate, own, own_result
from dmabuf._record import record
from dmabuf.devices.discovery import describe, kind_of, subsystems
from dmabuf.devices.found import FoundDevice, Kind
from dmabuf.errors import UnsupportedError, os_error

_UDEVD = "/run/udev/control"
_Action: TypeAlias = Literal["add", "remove", "change"]
_ACTIONS = get_args(_Action)
_TRIES, _PAUSE = 20, 0.005


@record
class Event(NamedTuple):
    """A device that was added, removed or changed.

        if event.kind == "drm" and event.action == "change":
            print(f"a monitor was plugged into {event.path}, or unplugged")

    A `Watch` returns them.
    """

    action: _Action
    """What happened: "add", "remove" or "change", such as a monitor that was plugged in or
    unplugged."""
    kind: Kind
    """The kind of the device."""
    path: str
    """The path of the node; for a DRM device, of its primary node."""
    device: FoundDevice | None
    """The entry that `find` would list now; None after "remove"."""


def watch(source: str | None = None) -> Watch:
    """Watch for devices from now on, and return an iterator of the events.

    Call `find` afterwards to miss no device. `source` is "udev", whose events come once the
    permissions of the node are set, or "kernel", for machines without udevd. The default is chosen
    for this machine. A container receives no events. UnsupportedError if pyudev or libudev is
    missing.
    """
    if source not in (None, "udev", "kernel"):
        raise ValueError(f'source must be "udev" or "kernel", not {source!r}')
    context = _udev()
    if context is None:
        raise UnsupportedError(
            errno.ENOENT,
            "watching devices needs pyudev and libudev: pip install pyudev; apt install libudev1,"
            " or the package that has it here",
        )
    import pyudev

    if source is None:
        source = "udev" if os.path.exists(_UDEVD) else "kernel"
    try:
        monitor = pyudev.Monitor.from_netlink(context, source)
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise  # a signal handler's
        from ctypes import get_errno

        raise os_error(get_errno() or errno.EIO, "a socket for the events of udev") from None
    for subsystem in subsystems():
        monitor.filter_by(subsystem)
    monitor.start()
    return Watch(monitor)


def _udev() -> Any | None:
    """Return a context of udev's library; None where it is missing."""
    try:
        import pyudev

        return pyudev.Context()
    except ImportError:
        return None


class Watch(Arrivals[Event]):
    """An iterator of events, also for `async for`. `watch` returns one.

        with dmabuf.devices.watch() as watch:
            for event in watch:
                print(event.action, event.path)

    `fileno()` is readable when there is an event. Thread-safe. Use it as a context manager, or call
    `close()`. After that an `async for` ends with ValueError, and so does every later call. In a
    forked child every call raises ValueError, because the events belong to the parent: call `watch`
    there.
    """

    __slots__ = ("_forked", "_lock", "_monitor")

    def __init__(self, monitor: Any) -> None:
        """See `watch`."""
        self._forked = False
        _forks.leave_in_child(self)
        self._lock = Lock()  # libudev has none
        self._monitor: Any | None = monitor  # closes its own descriptor when it is collected
        own(self, partial(duplicate, monitor.fileno()))

    def take(self) -> Event | None:
        """Return the next event without waiting; None if there is none yet."""
        while True:
            monitor = self._monitor
            if monitor is None:
                self._require_open()
                return None
            if self._forked:
                raise ValueError(
                    f"this is a forked child, and the events of {self!r} are its parent's; call"
                    " dmabuf.devices.watch() here, too"
                )
            with self._lock:
                device = monitor.poll(0)
            if device is None:
                return None
            kind = kind_of(device.subsystem, device.sys_name)
            if kind and device.device_node and device.action in _ACTIONS:
                return _describe_event(device.action, kind, device.device_node)

    def _late(self, timeout: float | None) -> OSError:
        what = f"no device was added, removed or changed within {timeout} s"
        return os_error(errno.ETIMEDOUT, what)

    def leave_to_parent(self) -> None:
        """Leave the events to the parent; called in a forked child."""
        self._forked = True
        self._lock = Lock()

    def _let_go(self) -> None:
        self._monitor = None

    def __repr__(self) -> str:
        return f"<dmabuf.devices.Watch {'[closed]' if self._closed else f'fd={self._number}'}>"


def _describe_event(action: _Action, kind: Kind, path: str) -> Event:
    if action == "remove":
        return Event(action, kind, path, None)
    if action == "add":
        _await_node(path)
    return Event(action, kind, path, describe(kind, path))


def _await_node(path: str) -> None:
    """Wait until a new node can be opened: the kernel reports it some microseconds before."""
    flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
    for _ in range(_TRIES):
        try:
            own_result(os.open, path, flags).close()
        except OSError as error:
            if error.errno == errno.ENODEV:
                time.sleep(_PAUSE)
                continue
        return
