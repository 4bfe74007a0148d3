"""The events of an open V4L2 device: changes of controls and sources, and the end of streams."""

from __future__ import annotations

import errno
import os
import select
from collections import deque
from collections.abc import Iterable
from enum import IntFlag
from functools import partial
from typing import NamedTuple

from dmabuf import _forks
from dmabuf._arrivals import Arrivals
from dmabuf._fd import Hold, unwatch, watch
from dmabuf._locks import Lock
from dmabuf._owning import duplicate, own, own_result
from dmabuf._record import record
from dmabuf.devices.v4l2 import _events_ioctl
from dmabuf.devices.v4l2._enumeration import Enumeration
from dmabuf.devices.v4l2._file import DeviceFile, Use
from dmabuf.devices.v4l2.controls import ControlType
from dmabuf.errors import os_error

Key = tuple[int, int]
"""The kind of an event, and the control or input that it is of."""


class EventType(Enumeration):
    """The kind of an event: V4L2_EVENT.

        with device.events(v4l2.EventType.SOURCE_CHANGE) as events:
            print(events.next())

    `Device.events()` takes them, and `Event.type` is one.
    """

    VSYNC = 1
    """A new picture begins (vertical sync)."""
    EOS = 2
    """A codec has finished all that it was given (end of stream)."""
    CONTROL = 3
    """A control has changed."""
    FRAME_SYNC = 4
    """A frame is being received."""
    SOURCE_CHANGE = 5
    """The signal at an input, or the data in a decoder, has changed its size."""
    MOTION = 6
    """There is motion in the picture."""


class ControlChange(IntFlag):
    """What has changed about a control: V4L2_EVENT_CTRL_CH.

        if v4l2.ControlChange.RANGE in v4l2.ControlChange(event.changes):
            print(device.controls())

    `Event.changes` holds them.
    """

    VALUE = 1
    """The value."""
    FLAGS = 2
    """The flags, as when it becomes inactive."""
    RANGE = 4
    """The minimum, maximum, step or default."""
    DIMENSIONS = 8
    """The shape of the array."""


@record
class Event(NamedTuple):
    """Something that happened to a device, as `Events` returns it.

        with device.events("brightness") as events:
            print(events.next().value)

    Its fields are those of struct v4l2_event.
    """

    type: EventType
    """The kind of the event."""
    id: int
    """The id of the control, or the index of the input; 0 for other events."""
    changes: int
    """`ControlChange` bits for a control; 1 for a source whose size changed; 0 for other events."""
    value: int
    """The new value of a control that is a number; 0 for other events."""
    timestamp: float
    """The time of the event, in `time.monotonic()` seconds."""


class EventReader:
    """Reads the events of one open device, for all who listen: the kernel gives each once."""

    __slots__ = ("_listeners", "_unsorted", "lock")

    def __init__(self) -> None:
        self.lock = Lock()
        self._listeners: dict[_Listener, frozenset[Key]] = {}
        self._unsorted: list[_events_ioctl.EventStruct] = []

    def join(self, device: DeviceFile, listener: _Listener, keys: frozenset[Key]) -> None:
        """Let somebody have these events, from now on."""
        with self.lock, Use(device, "subscribe to its events") as fd:
            self._listeners[listener] = keys
            for key in keys:
                _events_ioctl.subscribe_event(fd, *key)

    def leave(self, device: DeviceFile, listener: _Listener) -> None:
        """Let somebody have no more events. Idempotent."""
        with self.lock:
            keys = self._listeners.pop(listener, frozenset())
            for key in keys - frozenset().union(*self._listeners.values()):
                try:
                    with Use(device, "unsubscribe from its events") as fd:
                        _events_ioctl.unsubscribe_event(fd, *key)
                except (OSError, ValueError) as error:
                    if isinstance(error, OSError) and error.errno is None:  # a signal handler's
                        raise
                    return  # it is gone, or closed: nobody has events of it

    def read(self, device: DeviceFile) -> None:
        """Give all that has happened to those who want it."""
        with self.lock, Use(device, "read its events") as fd:
            self._sort()
            while True:
                taken = _events_ioctl.EventStruct()
                self._unsorted.append(taken)  # before a signal handler can run
                if not taken.take(fd):
                    return
                self._sort()

    def _sort(self) -> None:
        """Give what was read. What a signal handler has interrupted is given by the next call."""
        while self._unsorted:
            taken = self._unsorted[0]
            if taken.type:
                key, event = (taken.type, taken.id), _event(taken)
                for listener, keys in list(self._listeners.items()):  # a finalizer may leave
                    if key in keys and event not in listener.events:
                        listener.give(event)
            del self._unsorted[0]


