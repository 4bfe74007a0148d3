"""An open V4L2 device, and its queues: a device has its queues, and a queue opens its device."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import ClassVar

from dmabuf.devices.v4l2 import _controls_ioctl
from dmabuf.devices.v4l2._file import DeviceFile, Use
from dmabuf.devices.v4l2._source import Source
from dmabuf.devices.v4l2.controls import (
    Control,
    Timings,
    read_controls,
    read_menu,
    read_timings,
)
from dmabuf.devices.v4l2.info import CAPTURE, OUTPUT, V4l2Info
from dmabuf.devices.v4l2.queue import Queue
from dmabuf.devices.v4l2.stream import OutputStream, Stream
from dmabuf.errors import os_error


def inspect(path: str | os.PathLike[str]) -> V4l2Info:
    """Open a node, ask it and close it. Other users of the device are not disturbed.

    Nodes for anything else than video (metadata, radio, touch) have neither capture nor output.
    OSError, with the path, if it can't be opened. Follows VIDIOC_QUERYCAP and VIDIOC_REQBUFS.
    """
    with Device(path) as device:
        return device.info


class Device(DeviceFile):
    """An open V4L2 device. Thread-safe. Use it as a context manager, or call `close()`.

    The queues of a memory-to-memory device belong to one open descriptor: take `capture` and
    `output` of the same `Device`.

        with v4l2.Device("/dev/video0") as device:
            for control in device.controls():
                print(control.name, control.minimum, control.maximum)
    """

    __slots__ = ()

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

    def controls(self) -> list[Control]:
        """Return the device's controls, in the order of their ids."""
        with Use(self, "list its controls") as fd:
            return read_controls(fd)

    def menu(self, control: str | int) -> dict[int, str]:
        """Return the values of a menu control with their names; empty for other controls."""
        with Use(self, f"list the menu of its control {control!r}") as fd:
            return read_menu(fd, self._control(control))

    def get_control(self, control: str | int) -> int:
        """Return the value of a control, by its name or id. KeyError if the device has none."""
        with Use(self, f"read its control {control!r}") as fd:
            return _controls_ioctl.g_ctrl(fd, self._control(control).id)

    def set_control(self, control: str | int, value: int) -> None:
        """Set a control, by its name or id. KeyError if the device has none.

        The kernel clamps integers silently: read the value back. OSError: ERANGE for a value that a
        menu doesn't have, EACCES if the control is read-only, EBUSY if it can't be set now.
        """
        with Use(self, f"set its control {control!r}") as fd:
            _controls_ioctl.s_ctrl(fd, self._control(control).id, value)

    def _control(self, control: str | int) -> Control:
        found = self.controls()
        for about in found:
            if control in (about.name, about.id):
                return about
        names = ", ".join(about.name for about in found)
        raise KeyError(f"{self.path} has no control {control!r}; it has {names}")


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
        unless there are 1 to 32. RefusedError (EINVAL) for buffers smaller than `sizeimage`, too
        few for the driver, or of a kind that it doesn't take.
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
