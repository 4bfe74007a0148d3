"""The settings of a V4L2 device that apply to all of its formats: controls and timings."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from enum import IntFlag
from struct import Struct
from typing import NamedTuple

from dmabuf._ioctl import text
from dmabuf._record import record
from dmabuf.devices.v4l2 import _controls_ioctl
from dmabuf.devices.v4l2._enumeration import Enumeration
from dmabuf.devices.v4l2._ioctl import NOT_THERE
from dmabuf.devices.v4l2.control_ids import ControlId

_int64 = Struct("=q")


class ControlType(Enumeration):
    """The type of a control's value: V4L2_CTRL_TYPE.

        for control in device.controls():
            if control.type is v4l2.ControlType.MENU:
                print(control.name, device.menu(control.id))

    If `Control.dims` is not empty, the value is a numpy array of that shape. A type that is not
    listed here, as codecs have, gives the kernel's struct as bytes.
    """

    INTEGER = 1
    """A 32-bit number."""
    BOOLEAN = 2
    """0 for off, 1 for on."""
    MENU = 3
    """A number that stands for one of the names in `Device.menu()`."""
    BUTTON = 4
    """An action: setting it to any number starts it. It can't be read."""
    INTEGER64 = 5
    """A 64-bit number."""
    CTRL_CLASS = 6
    """The heading of a group of controls. `Device.controls()` leaves it out."""
    STRING = 7
    """A text of `minimum` to `maximum` bytes of UTF-8."""
    BITMASK = 8
    """An unsigned 32-bit number, in which each bit has a meaning."""
    INTEGER_MENU = 9
    """A number that stands for one of the numbers in `Device.menu()`."""
    U8 = 0x100
    """Unsigned 8-bit numbers."""
    U16 = 0x101
    """Unsigned 16-bit numbers."""
    U32 = 0x102
    """Unsigned 32-bit numbers."""
    AREA = 0x106
    """A tuple (width, height)."""
    RECT = 0x107
    """A tuple (left, top, width, height)."""


class ControlFlag(IntFlag):
    """What else a driver reports about a control: V4L2_CTRL_FLAG.

        for control in device.controls():
            if v4l2.ControlFlag.READ_ONLY not in control.flags:
                print(control.name)

    Bits that are not listed here, of newer kernels, are kept.
    """

    DISABLED = 0x0001
    """The control can't be used: it is permanently off, or the device fails to describe it."""
    GRABBED = 0x0002
    """It can't be changed now, usually because a stream is running."""
    READ_ONLY = 0x0004
    """It can be read and not set."""
    UPDATE = 0x0008
    """Setting it may change other controls."""
    INACTIVE = 0x0010
    """It has no effect with the current values of other controls."""
    SLIDER = 0x0020
    """A user interface should show it as a slider."""
    WRITE_ONLY = 0x0040
    """It can be set and not read."""
    VOLATILE = 0x0080
    """Its value changes by itself."""
    HAS_PAYLOAD = 0x0100
    """Its value is more than one number."""
    EXECUTE_ON_WRITE = 0x0200
    """Setting it has an effect even if the value stays the same."""
    MODIFY_LAYOUT = 0x0400
    """Setting it changes the size of the buffers."""
    DYNAMIC_ARRAY = 0x0800
    """Its value is an array whose length may change, up to that in `Control.dims`."""
    HAS_WHICH_MIN_MAX = 0x1000
    """The driver can report the minimum and maximum of each element."""


@record
class Control(NamedTuple):
    """A setting of a device, as `Device.controls()` returns it.

        for control in device.controls():
            print(control.key, control.minimum, control.maximum, control.default)

    `Device.get_control()` and `Device.set_control()` take its `id`, `name` or `key`.
    """

    id: int
    """The id of the control (V4L2_CID). The same setting has the same id on all devices."""
    name: str
    """The driver's name for people, such as "White Balance, Automatic"."""
    type: ControlType
    """The type of the value."""
    minimum: int
    """The smallest value; for a text, the smallest length in bytes; for an array, the smallest
    value of an element."""
    maximum: int
    """The largest value; for a text, the largest length in bytes; for an array, the largest value
    of an element."""
    step: int
    """The difference between one value and the next."""
    default: int
    """The value after the driver was loaded."""
    flags: ControlFlag
    """What else the driver reports."""
    elem_size: int
    """The size of the value, or of one element of an array, in bytes."""
    elems: int
    """The number of elements; 1 unless the value is an array."""
    dims: tuple[int, ...]
    """The shape of the array; empty for a single value."""

    @property
    def key(self) -> str:
        """The name as v4l2-ctl writes it, such as "white_balance_automatic"."""
        return "_".join(re.findall("[a-z0-9]+", self.name.lower()))

    @property
    def broken(self) -> bool:
        """True if the control can't be used (`ControlFlag.DISABLED`), usually by a device's fault.

        Up to Linux 6.12 the kernel reports nothing but the id of such a control. Its name is then
        that of `ControlId`, or the number, and its type is unknown.
        """
        return ControlFlag.DISABLED in self.flags

    @property
    def readable(self) -> bool:
        """True if `Device.get_control()` can return its value. A button has none."""
        return not self.flags & (ControlFlag.WRITE_ONLY | ControlFlag.DISABLED)

    @property
    def writable(self) -> bool:
        """True if `Device.set_control()` can set it, although perhaps not now: see `GRABBED`."""
        return not self.flags & (ControlFlag.READ_ONLY | ControlFlag.DISABLED)


