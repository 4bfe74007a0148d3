"""The V4L2 ioctls on inputs, outputs, timings and controls, one function each: videodev2.h."""

from __future__ import annotations

from struct import Struct
from typing import Any

from dmabuf._ioctl import READ, WRITE, call, request, text
from dmabuf.devices.v4l2._ioctl import enumerated, struct
from dmabuf.devices.v4l2._uapi import ffi

VIDIOC_G_PARM = struct(READ | WRITE, 21, "v4l2_streamparm")
VIDIOC_S_PARM = struct(READ | WRITE, 22, "v4l2_streamparm")
VIDIOC_ENUMINPUT = struct(READ | WRITE, 26, "v4l2_input")
VIDIOC_G_CTRL = struct(READ | WRITE, 27, "v4l2_control")
VIDIOC_S_CTRL = struct(READ | WRITE, 28, "v4l2_control")
VIDIOC_QUERYCTRL = struct(READ | WRITE, 36, "v4l2_queryctrl")
VIDIOC_QUERYMENU = struct(READ | WRITE, 37, "v4l2_querymenu")
VIDIOC_S_INPUT = request(READ | WRITE, "V", 39, 4)
VIDIOC_S_OUTPUT = request(READ | WRITE, "V", 47, 4)
VIDIOC_ENUMOUTPUT = struct(READ | WRITE, 48, "v4l2_output")
VIDIOC_S_DV_TIMINGS = struct(READ | WRITE, 87, "v4l2_dv_timings")
VIDIOC_ENUM_DV_TIMINGS = struct(READ | WRITE, 98, "v4l2_enum_dv_timings")

V4L2_CTRL_FLAG_NEXT_CTRL = 0x80000000

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
    call(fd, VIDIOC_S_INPUT, bytearray(_int.pack(index)), "VIDIOC_S_INPUT")


def s_output(fd: int, index: int) -> None:
    """Choose where an output node's frames go."""
    call(fd, VIDIOC_S_OUTPUT, bytearray(_int.pack(index)), "VIDIOC_S_OUTPUT")


def enum_dv_timings(fd: int) -> list[tuple[int, int, int, int, int, bytes]]:
    """Return the timings that the current input or output knows.

    Of each (width, height, interlaced, pixelclock, pixels in a frame with its blanking), and the
    struct v4l2_dv_timings.
    """
    found: list[tuple[int, int, int, int, int, bytes]] = []
    while True:
        data: Any = ffi.new("struct v4l2_enum_dv_timings *", {"index": len(found)})
        if not enumerated(fd, VIDIOC_ENUM_DV_TIMINGS, data, "VIDIOC_ENUM_DV_TIMINGS"):
            return found
        width, height, interlaced, _, clock, *blanking = _bt_timings.unpack_from(
            ffi.buffer(data.timings.reserved)
        )
        # The porches and the sync of lines, of the frame, and of a second field.
        total = (width + sum(blanking[:3])) * (height + sum(blanking[3:]))
        timings = bytes(ffi.buffer(ffi.addressof(data, "timings")))
        found.append((width, height, interlaced, clock, total, timings))


def s_dv_timings(fd: int, timings: bytes) -> None:
    """Set the current input or output to a struct v4l2_dv_timings."""
    call(fd, VIDIOC_S_DV_TIMINGS, bytearray(timings), "VIDIOC_S_DV_TIMINGS")


def queryctrl(fd: int) -> list[tuple[int, str, int, int, int, int, int, int]]:
    """Return a node's controls, in the order of their numbers.

    Of each (id, name, type, minimum, maximum, step, default, flags).
    """
    found: list[tuple[int, str, int, int, int, int, int, int]] = []
    last = 0
    while True:
        data: Any = ffi.new("struct v4l2_queryctrl *", {"id": last | V4L2_CTRL_FLAG_NEXT_CTRL})
        if not enumerated(fd, VIDIOC_QUERYCTRL, data, "VIDIOC_QUERYCTRL"):
            return found
        last = data.id
        limits = (data.minimum, data.maximum, data.step, data.default_value)
        found.append((data.id, text(ffi.buffer(data.name)), data.type, *limits, data.flags))


def querymenu(fd: int, control: int, value: int) -> str | None:
    """Return the name of a menu control's value; None if it can't have it."""
    data: Any = ffi.new("struct v4l2_querymenu *", {"id": control, "index": value})
    return (
        text(ffi.buffer(data.name))
        if enumerated(fd, VIDIOC_QUERYMENU, data, "VIDIOC_QUERYMENU")
        else None
    )


def g_ctrl(fd: int, control: int) -> int:
    """Return a control's value."""
    data: Any = ffi.new("struct v4l2_control *", {"id": control})
    call(fd, VIDIOC_G_CTRL, ffi.buffer(data), "VIDIOC_G_CTRL")
    return int(data.value)


def s_ctrl(fd: int, control: int, value: int) -> None:
    """Set a control."""
    data: Any = ffi.new("struct v4l2_control *", {"id": control, "value": value})
    call(fd, VIDIOC_S_CTRL, ffi.buffer(data), "VIDIOC_S_CTRL")
