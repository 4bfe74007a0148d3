"""An open V4L2 device, and its queues: a device has its queues, and a queue opens its device."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import ClassVar

from dmabuf.devices.v4l2 import _controls_ioctl
from dmabuf.devices.v4l2._file import DeviceFile, Use, first, inspect
from dmabuf.devices.v4l2._source import Source
from dmabuf.devices.v4l2._values import ControlValue, read_value, set_value, try_value
from dmabuf.devices.v4l2.controls import (
    Control,
    ControlType,
    Timings,
    query_timings,
    read_control,
    read_controls,
    read_menu,
    read_timings,
)
from dmabuf.devices.v4l2.events import EventReader, Events, EventType, Key
from dmabuf.devices.v4l2.info import CAPTURE, OUTPUT
from dmabuf.devices.v4l2.queue import Queue
from dmabuf.devices.v4l2.stream import OutputStream, Stream
from dmabuf.errors import os_error
from dmabuf.image import PixelFormat

_SIGNAL = {
    errno.ENOLINK: "it has no signal; see whether its cable is in, and its source on",
    errno.ENOLCK: "its signal is not stable; try again",
    errno.ERANGE: "its signal has timings that the device can't do",
    errno.ENODATA: "its input is not digital; choose another by set_input()",
}
"""Why an input can't tell its timings."""


