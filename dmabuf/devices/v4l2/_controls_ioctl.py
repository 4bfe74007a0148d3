"""The V4L2 ioctls on inputs, outputs, timings and controls, one function each: videodev2.h."""

from __future__ import annotations

import errno
from struct import Struct
from typing import Any, NamedTuple

from dmabuf._ioctl import READ, WRITE, call, request, text
from dmabuf.devices.v4l2._ioctl import enumerated, struct
from dmabuf.devices.v4l2._uapi import ffi

VIDIOC_G_PARM = struct(READ | WRITE, 21, "v4l2_streamparm")
VIDIOC_S_PARM = struct(READ | WRITE, 22, "v4l2_streamparm")
VIDIOC_ENUMINPUT = struct(READ | WRITE, 26, "v4l2_input")
VIDIOC_QUERYCTRL = struct(READ | WRITE, 36, "v4l2_queryctrl")
VIDIOC_QUERYMENU = struct(READ | WRITE, 37, "v4l2_querymenu")
VIDIOC_S_INPUT = request(READ | WRITE, "V", 39, 4)
VIDIOC_S_OUTPUT = request(READ | WRITE, "V", 47, 4)
VIDIOC_ENUMOUTPUT = struct(READ | WRITE, 48, "v4l2_output")
VIDIOC_G_EXT_CTRLS = struct(READ | WRITE, 71, "v4l2_ext_controls")
VIDIOC_S_EXT_CTRLS = struct(READ | WRITE, 72, "v4l2_ext_controls")
VIDIOC_TRY_EXT_CTRLS = struct(READ | WRITE, 73, "v4l2_ext_controls")
VIDIOC_S_DV_TIMINGS = struct(READ | WRITE, 87, "v4l2_dv_timings")
VIDIOC_ENUM_DV_TIMINGS = struct(READ | WRITE, 98, "v4l2_enum_dv_timings")
VIDIOC_QUERY_DV_TIMINGS = struct(READ, 99, "v4l2_dv_timings")
VIDIOC_QUERY_EXT_CTRL = struct(READ | WRITE, 103, "v4l2_query_ext_ctrl")

V4L2_CTRL_FLAG_NEXT_CTRL = 0x80000000
V4L2_CTRL_FLAG_NEXT_COMPOUND = 0x40000000
V4L2_CTRL_ID_MASK = 0x0FFFFFFF

_int = Struct("=i")
_bt_timings = Struct("=IIIIQ9I")


def s_parm(fd: int, kind: int, numerator: int, denominator: int) -> tuple[int, int]:
    """Ask for a time per frame, a fraction in seconds, and return the driver's; 0s if unknown."""
    data: Any = ffi.new("struct v4l2_streamparm *", {"type": kind})
    time = data.parm.capture.timeperframe
    time.numerator, time.denominator = numerator, denominator
    call(fd, VIDIOC_S_PARM, ffi.buffer(data), "VIDIOC_S_PARM")
    return time.numerator, time.denominator


def g_parm(fd: int, kind: int) -> tuple[int, int]:
    """Return the time per frame as a fraction in seconds; 0s if unknown."""
    data: Any = ffi.new("struct v4l2_streamparm *", {"type": kind})
    call(fd, VIDIOC_G_PARM, ffi.buffer(data), "VIDIOC_G_PARM")
    time = data.parm.capture.timeperframe
    return time.numerator, time.denominator


def enuminput(fd: int) -> list[str]:
    """Return the names of a node's inputs."""
    return _names(fd, VIDIOC_ENUMINPUT, "v4l2_input")


def enumoutput(fd: int) -> list[str]:
    """Return the names of a node's outputs."""
    return _names(fd, VIDIOC_ENUMOUTPUT, "v4l2_output")


def _names(fd: int, number: int, kind: str) -> list[str]:
    found: list[str] = []
    while True:
        data: Any = ffi.new(f"struct {kind} *", {"index": len(found)})
        if not enumerated(fd, number, data, f"enumerating {kind}"):
            return found
        found.append(text(ffi.buffer(data.name)))


def s_input(fd: int, index: int) -> None:
    """Choose where a capture node's frames come from."""
    call(fd, VIDIOC_S_INPUT, _packed_index(index), "VIDIOC_S_INPUT")


def s_output(fd: int, index: int) -> None:
    """Choose where an output node's frames go."""
    call(fd, VIDIOC_S_OUTPUT, _packed_index(index), "VIDIOC_S_OUTPUT")


def _packed_index(index: int) -> bytearray:
    """Pack an index; one that can't be becomes -1, which no device has: EINVAL."""
    return bytearray(_int.pack(index if 0 <= index < 1 << 31 else -1))


class DvTimings(NamedTuple):
    """A struct v4l2_dv_timings, and what stands in it."""

    width: int
    height: int
    interlaced: int
    clock: int
    """Pixels per second."""
    total: int
    """Pixels in a frame with its blanking."""
    data: bytes


def enum_dv_timings(fd: int) -> list[DvTimings]:
    """Return the timings that the current input or output knows."""
    found: list[DvTimings] = []
    while True:
        data: Any = ffi.new("struct v4l2_enum_dv_timings *", {"index": len(found)})
        if not enumerated(fd, VIDIOC_ENUM_DV_TIMINGS, data, "VIDIOC_ENUM_DV_TIMINGS"):
            return found
        found.append(_dv_timings(data.timings))


