"""The settings of a V4L2 device that apply to all its formats: its controls and timings."""

from __future__ import annotations

from enum import IntFlag
from typing import NamedTuple

from dmabuf._record import record
from dmabuf.devices.v4l2 import _controls_ioctl
from dmabuf.devices.v4l2._enumeration import Enumeration


class ControlType(Enumeration):
    """What the value of a control means: V4L2_CTRL_TYPE.

    For example:

        for control in device.controls():
            if control.type is v4l2.ControlType.MENU:
                print(control.name, device.menu(control.id))
    """

    INTEGER = 1
    """A number."""
    BOOLEAN = 2
    """0 for off, 1 for on."""
    MENU = 3
    """One of the names that `Device.menu()` returns."""
    BUTTON = 4
    """An action: setting it to any value starts it; it can't be read."""
    INTEGER64 = 5
    """A number of 64 bits, which `get_control` and `set_control` don't take."""
    CTRL_CLASS = 6
    """The heading of a group of controls, which `Device.controls()` leaves out."""
    STRING = 7
    """A text, which `get_control` and `set_control` don't take."""
    BITMASK = 8
    """A set of bits."""
    INTEGER_MENU = 9
    """One of a list of numbers."""


class ControlFlag(IntFlag):
    """What else a driver says of a control: V4L2_CTRL_FLAG. Bits of newer drivers are kept.

    For example:

        for control in device.controls():
            if v4l2.ControlFlag.READ_ONLY not in control.flags:
                print(control.name)
    """

    DISABLED = 0x0001
    """It is permanently off and should not be shown."""
    GRABBED = 0x0002
    """It can't be changed now, mostly because a stream runs."""
    READ_ONLY = 0x0004
    """It can be read and not set."""
    UPDATE = 0x0008
    """Setting it may change other controls."""
    INACTIVE = 0x0010
    """It has no effect as other controls are set."""
    SLIDER = 0x0020
    """It is best shown as a slider."""
    WRITE_ONLY = 0x0040
    """It can be set and not read."""
    VOLATILE = 0x0080
    """Its value changes by itself."""
    HAS_PAYLOAD = 0x0100
    """Its value is more than a number."""
    EXECUTE_ON_WRITE = 0x0200
    """Setting it acts, also if the value stays the same."""
    MODIFY_LAYOUT = 0x0400
    """Setting it changes the size of the buffers."""
    DYNAMIC_ARRAY = 0x0800
    """Its value is an array whose length may change."""


@record
class Control(NamedTuple):
    """A setting of a device, as `Device.controls()` returns it.

    For example:

        for control in device.controls():
            print(control.name, control.minimum, control.maximum, control.default)
    """

    id: int
    """The control's number (V4L2_CID), which is the same for the same setting on all devices."""
    name: str
    """The driver's name of it."""
    type: ControlType
    """What its value means."""
    minimum: int
    """The least value."""
    maximum: int
    """The greatest value."""
    step: int
    """The difference from one value to the next."""
    default: int
    """The value after the driver was loaded."""
    flags: ControlFlag
    """What else the driver says of it."""


@record
class Timings(NamedTuple):
    """The size and rate of a digital signal (HDMI and the like): a struct v4l2_dv_timings.

    For example:

        full_hd = [timings for timings in device.dv_timings() if timings.height == 1080]
        device.set_dv_timings(full_hd[0])
    """

    width: int
    """Pixels in a row."""
    height: int
    """Rows of a frame."""
    interlaced: bool
    """True if a frame comes as two fields."""
    frame_rate: float
    """Frames per second."""
    data: bytes
    """The kernel's struct v4l2_dv_timings, which `Device.set_dv_timings` hands back."""


def read_controls(fd: int) -> list[Control]:
    """Return a node's controls, without the headings of their groups."""
    controls = [
        Control(number, name, ControlType(kind), low, high, step, default, ControlFlag(flags))
        for number, name, kind, low, high, step, default, flags in _controls_ioctl.queryctrl(fd)
    ]
    return [control for control in controls if control.type != ControlType.CTRL_CLASS]


def read_menu(fd: int, control: Control) -> dict[int, str]:
    """Return the values that a menu can have, and their names; none of another control's."""
    if control.type != ControlType.MENU:
        return {}
    values = range(control.minimum, control.maximum + 1)
    names = {value: _controls_ioctl.querymenu(fd, control.id, value) for value in values}
    return {value: name for value, name in names.items() if name is not None}


def read_timings(fd: int) -> list[Timings]:
    """Return the timings that the current input or output offers."""
    return [
        Timings(width, height, bool(interlaced), clock / total if total else 0.0, data)
        for width, height, interlaced, clock, total, data in _controls_ioctl.enum_dv_timings(fd)
    ]
