"""An open V4L2 device: what it is, and its inputs, outputs, timings and controls."""

from __future__ import annotations

import errno
import os
from enum import IntFlag
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from dmabuf._fd import Descriptor, Hold
from dmabuf._node import Kind, open_node
from dmabuf._record import record
from dmabuf.devices.v4l2 import _controls_ioctl, _ioctl
from dmabuf.errors import RefusedError, os_error

if TYPE_CHECKING:
    from dmabuf.devices.v4l2 import Capture, Output

_NODE = Kind("V4L2 device", "video4linux", "video", "CONFIG_VIDEO_DEV", "load its driver")
_M2M = _ioctl.V4L2_CAP_VIDEO_M2M | _ioctl.V4L2_CAP_VIDEO_M2M_MPLANE
_MULTI_PLANAR = (
    _ioctl.V4L2_CAP_VIDEO_CAPTURE_MPLANE
    | _ioctl.V4L2_CAP_VIDEO_OUTPUT_MPLANE
    | _ioctl.V4L2_CAP_VIDEO_M2M_MPLANE
)
_CAPTURE = _ioctl.V4L2_CAP_VIDEO_CAPTURE | _ioctl.V4L2_CAP_VIDEO_CAPTURE_MPLANE | _M2M
_OUTPUT = _ioctl.V4L2_CAP_VIDEO_OUTPUT | _ioctl.V4L2_CAP_VIDEO_OUTPUT_MPLANE | _M2M
# The V4L2_BUF_TYPE of a queue: single- and multi-planar.
CAPTURE = _ioctl.V4L2_BUF_TYPE_VIDEO_CAPTURE, _ioctl.V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE
OUTPUT = _ioctl.V4L2_BUF_TYPE_VIDEO_OUTPUT, _ioctl.V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE


class Memory(IntFlag):
    """Where the memory of a queue's buffers may come from: the V4L2_BUF_CAP_SUPPORTS bits."""

    MMAP = _ioctl.V4L2_BUF_CAP_SUPPORTS_MMAP
    """The device allocates; the buffers can be exported."""
    USERPTR = _ioctl.V4L2_BUF_CAP_SUPPORTS_USERPTR
    """The process's own memory."""
    DMABUF = _ioctl.V4L2_BUF_CAP_SUPPORTS_DMABUF
    """Buffers of others are imported."""


_CAUSES = {
    errno.ENODEV: "the device has gone, unplugged or unbound from its driver; close it",
    errno.EBUSY: "its buffers are in use; leave its stream, or end the program that has one",
    errno.EFAULT: "it can't reach this memory; try that of a CMA heap, or its own",
}


@record
class V4l2Info(NamedTuple):
    """What a node says of itself."""

    path: str
    """The node."""
    driver: str
    """The kernel's name of the driver."""
    card: str
    """What the device is called."""
    bus: str
    """Where it is: "usb-0000:00:14.0-1", "platform:vivid-000"."""
    capture: bool
    """Frames can be had from it; of a memory-to-memory device, its results."""
    output: bool
    """Frames can be given to it."""
    m2m: bool
    """What it is given comes back changed: a codec, a scaler, a converter."""
    multi_planar: bool
    """Its formats can have a buffer for each plane."""
    memory: Memory | None
    """Where buffers may come from, before Linux 4.20 unknown (0). None while somebody uses it."""


def inspect(path: str | os.PathLike[str]) -> V4l2Info:
    """Open a node, ask and close it; a device that others are using is not disturbed.

    Nodes for anything else than video (metadata, radio, touch) have neither capture nor output.
    OSError, with the path, if it can't be opened. Follows VIDIOC_QUERYCAP and VIDIOC_REQBUFS.
    """
    with Device(path) as device:
        return device.info


@record
class Timings(NamedTuple):
    """When the lines and frames of a digital signal come."""

    width: int
    """Pixels in a row."""
    height: int
    """Rows of a frame."""
    interlaced: bool
    """Whether a frame comes as two fields."""
    frame_rate: float
    """Frames a second."""
    data: bytes
    """The struct v4l2_dv_timings."""


@record
class Control(NamedTuple):
    """A setting of a device."""

    id: int
    """V4L2_CID; the same for the same thing everywhere."""
    name: str
    """The driver's name of it."""
    type: int
    """V4L2_CTRL_TYPE: 1 a number, 2 yes or no, 3 one of a menu, 4 an action, 8 bits."""
    minimum: int
    """The least value."""
    maximum: int
    """The greatest value."""
    step: int
    """From one value to the next."""
    default: int
    """The value that it has at first."""
    flags: int
    """V4L2_CTRL_FLAG."""