class Device(DeviceFile):
    """An open V4L2 device. Thread-safe. Use it as a context manager, or call `close()`.

    The queues of a memory-to-memory device belong to one open descriptor: take `capture` and
    `output` of the same `Device`.

        with v4l2.Device("/dev/video0") as device:
            for control in device.controls():
                print(control.name, control.minimum, control.maximum)
    """

    __slots__ = ("_event_reader", "_ids")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a node. OSError, with the path, if that fails."""
        super().__init__(path)
        self._ids: dict[str, int] = {}
        self._event_reader = EventReader()

    @property
    def capture(self) -> Capture:
        """The queue of the frames that the device produces. OSError (ENODEV) if it has none."""
        return Capture(self)

    @property
    def output(self) -> Output:
        """The queue of the frames that the device takes. OSError (ENODEV) if it has none."""
        return Output(self)

    def inputs(self) -> list[str]:
        """Return the names of a capture device's inputs."""
        with Use(self, "list its inputs") as fd:
            return _controls_ioctl.enuminput(fd)

    def set_input(self, index: int) -> None:
        """Choose one of `inputs()`. OSError: EINVAL if there is none, EBUSY during a stream."""
        with Use(self, f"choose input {index}") as fd:
            _controls_ioctl.s_input(fd, index)

    def outputs(self) -> list[str]:
        """Return the names of an output device's outputs."""
        with Use(self, "list its outputs") as fd:
            return _controls_ioctl.enumoutput(fd)

    def set_output(self, index: int) -> None:
        """Choose one of `outputs()`. OSError: EINVAL if there is none, EBUSY during a stream."""
        with Use(self, f"choose output {index}") as fd:
            _controls_ioctl.s_output(fd, index)

    def dv_timings(self) -> list[Timings]:
        """Return the timings that the chosen input or output offers; empty if it is not digital."""
        with Use(self, "list its timings") as fd:
            return read_timings(fd)

    def set_dv_timings(self, timings: Timings) -> None:
        """Set the chosen input or output to one of `dv_timings()`, which resets the format."""
        with Use(self, "set its timings") as fd:
            _controls_ioctl.s_dv_timings(fd, timings.data)

    def query_dv_timings(self) -> Timings:
        """Return the timings of the signal that the chosen input sees, to be set if they differ.

        OSError: ENOLINK without a signal, ENOLCK if it is not stable, ERANGE if it is beyond what
        the device can do, ENODATA if the input is not digital. Follows VIDIOC_QUERY_DV_TIMINGS.
        """
        with Use(self, "query its input's timings", _SIGNAL) as fd:
            return query_timings(fd)

    def events(self, *wanted: EventType | str | int) -> Events:
        """Return an iterator of events, from now on: changes of controls and sources, for example.

        `wanted` are kinds of events, and names or ids of controls; without any, all that the device
        has. Changes that this program makes are told, too. Thread-safe; several may be open at
        once. KeyError if the device has no such control; OSError (EINVAL, or ENOTTY if the driver
        has no events) if it has no such events. Follows VIDIOC_SUBSCRIBE_EVENT.
        """
        keys: list[Key] = []
        for one in wanted or self._event_types():
            if one is EventType.SOURCE_CHANGE:  # each input has its own
                keys += [(one, number) for number in range(max(len(self.inputs()), 1))]
            elif isinstance(one, EventType):
                keys.append((one, 0))
            else:
                keys.append((EventType.CONTROL, self._control(one).id))
        return Events(self, self._event_reader, keys)

    def _event_types(self) -> list[EventType | str | int]:
        """Return all events that the device has."""
        kinds = EventType.EOS, EventType.SOURCE_CHANGE
        found: list[EventType | str | int] = [kind for kind in kinds if self._has_events(kind)]
        return found + [about.id for about in self.controls() if not about.broken]

    def _has_events(self, kind: EventType) -> bool:
        try:
            self.events(kind).close()
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTTY):
                raise
            return False
        return True

    def controls(self) -> list[Control]:
        """Return the device's controls, in the order of their ids.

        A control that the device fails to describe, as some USB cameras do, is listed as
        `Control.broken`. Follows VIDIOC_QUERY_EXT_CTRL.
        """
        with Use(self, "list its controls") as fd:
            return read_controls(fd)

    def menu(self, control: str | int) -> dict[int, str | int]:
        """Return what the values of a menu stand for: names, or numbers of an INTEGER_MENU.

        Empty for other controls. KeyError if the device has no such control.
        """
        about = self._control(control)
        with Use(self, f"list the menu of its control {about.key}") as fd:
            return read_menu(fd, about)

    def get_control(self, control: str | int) -> ControlValue:
        """Return the value of a control; its type is told by `Control.type`, see `ControlType`.

        `control` is its name, as the driver ("White Balance, Automatic") or v4l2-ctl
        ("white_balance_automatic") writes it, or its id. KeyError if the device has none. OSError,
        with the control's name: EACCES if it can't be read, EIO if the device fails. Follows
        VIDIOC_G_EXT_CTRLS.
        """
        about = self._control(control)
        with Use(self, f"read its control {about.key}") as fd:
            return read_value(fd, about)

    def set_control(self, control: str | int, value: ControlValue) -> ControlValue | None:
        """Set a control, by its name or id, and return the value that the driver took.

        The kernel clamps numbers to the nearest that the control can have, without an error; what
        is returned tells. None for a control that can't be read. ValueError and TypeError for what
        the control's type can't hold; KeyError if the device has no such control. OSError, with the
        control's name: ERANGE (EINVAL from some drivers) for a value that a menu doesn't have,
        EACCES if it is read-only, EBUSY if it can't be set now. Follows VIDIOC_S_EXT_CTRLS.
        """
        about = self._control(control)
        with Use(self, f"set its control {about.key}") as fd:
            return set_value(fd, about, value)

    def try_control(self, control: str | int, value: ControlValue) -> ControlValue | None:
        """Return the value that `set_control` would make of this one; nothing is set.

        The errors are those of `set_control`. Follows VIDIOC_TRY_EXT_CTRLS.
        """
        about = self._control(control)
        with Use(self, f"try a value of its control {about.key}") as fd:
            return try_value(fd, about, value)

    def _control(self, control: str | int) -> Control:
        """Describe a control as it is now. KeyError if the device has none of this name or id."""
        with Use(self, f"look up its control {control!r}") as fd:
            number = control if isinstance(control, int) else self._find_id(fd, control)
            if number is not None and 0 < number <= _controls_ioctl.V4L2_CTRL_ID_MASK:
                found = read_control(fd, number)
                if found is not None and found.type != ControlType.CTRL_CLASS:
                    return found
            names = ", ".join(about.key for about in read_controls(fd))
        raise KeyError(f"{self.path} has no control {control!r}; it has {names}")

    def _find_id(self, fd: int, name: str) -> int | None:
        """Return the number of the control of a name or key; None if there is none."""
        if name not in self._ids:  # a driver may have got new ones
            found = read_controls(fd)
            keys = {about.key: about.id for about in reversed(found)}
            self._ids = keys | {about.name: about.id for about in reversed(found)}
        return self._ids.get(name)