class _Listener:
    """What an `Events` has not returned yet, and what wakes those who wait for it."""

    __slots__ = ("events", "wake")

    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self.wake = own_result(os.eventfd, 0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def give(self, event: Event) -> None:
        """Have one more."""
        try:
            self.events.append(event)
        finally:
            self.owner_closed()

    def owner_closed(self) -> None:
        """Wake those who wait: there is an event, or there will be none."""
        if not self.wake.closed:
            with Hold(self.wake) as number:
                os.eventfd_write(number, 1)

    def clear(self) -> None:
        """Wake nobody, until there is more."""
        with Hold(self.wake) as number:
            try:
                os.eventfd_read(number)
            except BlockingIOError:
                pass


class Events(Arrivals[Event]):
    """An iterator of a device's events, also for `async for`: `with device.events(…) as events`.

        with v4l2.Device("/dev/video0") as device, device.events("brightness") as events:
            for event in events:
                print(event.type.name, event.value)

    The kernel keeps only the latest event of each kind: a control that changes twice before the
    program reads gives one event. `fileno()` is readable when there is an event, or the device is
    gone; reading then raises OSError (ENODEV).

    Thread-safe. Use it as a context manager, or call `close()`. Waits then end with ValueError,
    also when the device is closed. In a forked child every call raises ValueError, because the
    events belong to the parent. Follows VIDIOC_DQEVENT.
    """

    __slots__ = ("_device", "_forked", "_listener", "_reader")

    def __init__(self, device: DeviceFile, reader: EventReader, keys: Iterable[Key]) -> None:
        """See `Device.events`."""
        self._device = device
        self._reader = reader
        self._forked = False
        _forks.leave_in_child(self)
        self._listener = listener = _Listener()
        try:
            with Hold(device) as number, Hold(listener.wake) as wake:
                own(self, partial(_make, number, wake))
            watch(device, listener, listener)
            reader.join(device, listener, frozenset(keys))
        except BaseException:
            if hasattr(self, "_number"):
                self.close()
            listener.wake.close()
            raise

    def take(self) -> Event | None:
        """Return the next event without waiting; None if there is none yet."""
        there = self._look()
        try:
            return there.popleft()
        except IndexError:
            return None

    def peek(self) -> Event | None:
        """Return the event that `take()` would return, and leave it there."""
        there = self._look()
        return there[0] if there else None

    def _look(self) -> deque[Event]:
        """Read what has come, and return all that is there."""
        there = self._listener.events
        self._read()
        if not there:
            self._listener.clear()
            self._read()  # what came amid that, and woke nobody
        return there

    def _read(self) -> None:
        if self._closed:
            self._require_open()
        if self._forked:
            raise ValueError(
                f"this is a forked child, and the events of {self._device.path} are its parent's;"
                " open the device here, too"
            )
        self._reader.read(self._device)

    def wake(self) -> None:
        """Make the threads and tasks that wait look again."""
        self._listener.owner_closed()

    def _late(self, timeout: float | None) -> OSError:
        return os_error(errno.ETIMEDOUT, f"no event from {self._device.path} within {timeout} s")

    def leave_to_parent(self) -> None:
        """Leave the events to the parent; called in a forked child."""
        self._forked = True
        self._reader.lock = Lock()

    def _let_go(self) -> None:
        unwatch(self._device, self._listener)
        if not self._forked:
            self._listener.owner_closed()
            self._reader.leave(self._device, self._listener)
        if self._number < 0:  # who waits in a thread has seen it
            self._listener.wake.close()

    def __del__(self) -> None:
        try:
            super().__del__()
        finally:
            try:
                self._let_go()
            except AttributeError:
                pass  # the constructor failed

    def __repr__(self) -> str:
        state = "[closed]" if self._closed else f"fd={self._number}"
        return f"<dmabuf.devices.v4l2.Events of {self._device.path} {state}>"


def _make(device: int, wake: int, made: list[int]) -> None:
    """Add to a list a descriptor that is readable once a device has events, or `wake` is.

    An event loop can't wait for a device's events itself, which are priority data to poll(2).
    """
    try:
        poll = select.epoll()  # its own descriptor is closed as it is collected
        poll.register(device, select.EPOLLPRI)
        poll.register(wake, select.EPOLLIN)
    except OSError as error:
        what = "epoll of a device's events"
        raise os_error(error.errno or errno.EIO, what) from None
    duplicate(poll.fileno(), made)


def _event(taken: _events_ioctl.EventStruct) -> Event:
    kind = EventType(taken.type)
    changes = value = 0
    if kind is EventType.SOURCE_CHANGE:
        changes = taken.changes
    elif kind is EventType.CONTROL:
        changes = taken.changes
        wide = taken.control_type == ControlType.INTEGER64
        value = taken.value if wide else taken.small_value
    return Event(kind, taken.id, changes, value, taken.timestamp)
