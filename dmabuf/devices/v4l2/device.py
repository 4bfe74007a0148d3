"""An open V4L2 device and its queues."""

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
    errno.ENOLINK: "it has no signal; check its cable, and that the source is switched on",
    errno.ENOLCK: "its signal is not stable; try again",
    errno.ERANGE: "the device does not support the signal's timings; change the source's mode",
    errno.ENODATA: "its input is not digital; select another one by set_input()",
}
"""Why an input can't tell its timings."""


class Device(DeviceFile):
    """An open V4L2 device.

        with v4l2.Device("/dev/video0") as device:
            for control in device.controls():
                print(control.name, control.minimum, control.maximum)

    `Capture(path)` and `Output(path)` open a device for one queue. A memory-to-memory device, such
    as a scaler, has two queues that belong to one open descriptor: take `capture` and `output` of
    the same `Device`. Thread-safe. Use it as a context manager, or call `close()`.
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
        """The queue of the frames that the device consumes. OSError (ENODEV) if it has none."""
        return Output(self)

    def inputs(self) -> list[str]:
        """Return the names of a capture device's inputs. Follows VIDIOC_ENUMINPUT."""
        with Use(self, "list its inputs") as fd:
            return _controls_ioctl.enuminput(fd)

    def set_input(self, index: int) -> None:
        """Select an input by its index in `inputs()`.

        OSError: EINVAL if there is none, EBUSY while streaming. Follows VIDIOC_S_INPUT.
        """
        with Use(self, f"choose input {index}") as fd:
            _controls_ioctl.s_input(fd, index)

    def outputs(self) -> list[str]:
        """Return the names of an output device's outputs. Follows VIDIOC_ENUMOUTPUT."""
        with Use(self, "list its outputs") as fd:
            return _controls_ioctl.enumoutput(fd)

    def set_output(self, index: int) -> None:
        """Select an output by its index in `outputs()`.

        OSError: EINVAL if there is none, EBUSY while streaming. Follows VIDIOC_S_OUTPUT.
        """
        with Use(self, f"choose output {index}") as fd:
            _controls_ioctl.s_output(fd, index)

    def dv_timings(self) -> list[Timings]:
        """Return the timings that the selected input or output supports; empty if not digital.

        Follows VIDIOC_ENUM_DV_TIMINGS.
        """
        with Use(self, "list its timings") as fd:
            return read_timings(fd)

    def set_dv_timings(self, timings: Timings) -> None:
        """Set the selected input or output to one of `dv_timings()`. This resets the format.

        OSError (EBUSY) while streaming. Follows VIDIOC_S_DV_TIMINGS.
        """
        with Use(self, "set its timings") as fd:
            _controls_ioctl.s_dv_timings(fd, timings.data)

    def query_dv_timings(self) -> Timings:
        """Return the timings of the signal at the selected input. `set_dv_timings()` applies them.

        OSError: ENOLINK without a signal, ENOLCK if the signal is not stable, ERANGE if the device
        does not support it, ENODATA if the input is not digital. Follows VIDIOC_QUERY_DV_TIMINGS.
        """
        with Use(self, "query its input's timings", _SIGNAL) as fd:
            return query_timings(fd)

    def events(self, *wanted: EventType | str | int) -> Events:
        """Return an iterator of the events from now on, such as changes of controls and sources.

        `wanted` are kinds of events, and names or ids of controls; the default is every event of
        the device. Changes that this program makes are reported too. Several iterators may be open
        at once. KeyError if the device has no such control. OSError if it has no such events:
        EINVAL, or ENOTTY if the driver has no events at all. Thread-safe. Follows
        VIDIOC_SUBSCRIBE_EVENT.
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

        A control that the device fails to describe, as some USB cameras do, is listed with
        `Control.broken` True. Follows VIDIOC_QUERY_EXT_CTRL.
        """
        with Use(self, "list its controls") as fd:
            return read_controls(fd)

    def menu(self, control: str | int) -> dict[int, str | int]:
        """Return what each value of a menu control means: names, or numbers of an INTEGER_MENU.

        `control` is as in `get_control`. Empty for a control that is not a menu. KeyError if the
        device has no such control. Follows VIDIOC_QUERYMENU.
        """
        about = self._control(control)
        with Use(self, f"list the menu of its control {about.key}") as fd:
            return read_menu(fd, about)

    def get_control(self, control: str | int) -> ControlValue:
        """Return the value of a control.

        Its Python type depends on `Control.type`: see `ControlType`.

        `control` is its id or its name, as the driver ("White Balance, Automatic") or as v4l2-ctl
        ("white_balance_automatic") writes it. KeyError if the device has no such control. OSError,
        with the control's name: EACCES if it can't be read, EIO if the device fails. Follows
        VIDIOC_G_EXT_CTRLS.
        """
        about = self._control(control)
        with Use(self, f"read its control {about.key}") as fd:
            return read_value(fd, about)

    def set_control(self, control: str | int, value: ControlValue) -> ControlValue | None:
        """Set a control, and return the value that the driver set; None if it can't be read.

        `control` is as in `get_control`. The kernel changes a number to the nearest valid one
        without an error: look at the result. ValueError or TypeError for a value that the control's
        type can't hold. KeyError if the device has no such control. OSError, with the control's
        name: ERANGE (EINVAL from some drivers) for a value that a menu does not have, EACCES if the
        control is read-only, EBUSY if it can't be set now. Follows VIDIOC_S_EXT_CTRLS.
        """
        about = self._control(control)
        with Use(self, f"set its control {about.key}") as fd:
            return set_value(fd, about, value)

    def try_control(self, control: str | int, value: ControlValue) -> ControlValue | None:
        """Return the value that `set_control` would set. Nothing is set.

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
        """Open a node, which this object then closes, or use an open `Device`, which stays open.

        OSError, with the path, if the node can't be opened, and ENODEV if it has no such queue.
        """
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
        """Return the path of the first device with such a queue and, if given, a format: "MJPG".

        Memory-to-memory devices, and devices that the media controller must configure first, are
        left out. `format` is what `set_format()` takes. Opens each V4L2 node and queries it.
        OSError if there is no such device: ENODEV, or the error of a node that this user may not
        open. ValueError or TypeError if `format` is not a format.
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
        """The device that the queue belongs to."""
        return self._device