class _Direction(Queue):
    """A queue, and the device that it belongs to."""

    __slots__ = ("_device",)
    _what: ClassVar[str]
    _kinds: ClassVar[tuple[int, int]]

    def __init__(self, device: Device | str | os.PathLike[str]) -> None:
        """Open a node, which this object closes; or share an open device, which stays open."""
        owned = not isinstance(device, Device)
        opened = device if isinstance(device, Device) else Device(device)
        if not getattr(opened.info, self._what):
            if owned:
                opened.close()
            message = f"{opened.path} ({opened.info.card}) has no {self._what} queue"
            raise os_error(errno.ENODEV, message)
        self._device = opened
        super().__init__(opened, self._kinds[opened.info.multi_planar], owned=owned)

    @classmethod
    def find(cls, format: str | int | PixelFormat | None = None) -> str:
        """Return the path of the first device here that has such a queue, and a format: "MJPG".

        Neither a memory-to-memory device nor one that must be set up by the media controller first.
        `format` is what `set_format()` takes. Each V4L2 node is opened and asked. OSError if there
        is none: ENODEV, or that of one which this user may not open. ValueError or TypeError for
        what is no format.
        """

        def fits(path: str) -> bool:
            about = inspect(path)
            if about.m2m or about.media_controller or not getattr(about, cls._what):
                return False
            if format is not None:
                with cls(path) as queue:
                    queue.frame_sizes(format)  # RefusedError if it has no such format
            return True

        words = f"{cls._what} device here"
        return first(fits, words if format is None else f"{words} for {format}")

    @property
    def device(self) -> Device:
        """The device that it belongs to."""
        return self._device


class Capture(_Direction):
    """The frames that a device produces: `Capture(path)`, or `device.capture`.

    Thread-safe. Use it as a context manager, or call `close()`.

        with v4l2.Capture("/dev/video0") as camera:
            camera.set_format("XRGB8888", 640, 360)
            with camera.stream() as frames, frames.frame(timeout=2) as frame:
                frame.image.save("frame.png")
    """

    __slots__ = ()
    _what = "capture"
    _kinds = CAPTURE

    def stream(self, buffers: Sequence[Source] | None = None, *, count: int = 4) -> Stream:
        """Return a stream of frames; the device is not touched before it is entered.

        `buffers`: one entry per slot (a Buffer, one Buffer per plane, or an Image), which you keep
        owning. Without them the driver allocates `count`, or more: see `Stream.buffers`. ValueError
        unless there are 1 to 32, each at one place only. RefusedError (EINVAL) for buffers smaller
        than `sizeimage`, too few for the driver, or of a kind that it doesn't take; on entering, if
        the format is not any more what it was here.
        """
        return Stream(self._ring(buffers, count))


class Output(_Direction):
    """The frames that a device takes: `Output(path)`, or `device.output`.

    Thread-safe. Use it as a context manager, or call `close()`.

        with v4l2.Output("/dev/video1") as output:
            output.set_format("RGB888", 640, 360)
            with output.stream() as frames, frames.frame() as frame:
                with frame.image.write() as (pixels,):
                    pixels[:] = 0
    """

    __slots__ = ()
    _what = "output"
    _kinds = OUTPUT

    def stream(self, buffers: Sequence[Source] | None = None, *, count: int = 4) -> OutputStream:
        """Return a stream of frames for the caller to fill. As `Capture.stream`."""
        return OutputStream(self._ring(buffers, count))
