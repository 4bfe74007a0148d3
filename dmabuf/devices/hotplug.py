"""Devices that come and go: the kernel's events, by udev's library."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

from dmabuf import _wait
from dmabuf._fd import Descriptor, duplicate
from dmabuf._record import record
from dmabuf.devices.discovery import Device, describe, kind_of, subsystems, udev
from dmabuf.errors import UnsupportedError

_UDEVD = "/run/udev/control"
_ACTIONS = ("add", "remove", "change")
_TRIES, _PAUSE = 20, 0.005


@record
class Event(NamedTuple):
    """A device that has come, gone or changed."""

    action: str
    """"add", "remove" or "change": a display was plugged in or pulled, for example."""
    kind: str
    """"heap", "udmabuf", "drm" or "v4l2"."""
    path: str
    """The node; a DRM device's primary one."""
    device: Device | None
    """What `find` would say of it; None once it has gone."""


def watch(source: str | None = None) -> Watch:
    """Return what reports the devices that come and go from now on.

    Look with `find` after this, and nothing is missed in between. `source` is "udev", whose events
    come when the permissions are set, or "kernel", for where udevd does not run; that which fits
    this machine unless given. Containers get no events. UnsupportedError without libudev.
    """
    if source not in (None, "udev", "kernel"):
        raise ValueError(f'source must be "udev" or "kernel", not {source!r}')
    context = udev()
    if context is None:
        text = "watching devices needs libudev: apt install libudev1, or what has it here"
        raise UnsupportedError(errno.ENOENT, text)
    import pyudev

    if source is None:
        source = "udev" if os.path.exists(_UDEVD) else "kernel"
    monitor = pyudev.Monitor.from_netlink(context, source)
    for subsystem in subsystems():
        monitor.filter_by(subsystem)
    monitor.start()
    return Watch(monitor)


class Watch(Descriptor):
    """An iterator of events, also with `async for`; its `fileno()` is readable when one waits.

    Thread-safe. Use it as a context manager, or call `close()`: an `async for` then ends with
    ValueError, as a later call does.
    """

    __slots__ = ("_lock", "_monitor")

    def __init__(self, monitor: Any) -> None:
        """See `watch`."""
        self._lock = threading.RLock()  # libudev has none
        super().__init__(duplicate(monitor.fileno()))
        self._monitor: Any | None = monitor  # closes its own descriptor when it is collected

    def next(self, timeout: float | None = None) -> Event | None:
        """Wait for an event, `timeout` seconds at the most; None on a time-out.

        The GIL is released, and a signal handler that raises gets out.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            event = self._taken()
            if event is not None:
                return event
            left = None if end is None else max(end - time.monotonic(), 0.0)
            if not _wait.wait(self, _wait.READABLE, left):
                return None

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = self.next()
        assert event is not None
        return event

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while True:
            event = self._taken()
            if event is not None:
                return event
            await _wait.ready(self, _wait.READABLE)

    def _taken(self) -> Event | None:
        """Return an event that is there already."""
        while True:
            monitor = self._monitor
            if monitor is None:
                self._require_open()
                return None
            with self._lock:
                device = monitor.poll(0)
            if device is None:
                return None
            kind = kind_of(device.subsystem, device.sys_name)
            if kind and device.device_node and device.action in _ACTIONS:
                return _event(device.action, kind, device.device_node)

    def _let_go(self) -> None:
        self._monitor = None

    def __repr__(self) -> str:
        return f"<dmabuf.devices.Watch {'[closed]' if self._closed else f'fd={self._number}'}>"


def _event(action: str, kind: str, path: str) -> Event:
    if action == "remove":
        return Event(action, kind, path, None)
    if action == "add":
        _await_node(path)
    return Event(action, kind, path, describe(kind, path))


def _await_node(path: str) -> None:
    """Wait until a new node can be opened: the kernel tells of it some microseconds before."""
    for _ in range(_TRIES):
        try:
            os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            if error.errno == errno.ENODEV:
                time.sleep(_PAUSE)
                continue
        return
