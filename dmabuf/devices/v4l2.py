"""V4L2 devices: cameras, outputs and memory-to-memory devices, which fill and take dma-bufs."""

from __future__ import annotations

import os
from enum import IntFlag
from typing import NamedTuple

from dmabuf._fd import Descriptor, Hold
from dmabuf._node import Kind, open_node
from dmabuf.devices import _v4l2

_NODE = Kind("V4L2 device", "video4linux", "video", "CONFIG_VIDEO_DEV", "load its driver")
_CAPTURE = _v4l2.V4L2_CAP_VIDEO_CAPTURE | _v4l2.V4L2_CAP_VIDEO_CAPTURE_MPLANE
_OUTPUT = _v4l2.V4L2_CAP_VIDEO_OUTPUT | _v4l2.V4L2_CAP_VIDEO_OUTPUT_MPLANE
_M2M = _v4l2.V4L2_CAP_VIDEO_M2M | _v4l2.V4L2_CAP_VIDEO_M2M_MPLANE
_MULTI_PLANAR = (
    _v4l2.V4L2_CAP_VIDEO_CAPTURE_MPLANE
    | _v4l2.V4L2_CAP_VIDEO_OUTPUT_MPLANE
    | _v4l2.V4L2_CAP_VIDEO_M2M_MPLANE
)


class Memory(IntFlag):
    """Where the memory of a queue's buffers may come from: the V4L2_BUF_CAP_SUPPORTS bits."""

    MMAP = _v4l2.V4L2_BUF_CAP_SUPPORTS_MMAP
    """The device allocates; the buffers can be exported."""
    USERPTR = _v4l2.V4L2_BUF_CAP_SUPPORTS_USERPTR
    """The process's own memory."""
    DMABUF = _v4l2.V4L2_BUF_CAP_SUPPORTS_DMABUF
    """Buffers of others are imported."""


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
    OSError, with the path, if it can't be opened. Follows VIDIOC_QUERYCAP and VIDIOC_CREATE_BUFS.
    """
    node = os.fspath(path)
    number = open_node(node, os.O_RDWR | os.O_NONBLOCK, _NODE)
    with Descriptor(number) as device, Hold(device) as fd:
        about = _v4l2.querycap(fd)
        kinds = _kinds(about.device_caps)
        types: int | None = 0
        if kinds and about.device_caps & _v4l2.V4L2_CAP_STREAMING:
            types = _v4l2.memory_types(fd, next(iter(kinds.values())))
    return V4l2Info(
        node,
        about.driver,
        about.card,
        about.bus_info,
        "capture" in kinds,
        "output" in kinds,
        bool(about.device_caps & _M2M),
        bool(about.device_caps & _MULTI_PLANAR),
        None if types is None else Memory(types & 7),
    )


def _kinds(caps: int) -> dict[str, int]:
    """Return the V4L2_BUF_TYPE of each of a node's queues."""
    kinds = {}
    many = bool(caps & _MULTI_PLANAR)
    if caps & (_CAPTURE | _M2M):
        single, planar = _v4l2.V4L2_BUF_TYPE_VIDEO_CAPTURE, _v4l2.V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE
        kinds["capture"] = planar if many else single
    if caps & (_OUTPUT | _M2M):
        single, planar = _v4l2.V4L2_BUF_TYPE_VIDEO_OUTPUT, _v4l2.V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE
        kinds["output"] = planar if many else single
    return kinds
