"""What a V4L2 node reports about itself."""

from __future__ import annotations

from enum import IntFlag
from typing import NamedTuple

from dmabuf._record import record
from dmabuf.devices.v4l2 import _ioctl

_M2M = _ioctl.V4L2_CAP_VIDEO_M2M | _ioctl.V4L2_CAP_VIDEO_M2M_MPLANE
_MULTI_PLANAR = (
    _ioctl.V4L2_CAP_VIDEO_CAPTURE_MPLANE
    | _ioctl.V4L2_CAP_VIDEO_OUTPUT_MPLANE
    | _ioctl.V4L2_CAP_VIDEO_M2M_MPLANE
)
_CAPTURE = _ioctl.V4L2_CAP_VIDEO_CAPTURE | _ioctl.V4L2_CAP_VIDEO_CAPTURE_MPLANE | _M2M
_OUTPUT = _ioctl.V4L2_CAP_VIDEO_OUTPUT | _ioctl.V4L2_CAP_VIDEO_OUTPUT_MPLANE | _M2M
CAPTURE = _ioctl.V4L2_BUF_TYPE_VIDEO_CAPTURE, _ioctl.V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE
"""The V4L2_BUF_TYPE of a capture queue, single- and multi-planar."""
OUTPUT = _ioctl.V4L2_BUF_TYPE_VIDEO_OUTPUT, _ioctl.V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE
"""The V4L2_BUF_TYPE of an output queue, single- and multi-planar."""


class Memory(IntFlag):
    """The kinds of memory that a queue's buffers may use: the V4L2_BUF_CAP_SUPPORTS bits.

        about = v4l2.inspect("/dev/video0")
        imports = about.memory is not None and v4l2.Memory.DMABUF in about.memory

    `V4l2Info.memory` holds them.
    """

    MMAP = _ioctl.V4L2_BUF_CAP_SUPPORTS_MMAP
    """The device allocates the memory; it can be exported."""
    USERPTR = _ioctl.V4L2_BUF_CAP_SUPPORTS_USERPTR
    """The process's own memory."""
    DMABUF = _ioctl.V4L2_BUF_CAP_SUPPORTS_DMABUF
    """The device imports dma-bufs."""


@record
class V4l2Info(NamedTuple):
    """What a node reports about itself.

        about = v4l2.inspect("/dev/video0")
        print(about.card, about.capture, about.memory)

    `inspect()` returns it, and `Device.info` holds it.
    """

    path: str
    """The path of the node."""
    driver: str
    """The kernel's name of the driver."""
    card: str
    """The name of the device, for people."""
    bus: str
    """The place of the device, such as "usb-0000:00:14.0-1" or "platform:vivid-000"."""
    capture: bool
    """True if the node produces frames, as a camera or a memory-to-memory device does."""
    output: bool
    """True if the node consumes frames."""
    m2m: bool
    """True for a memory-to-memory device, which converts frames: a codec, a scaler."""
    multi_planar: bool
    """True if a format may have one buffer per plane."""
    media_controller: bool
    """True if the devices in front of the node must be configured and linked first, as with
    `media-ctl`. Reported since Linux 5.9."""
    memory: Memory | None
    """The kinds of memory for buffers; empty before Linux 4.20. None while another program uses the
    device."""


def read_info(fd: int, path: str) -> V4l2Info:
    """Ask an open node."""
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
        bool(caps & _ioctl.V4L2_CAP_IO_MC),
        None if types is None else Memory(types & sum(Memory)),
    )
