"""The V4L2 ioctls on events, and what codecs are told, one function each: videodev2.h."""

from __future__ import annotations

import errno
from typing import Any

from dmabuf._ioctl import READ, WRITE, call
from dmabuf.devices.v4l2._ioctl import struct
from dmabuf.devices.v4l2._uapi import ffi

VIDIOC_ENCODER_CMD = struct(READ | WRITE, 77, "v4l2_encoder_cmd")
VIDIOC_DQEVENT = struct(READ, 89, "v4l2_event")
VIDIOC_SUBSCRIBE_EVENT = struct(WRITE, 90, "v4l2_event_subscription")
VIDIOC_UNSUBSCRIBE_EVENT = struct(WRITE, 91, "v4l2_event_subscription")
VIDIOC_DECODER_CMD = struct(READ | WRITE, 96, "v4l2_decoder_cmd")

V4L2_EVENT_CTRL = 3
V4L2_EVENT_SUB_FL_ALLOW_FEEDBACK = 2
V4L2_ENC_CMD_STOP = 1
V4L2_DEC_CMD_STOP = 1

_SUBSCRIPTION, _EVENT = "struct v4l2_event_subscription *", ffi.typeof("struct v4l2_event *")


def subscribe_event(fd: int, kind: int, id: int) -> None:
    """Have events of a kind queued, also those that this descriptor causes. Idempotent."""
    about = {"type": kind, "id": id, "flags": V4L2_EVENT_SUB_FL_ALLOW_FEEDBACK}
    data: Any = ffi.new(_SUBSCRIPTION, about)
    call(fd, VIDIOC_SUBSCRIBE_EVENT, ffi.buffer(data), "VIDIOC_SUBSCRIBE_EVENT")


def unsubscribe_event(fd: int, kind: int, id: int) -> None:
    """Have events of a kind queued no more, and drop those that are."""
    data: Any = ffi.new(_SUBSCRIPTION, {"type": kind, "id": id})
    call(fd, VIDIOC_UNSUBSCRIBE_EVENT, ffi.buffer(data), "VIDIOC_UNSUBSCRIBE_EVENT")


class EventStruct:
    """A struct v4l2_event: its type is 0 until the kernel has written an event into it."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data: Any = ffi.new(_EVENT)

    @property
    def type(self) -> int:
        """The kind of the event; 0 if there is none."""
        return int(self._data.type)

    @property
    def id(self) -> int:
        """The control, or the input."""
        return int(self._data.id)

    @property
    def changes(self) -> int:
        """What has changed: of a source and of a control the first field, nothing of others."""
        return int(self._data.u.src_change.changes)

    @property
    def value(self) -> int:
        """A control's new value."""
        return int(self._data.u.ctrl.value64)

    @property
    def small_value(self) -> int:
        """A control's new value, of 32 bits."""
        return int(self._data.u.ctrl.value)

    @property
    def control_type(self) -> int:
        """The V4L2_CTRL_TYPE of a control."""
        return int(self._data.u.ctrl.type)

    @property
    def timestamp(self) -> float:
        """When it happened, in `time.monotonic()` seconds."""
        time = self._data.timestamp
        return float(time.tv_sec + time.tv_nsec / 1e9)

    def take(self, fd: int) -> bool:
        """Have the kernel write the next event into this; False if there is none."""
        try:
            call(fd, VIDIOC_DQEVENT, ffi.buffer(self._data), "VIDIOC_DQEVENT")
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True


def encoder_stop(fd: int) -> None:
    """Have an encoder finish what it has, and mark the last of its buffers."""
    data: Any = ffi.new("struct v4l2_encoder_cmd *", {"cmd": V4L2_ENC_CMD_STOP})
    call(fd, VIDIOC_ENCODER_CMD, ffi.buffer(data), "VIDIOC_ENCODER_CMD")


def decoder_stop(fd: int) -> None:
    """Have a decoder finish what it has, and mark the last of its buffers."""
    data: Any = ffi.new("struct v4l2_decoder_cmd *", {"cmd": V4L2_DEC_CMD_STOP})
    call(fd, VIDIOC_DECODER_CMD, ffi.buffer(data), "VIDIOC_DECODER_CMD")