class Capture(_Direction):
    """The queue of the frames that a device produces: `Capture(path)`, or `device.capture`.

        with v4l2.Capture("/dev/video0") as camera:
            camera.set_format("XRGB8888", 640, 360)
            with camera.stream() as frames, frames.frame(timeout=2) as frame:
                frame.image.save("frame.png")

    Thread-safe. Use it as a context manager, or call `close()`.
    """

    __slots__ = ()
    _what = "capture"
    _kinds = CAPTURE

    def stream(self, buffers: Sequence[Source] | None = None, *, count: int = 4) -> Stream:
        """Return a stream of frames. It starts when it is entered, and touches no device before.

        `buffers`: one entry per slot (a Buffer, one Buffer per plane, or an Image), which you keep
        owning. Without them the driver allocates `count`, or more: see `Stream.buffers`. ValueError
        unless there are 1 to 32, and each buffer occurs once. RefusedError (EINVAL) if the buffers
        are smaller than `sizeimage`, too few for the driver, or of a kind that it does not import;
        on entering, also if the format has changed since this call.
        """
        return Stream(self._ring(buffers, count))


class Output(_Direction):
    """The queue of the frames that a device consumes: `Output(path)`, or `device.output`.

        with v4l2.Output("/dev/video1") as output:
            output.set_format("RGB888", 640, 360)
            with output.stream() as frames, frames.frame() as frame:
                with frame.image.write() as (pixels,):
                    pixels[:] = 0

    Thread-safe. Use it as a context manager, or call `close()`.
    """

    __slots__ = ()
    _what = "output"
    _kinds = OUTPUT

    def stream(self, buffers: Sequence[Source] | None = None, *, count: int = 4) -> OutputStream:
        """Return a stream of empty frames for the caller to fill.

        The arguments and errors are those of `Capture.stream`.
        """
        return OutputStream(self._ring(buffers, count))