class Device(Descriptor):
    """An open V4L2 device. Thread-safe. Use it as a context manager, or call `close()`.

    A memory-to-memory device works on what one open descriptor has queued: take `capture` and
    `output` of the same `Device`.
    """

    __slots__ = ("_info",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a node; OSError, with the path, if that fails."""
        node = os.fspath(path)
        number = open_node(node, os.O_RDWR | os.O_NONBLOCK, _NODE)
        try:
            self._info = _asked(number, node)
        except BaseException:
            Descriptor(number).close()
            raise
        super().__init__(number)

    @property
    def info(self) -> V4l2Info:
        """What the node said of itself when it was opened. Also when closed."""
        return self._info

    @property
    def path(self) -> str:
        """The node that was opened."""
        return self._info.path

    @property
    def m2m(self) -> bool:
        """Whether it is a memory-to-memory device."""
        return self._info.m2m

    @property
    def capture(self) -> Capture:
        """The queue of frames that come from the device; OSError (ENODEV) if it has none."""
        from dmabuf.devices.v4l2 import Capture

        return Capture(self)

    @property
    def output(self) -> Output:
        """The queue of frames that go to the device; OSError (ENODEV) if it has none."""
        from dmabuf.devices.v4l2 import Output

        return Output(self)

    def inputs(self) -> list[str]:
        """Return the names of where a capture device's frames can come from."""
        with self._use("list its inputs") as fd:
            return _controls_ioctl.enuminput(fd)

    def set_input(self, index: int) -> None:
        """Choose one of `inputs()`; OSError (EINVAL) if there is none, EBUSY during a stream."""
        with self._use(f"choose input {index}") as fd:
            _controls_ioctl.s_input(fd, index)

    def outputs(self) -> list[str]:
        """Return the names of where an output device's frames can go."""
        with self._use("list its outputs") as fd:
            return _controls_ioctl.enumoutput(fd)

    def set_output(self, index: int) -> None:
        """Choose one of `outputs()`; OSError (EINVAL) if there is none, EBUSY during a stream."""
        with self._use(f"choose output {index}") as fd:
            _controls_ioctl.s_output(fd, index)

    def dv_timings(self) -> list[Timings]:
        """Return the timings that the input or output chosen can have (HDMI and such); or none."""
        with self._use("list its timings") as fd:
            return [_timings(found) for found in _controls_ioctl.enum_dv_timings(fd)]

    def set_dv_timings(self, timings: Timings) -> None:
        """Have the input or output chosen run by one of `dv_timings()`, which resets the format."""
        with self._use("set its timings") as fd:
            _controls_ioctl.s_dv_timings(fd, timings.data)

    def controls(self) -> list[Control]:
        """Return the controls that have a number for a value."""
        with self._use("list its controls") as fd:
            found = _controls_ioctl.queryctrl(fd)
        heading = _controls_ioctl.V4L2_CTRL_TYPE_CTRL_CLASS
        return [Control(*about) for about in found if about.type != heading]

    def menu(self, control: str | int) -> dict[int, str]:
        """Return the values that a menu control can have, and their names; none of another's."""
        with self._use(f"list the menu of its control {control!r}") as fd:
            about = self._control(control)
            values = range(about.minimum, about.maximum + 1)
            if about.type != _controls_ioctl.V4L2_CTRL_TYPE_MENU:
                return {}
            names = {value: _controls_ioctl.querymenu(fd, about.id, value) for value in values}
        return {value: name for value, name in names.items() if name is not None}

    def get_control(self, control: str | int) -> int:
        """Return a control's value, by its name or id; KeyError if the device has none of it."""
        with self._use(f"read its control {control!r}") as fd:
            return _controls_ioctl.g_ctrl(fd, self._control(control).id)

    def set_control(self, control: str | int, value: int) -> None:
        """Set a control by its name or id; KeyError if the device has none of it.

        OSError: ERANGE for a value that it can't have, EACCES if it is read-only, EBUSY if not now.
        """
        with self._use(f"set its control {control!r}") as fd:
            _controls_ioctl.s_ctrl(fd, self._control(control).id, value)

    def _control(self, control: str | int) -> Control:
        for about in self.controls():
            if control in (about.name, about.id):
                return about
        names = ", ".join(about.name for about in self.controls())
        raise KeyError(f"{self.path} has no control {control!r}; it has {names}")

    def _use(self, what: str) -> Hold:
        """Return a hold for system calls, whose errors say what was tried on which device."""
        return _Use(self, what)

    def __repr__(self) -> str:
        state = "[closed]" if self._closed else f"fd={self._number}"
        return f"<dmabuf.devices.v4l2.Device {self.path} {self._info.driver} {state}>"


def _asked(fd: int, path: str) -> V4l2Info:
    about = _ioctl.querycap(fd)
    caps = about.device_caps
    types: int | None = 0
    if caps & (_CAPTURE | _OUTPUT) and caps & _ioctl.V4L2_CAP_STREAMING:
        single, planar = CAPTURE if caps & _CAPTURE else OUTPUT
        types = _ioctl.memory_types(fd, planar if caps & _MULTI_PLANAR else single)
    return V4l2Info(
        path,
        about.driver,
        about.card,
        about.bus_info,
        bool(caps & _CAPTURE),
        bool(caps & _OUTPUT),
        bool(caps & _M2M),
        bool(caps & _MULTI_PLANAR),
        None if types is None else Memory(types & sum(Memory)),
    )


def _timings(found: _controls_ioctl.Timings) -> Timings:
    rate = found.pixelclock / found.total if found.total else 0.0
    return Timings(found.width, found.height, bool(found.interlaced), rate, found.data)


class _Use(Hold):
    """A hold on a device, which explains the errors that its calls have in common."""

    __slots__ = ("_what",)
    owner: Device

    def __init__(self, owner: Device, what: str) -> None:
        super().__init__(owner)
        self._what = what

    def __exit__(  # type: ignore[override]
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.drop()
        if not isinstance(error, OSError) or isinstance(error, RefusedError | BlockingIOError):
            return
        number = error.errno
        if number is None:
            return  # a signal handler's
        what = _CAUSES.get(number, str(error.strerror).removeprefix(f"{os.strerror(number)}: "))
        raise os_error(number, f"{self.owner.path}: can't {self._what}: {what}") from error