@record
class Timings(NamedTuple):
    """The size and frame rate of a digital signal, such as HDMI: a struct v4l2_dv_timings.

        full_hd = [timings for timings in device.dv_timings() if timings.height == 1080]
        device.set_dv_timings(full_hd[0])

    `Device.dv_timings()` and `Device.query_dv_timings()` return them.
    """

    width: int
    """The number of pixels in a row."""
    height: int
    """The number of rows in a frame."""
    interlaced: bool
    """True if a frame is sent as two fields."""
    frame_rate: float
    """The number of frames per second."""
    data: bytes
    """The kernel's struct v4l2_dv_timings as bytes, which `Device.set_dv_timings` passes back."""


_NOBODYS = ControlId.BRIGHTNESS & ~0xFFFF
"""A number that no control has: those of a class begin further up."""


def read_controls(fd: int) -> list[Control]:
    """Return a node's controls, without the headings of their groups."""
    found = []
    control = _next_control(fd, 0)
    while control is not None:
        if control.type != ControlType.CTRL_CLASS:
            found.append(control)
        control = _next_control(fd, control.id)
    return found


def _next_control(fd: int, last: int) -> Control | None:
    """Return the control with the next higher number; None after the last."""
    try:
        return _control(_controls_ioctl.query_next_control(fd, last))
    except OSError as error:
        if error.errno in NOT_THERE:
            return None
        _require_broken(error)
        # A device may fail whatever it is asked.
        read_control(fd, _NOBODYS, broken=False)
        # The kernel does not say which control has failed, and would fail there for ever.
        for number in _numbers_after(last):
            if (control := read_control(fd, number)) is not None:
                return control
        raise


def _numbers_after(last: int) -> Iterator[int]:
    """Give the numbers that the control after one may have: those of drivers' own controls, too.

    Each class of controls begins at a multiple of 0x10000, and uses 0x900 to 0x28FF of that.
    """
    for start in sorted({number & ~0xFFFF for number in ControlId}):
        yield from range(max(last + 1, start + 0x900), start + 0x2900)


def read_control(fd: int, number: int, *, broken: bool = True) -> Control | None:
    """Return a node's control, also a `broken` one; None if there is none of this number."""
    try:
        return _control(_controls_ioctl.query_control(fd, number))
    except OSError as error:
        if error.errno in NOT_THERE:
            return None
        if not broken:
            raise
        _require_broken(error)
    name = ControlId(number).name.lower() if number in set(ControlId) else f"{number:#x}"
    limits = (0, 0, 0, 0)
    return Control(int(number), name, ControlType(0), *limits, ControlFlag.DISABLED, 4, 1, ())


def _require_broken(error: OSError) -> None:
    """Raise what tells of no control: a signal handler's error, a lack, or that the device went."""
    if error.errno in (None, errno.ENODEV, errno.ENOMEM):
        raise error


def _control(about: _controls_ioctl.Description) -> Control:
    limits = about.minimum, about.maximum, about.step, about.default
    if about.type == ControlType.BITMASK:  # without the extended call they come with a sign
        low, high, step, default = (limit & 0xFFFFFFFF for limit in limits)
        limits = low, high, step, default
    kind, flags = ControlType(about.type), ControlFlag(about.flags)
    sizes = about.elem_size, about.elems, about.dims
    return Control(about.id, about.name, kind, *limits, flags, *sizes)


def read_menu(fd: int, control: Control) -> dict[int, str | int]:
    """Return what the values of a menu stand for; nothing for another control."""
    if control.type not in (ControlType.MENU, ControlType.INTEGER_MENU):
        return {}
    found: dict[int, str | int] = {}
    for value in range(control.minimum, control.maximum + 1):
        entry = _controls_ioctl.querymenu(fd, control.id, value)
        if entry is not None:
            number = control.type is ControlType.INTEGER_MENU
            found[value] = _int64.unpack_from(entry)[0] if number else text(entry)
    return found


def read_timings(fd: int) -> list[Timings]:
    """Return the timings that the current input or output offers."""
    return [_timings(about) for about in _controls_ioctl.enum_dv_timings(fd)]


def query_timings(fd: int) -> Timings:
    """Return the timings that the current input sees."""
    return _timings(_controls_ioctl.query_dv_timings(fd))


def _timings(about: _controls_ioctl.DvTimings) -> Timings:
    rate = about.clock / about.total if about.total else 0.0
    return Timings(about.width, about.height, bool(about.interlaced), rate, about.data)