def query_dv_timings(fd: int) -> DvTimings:
    """Return the timings of the signal that the current input sees."""
    data: Any = ffi.new("struct v4l2_dv_timings *")
    call(fd, VIDIOC_QUERY_DV_TIMINGS, ffi.buffer(data), "VIDIOC_QUERY_DV_TIMINGS")
    return _dv_timings(data[0])


def _dv_timings(timings: Any) -> DvTimings:
    width, height, interlaced, _, clock, *blanking = _bt_timings.unpack_from(
        ffi.buffer(timings.reserved)
    )
    # The porches and the sync of lines, of the frame, and of a second field.
    total = (width + sum(blanking[:3])) * (height + sum(blanking[3:]))
    data = bytes(ffi.buffer(ffi.addressof(timings)))
    return DvTimings(width, height, interlaced, clock, total, data)


def s_dv_timings(fd: int, timings: bytes) -> None:
    """Set the current input or output to a struct v4l2_dv_timings."""
    call(fd, VIDIOC_S_DV_TIMINGS, bytearray(timings), "VIDIOC_S_DV_TIMINGS")


class Description(NamedTuple):
    """What the kernel tells of a control; `dims` is its array's shape, empty for a single value."""

    id: int
    name: str
    type: int
    minimum: int
    maximum: int
    step: int
    default: int
    flags: int
    elem_size: int
    elems: int
    dims: tuple[int, ...]


def query_control(fd: int, control: int) -> Description:
    """Describe a control. OSError: EINVAL if there is none, anything else if the device fails."""
    return _query(fd, control, 0)


def query_next_control(fd: int, control: int) -> Description:
    """Describe the control with the next higher number. OSError as from `query_control`."""
    return _query(fd, control, V4L2_CTRL_FLAG_NEXT_CTRL | V4L2_CTRL_FLAG_NEXT_COMPOUND)


def _query(fd: int, control: int, flags: int) -> Description:
    data: Any = ffi.new("struct v4l2_query_ext_ctrl *", {"id": control | flags})
    try:
        call(fd, VIDIOC_QUERY_EXT_CTRL, ffi.buffer(data), "VIDIOC_QUERY_EXT_CTRL")
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise
        return _query_plain(fd, control, flags & V4L2_CTRL_FLAG_NEXT_CTRL)  # USB, up to Linux 6.12
    limits = (data.minimum, data.maximum, data.step, data.default_value)
    about = (data.id, text(ffi.buffer(data.name)), data.type, *limits, data.flags)
    return Description(*about, data.elem_size, data.elems, tuple(data.dims[0 : data.nr_of_dims]))


def _query_plain(fd: int, control: int, flags: int) -> Description:
    data: Any = ffi.new("struct v4l2_queryctrl *", {"id": control | flags})
    call(fd, VIDIOC_QUERYCTRL, ffi.buffer(data), "VIDIOC_QUERYCTRL")
    limits = (data.minimum, data.maximum, data.step, data.default_value)
    about = (data.id, text(ffi.buffer(data.name)), data.type, *limits, data.flags)
    return Description(*about, 4, 1, ())


def querymenu(fd: int, control: int, value: int) -> bytes | None:
    """Return a menu control's entry: its name, or the number of 8 bytes that it stands for.

    None if the control can't have this value.
    """
    data: Any = ffi.new("struct v4l2_querymenu *", {"id": control, "index": value})
    if not enumerated(fd, VIDIOC_QUERYMENU, data, "VIDIOC_QUERYMENU"):
        return None
    return bytes(ffi.buffer(data.name))


def g_ext_ctrl(fd: int, control: int, size: int, *, pointed: bool) -> bytes:
    """Return a control's value: what it points to, of `size` bytes at most, or a number's 8 bytes.

    Of a number of 32 bits the first 4 bytes count.
    """
    return _ext_ctrl(fd, VIDIOC_G_EXT_CTRLS, "VIDIOC_G_EXT_CTRLS", control, bytes(size), pointed)


def s_ext_ctrl(fd: int, control: int, value: bytes, *, pointed: bool) -> bytes:
    """Set a control to a value as `g_ext_ctrl` returns it, and return what the driver took."""
    return _ext_ctrl(fd, VIDIOC_S_EXT_CTRLS, "VIDIOC_S_EXT_CTRLS", control, value, pointed)


def try_ext_ctrl(fd: int, control: int, value: bytes, *, pointed: bool) -> bytes:
    """Return what the driver would take; as `s_ext_ctrl`, but nothing is set."""
    return _ext_ctrl(fd, VIDIOC_TRY_EXT_CTRLS, "VIDIOC_TRY_EXT_CTRLS", control, value, pointed)


def _ext_ctrl(fd: int, number: int, name: str, control: int, value: bytes, pointed: bool) -> bytes:
    memory: Any = ffi.new("uint8_t[]", value)
    one: Any = ffi.new("struct v4l2_ext_control *", {"id": control})
    union = ffi.buffer(one.rest)
    if pointed:
        one.size = len(value)
        pointer = ffi.new("void **", memory)
        union[: len(ffi.buffer(pointer))] = bytes(ffi.buffer(pointer))
    else:
        union[:] = value
    data: Any = ffi.new("struct v4l2_ext_controls *", {"count": 1, "controls": one})
    call(fd, number, ffi.buffer(data), name)
    return bytes(ffi.buffer(memory))[: one.size] if pointed else bytes(union)
