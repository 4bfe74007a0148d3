"""The V4L2 ioctls on formats and buffers, one function each: include/uapi/linux/videodev2.h."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from functools import partial
from struct import Struct
from typing import Any, NamedTuple

from dmabuf._ioctl import READ, WRITE, call, make, request, struct_request, text
from dmabuf.devices.v4l2._uapi import ffi

struct = partial(struct_request, ffi, "V")
"""Encode the request number of one of V4L2's ioctls that takes a struct."""

VIDIOC_QUERYCAP = struct(READ, 0, "v4l2_capability")
VIDIOC_ENUM_FMT = struct(READ | WRITE, 2, "v4l2_fmtdesc")
VIDIOC_G_FMT = struct(READ | WRITE, 4, "v4l2_format")
VIDIOC_S_FMT = struct(READ | WRITE, 5, "v4l2_format")
VIDIOC_REQBUFS = struct(READ | WRITE, 8, "v4l2_requestbuffers")
VIDIOC_QBUF = struct(READ | WRITE, 15, "v4l2_buffer")
VIDIOC_EXPBUF = struct(READ | WRITE, 16, "v4l2_exportbuffer")
VIDIOC_DQBUF = struct(READ | WRITE, 17, "v4l2_buffer")
VIDIOC_STREAMON = request(WRITE, "V", 18, 4)
VIDIOC_STREAMOFF = request(WRITE, "V", 19, 4)
VIDIOC_ENUM_FRAMESIZES = struct(READ | WRITE, 74, "v4l2_frmsizeenum")
VIDIOC_ENUM_FRAMEINTERVALS = struct(READ | WRITE, 75, "v4l2_frmivalenum")
VIDIOC_CREATE_BUFS = struct(READ | WRITE, 92, "v4l2_create_buffers")
VIDIOC_G_SELECTION = struct(READ | WRITE, 94, "v4l2_selection")
VIDIOC_S_SELECTION = struct(READ | WRITE, 95, "v4l2_selection")

V4L2_CAP_VIDEO_CAPTURE = 0x00000001
V4L2_CAP_VIDEO_OUTPUT = 0x00000002
V4L2_CAP_VIDEO_CAPTURE_MPLANE = 0x00001000
V4L2_CAP_VIDEO_OUTPUT_MPLANE = 0x00002000
V4L2_CAP_VIDEO_M2M_MPLANE = 0x00004000
V4L2_CAP_VIDEO_M2M = 0x00008000
V4L2_CAP_STREAMING = 0x04000000
V4L2_CAP_IO_MC = 0x20000000
V4L2_CAP_DEVICE_CAPS = 0x80000000

V4L2_BUF_TYPE_VIDEO_CAPTURE = 1
V4L2_BUF_TYPE_VIDEO_OUTPUT = 2
V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE = 9
V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE = 10

V4L2_MEMORY_MMAP = 1
V4L2_MEMORY_USERPTR = 2
V4L2_MEMORY_DMABUF = 4
V4L2_BUF_CAP_SUPPORTS_MMAP = 1
V4L2_BUF_CAP_SUPPORTS_USERPTR = 2
V4L2_BUF_CAP_SUPPORTS_DMABUF = 4

V4L2_BUF_FLAG_QUEUED = 0x00000002
V4L2_BUF_FLAG_DONE = 0x00000004
V4L2_BUF_FLAG_KEYFRAME = 0x00000008
V4L2_BUF_FLAG_PFRAME = 0x00000010
V4L2_BUF_FLAG_BFRAME = 0x00000020
V4L2_BUF_FLAG_ERROR = 0x00000040
V4L2_BUF_FLAG_LAST = 0x00100000

V4L2_FMT_FLAG_COMPRESSED = 1
V4L2_FMT_FLAG_EMULATED = 2
V4L2_FRMSIZE_TYPE_DISCRETE = 1
V4L2_FRMIVAL_TYPE_DISCRETE = 1
V4L2_PIX_FMT_PRIV_MAGIC = 0xFEEDCAFE
VIDEO_MAX_PLANES = 8
VIDEO_MAX_FRAME = 32

OUTPUTS = (V4L2_BUF_TYPE_VIDEO_OUTPUT, V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE)
_MULTI_PLANAR = (V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE, V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE)
_int = Struct("=i")


NOT_THERE = (errno.EINVAL, errno.ENOTTY, errno.ENODATA)
"""What the kernel says at the end of an enumeration, where there is none, and (ENODATA) where the
current input or output has none."""


def enumerated(fd: int, number: int, struct: Any, name: str) -> bool:
    """Fill the struct of an enumeration; False at its end, and where there is none."""
    try:
        call(fd, number, ffi.buffer(struct), name)
    except OSError as error:
        if error.errno in NOT_THERE:
            return False
        raise
    return True


class Capability(NamedTuple):
    """What VIDIOC_QUERYCAP tells of a node."""

    driver: str
    card: str
    bus_info: str
    device_caps: int


def querycap(fd: int) -> Capability:
    """Return who is behind a node and what it can do, the node itself rather than its driver."""
    data: Any = ffi.new("struct v4l2_capability *")
    call(fd, VIDIOC_QUERYCAP, ffi.buffer(data), "VIDIOC_QUERYCAP")
    own = data.capabilities & V4L2_CAP_DEVICE_CAPS
    caps = int(data.device_caps if own else data.capabilities)
    driver, card = text(ffi.buffer(data.driver)), text(ffi.buffer(data.card))
    return Capability(driver, card, text(ffi.buffer(data.bus_info)), caps)


def memory_types(fd: int, kind: int) -> int | None:
    """Return the V4L2_BUF_CAP_SUPPORTS bits of a queue; None if that can't be told while in use.

    VIDIOC_REQBUFS of no buffers tells them, and frees the caller's; while others have some it is
    refused, and VIDIOC_CREATE_BUFS of none answers, by most drivers. Linux 4.20 has the bits.
    """
    for memory in (V4L2_MEMORY_MMAP, V4L2_MEMORY_DMABUF, V4L2_MEMORY_USERPTR):
        try:
            data = request_buffers(kind, memory, 0)
            reqbufs(fd, data)
            return int(data.capabilities)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return _memory_types_in_use(fd, kind, memory)
            if error.errno not in (errno.EINVAL, errno.ENOTTY):
                raise
    return 0


def _memory_types_in_use(fd: int, kind: int, memory: int) -> int | None:
    data: Any = ffi.new("struct v4l2_create_buffers *", {"memory": memory})
    data.format.type = kind
    try:
        call(fd, VIDIOC_CREATE_BUFS, ffi.buffer(data), "VIDIOC_CREATE_BUFS")
    except OSError:
        return None
    return int(data.capabilities)


class Description(NamedTuple):
    """A format that VIDIOC_ENUM_FMT lists."""

    pixelformat: int
    description: str
    flags: int


def enum_fmt(fd: int, kind: int) -> list[Description]:
    """Return the formats of a queue, the driver's favourite first."""
    found: list[Description] = []
    while True:
        data: Any = ffi.new("struct v4l2_fmtdesc *", {"index": len(found), "type": kind})
        if not enumerated(fd, VIDIOC_ENUM_FMT, data, "VIDIOC_ENUM_FMT"):
            return found
        found.append(Description(data.pixelformat, text(ffi.buffer(data.description)), data.flags))


def enum_framesizes(fd: int, pixelformat: int) -> list[tuple[int, int, int, int, int, int]]:
    """Return (min, max, step) of the width, then of the height, for each size or range of sizes."""
    found: list[tuple[int, int, int, int, int, int]] = []
    while True:
        about = {"index": len(found), "pixel_format": pixelformat}
        data: Any = ffi.new("struct v4l2_frmsizeenum *", about)
        if not enumerated(fd, VIDIOC_ENUM_FRAMESIZES, data, "VIDIOC_ENUM_FRAMESIZES"):
            return found
        if data.type == V4L2_FRMSIZE_TYPE_DISCRETE:
            width, height = data.rest[0], data.rest[1]
            found.append((width, width, 1, height, height, 1))
        else:
            sizes: Any = ffi.cast("struct v4l2_frmsize_stepwise *", data.rest)
            columns = (sizes.min_width, sizes.max_width, sizes.step_width)
            rows = (sizes.min_height, sizes.max_height, sizes.step_height)
            return [*found, (*columns, *rows)]


def enum_frameintervals(
    fd: int, pixelformat: int, width: int, height: int
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the least and the greatest time per frame, fractions in seconds, for each range."""
    found: list[tuple[tuple[int, int], tuple[int, int]]] = []
    while True:
        about = {"index": len(found), "pixel_format": pixelformat, "width": width, "height": height}
        data: Any = ffi.new("struct v4l2_frmivalenum *", about)
        if not enumerated(fd, VIDIOC_ENUM_FRAMEINTERVALS, data, "VIDIOC_ENUM_FRAMEINTERVALS"):
            return found
        first, last = ((time.numerator, time.denominator) for time in data.rest[0:2])
        if data.type != V4L2_FRMIVAL_TYPE_DISCRETE:
            return [*found, (first, last)]
        found.append((first, first))


def selection(
    fd: int, kind: int, target: int, rectangle: tuple[int, int, int, int] | None = None
) -> tuple[int, int, int, int]:
    """Return a queue's (left, top, width, height) of a target, after setting it if one is given."""
    single = {V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE: V4L2_BUF_TYPE_VIDEO_CAPTURE}
    single |= {V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE: V4L2_BUF_TYPE_VIDEO_OUTPUT}
    about = {"type": single.get(kind, kind), "target": target, "r": rectangle or ()}
    data: Any = ffi.new("struct v4l2_selection *", about)
    if rectangle is None:
        call(fd, VIDIOC_G_SELECTION, ffi.buffer(data), "VIDIOC_G_SELECTION")
    else:
        call(fd, VIDIOC_S_SELECTION, ffi.buffer(data), "VIDIOC_S_SELECTION")
    return data.r.left, data.r.top, data.r.width, data.r.height


class PixFormat(NamedTuple):
    """A struct v4l2_format; (sizeimage, bytesperline) of each buffer of a frame."""

    width: int
    height: int
    pixelformat: int
    field: int
    colorspace: int
    ycbcr_enc: int
    quantization: int
    xfer_func: int
    planes: tuple[tuple[int, int], ...]


def g_fmt(fd: int, kind: int) -> PixFormat:
    """Return a queue's format."""
    data: Any = ffi.new("struct v4l2_format *", {"type": kind})
    call(fd, VIDIOC_G_FMT, ffi.buffer(data), "VIDIOC_G_FMT")
    return _pix_format(data)


def s_fmt(fd: int, kind: int, pixelformat: int, width: int, height: int) -> PixFormat:
    """Ask for a format, without padding, and return what the driver made of it."""
    data: Any = ffi.new("struct v4l2_format *", {"type": kind})
    pix = data.fmt.pix_mp if kind in _MULTI_PLANAR else data.fmt.pix
    pix.width, pix.height, pix.pixelformat = width, height, pixelformat
    if kind not in _MULTI_PLANAR:
        pix.priv = V4L2_PIX_FMT_PRIV_MAGIC
    call(fd, VIDIOC_S_FMT, ffi.buffer(data), "VIDIOC_S_FMT")
    return _pix_format(data)


def _pix_format(data: Any) -> PixFormat:
    planes: tuple[tuple[int, int], ...]
    if data.type in _MULTI_PLANAR:
        pix = data.fmt.pix_mp
        used = pix.plane_fmt[0 : pix.num_planes]
        planes = tuple((plane.sizeimage, plane.bytesperline) for plane in used)
    else:
        pix = data.fmt.pix
        planes = ((pix.sizeimage, pix.bytesperline),)
    return PixFormat(
        pix.width,
        pix.height,
        pix.pixelformat,
        pix.field,
        pix.colorspace,
        pix.ycbcr_enc,
        pix.quantization,
        pix.xfer_func,
        planes,
    )


def request_buffers(kind: int, memory: int, count: int) -> Any:
    """Return a struct v4l2_requestbuffers for `reqbufs`, in which the kernel answers."""
    about = {"count": count, "type": kind, "memory": memory}
    return ffi.new("struct v4l2_requestbuffers *", about)


def reqbufs(fd: int, data: Any) -> None:
    """Make buffers, or free them for a count of 0; `.count` and `.capabilities` are the answer."""
    call(fd, VIDIOC_REQBUFS, ffi.buffer(data), "VIDIOC_REQBUFS")


def expbuf(fd: int, kind: int, index: int, plane: int, made: list[int]) -> None:
    """Add to a list a descriptor, for reading and writing, of a buffer of the device's own."""
    flags = os.O_CLOEXEC | os.O_RDWR
    about = {"type": kind, "index": index, "plane": plane, "flags": flags}
    data: Any = ffi.new("struct v4l2_exportbuffer *", about)
    make(
        fd,
        VIDIOC_EXPBUF,
        ffi.buffer(data),
        "VIDIOC_EXPBUF",
        made,
        at=ffi.offsetof("struct v4l2_exportbuffer", "fd"),
    )


class BufferStruct:
    """A struct v4l2_buffer and, of a multi-planar queue, its planes.

    The kernel writes into `data` what it has done, so that this is known although a signal handler
    raised before the call returned: QBUF sets one of `QBUF_DONE` in its flags, DQBUF its index.
    """

    __slots__ = ("_contents", "argument", "data", "planes")

    def __init__(self, kind: int, memory: int, index: int, planes: int) -> None:
        data: Any = ffi.new(_BUFFER)
        parts: Any = None
        data.index, data.type, data.memory = index, kind, memory
        if kind in _MULTI_PLANAR:
            parts = ffi.new(_PLANES, planes)
            data.length, data.m.planes = planes, parts
        self.data = data
        self.planes = parts
        self.argument = ffi.buffer(data)
        """What ioctl(2) takes."""
        self._contents = b"", b""

    def keep(self) -> None:
        """Keep the contents for `renew`."""
        parts = b"" if self.planes is None else bytes(ffi.buffer(self.planes))
        self._contents = bytes(self.argument), parts

    def renew(self) -> None:
        """Have again the contents that were kept."""
        self.argument[:], parts = self._contents
        if parts:
            ffi.buffer(self.planes)[:] = parts

    def fill(self, bytes_used: Sequence[int], timestamp: float) -> None:
        """Say how many bytes of each plane an output is to take, and their time in seconds."""
        data = self.data
        if timestamp:
            time = divmod(round(timestamp * 1e6), 1_000_000)
            data.timestamp.tv_sec, data.timestamp.tv_usec = time
        for part, used in zip(self.planes or (data,), bytes_used, strict=True):
            part.bytesused = used

    @property
    def flags(self) -> int:
        """The V4L2_BUF_FLAG bits."""
        return int(self.data.flags)

    @property
    def sequence(self) -> int:
        """The driver's frame counter."""
        return int(self.data.sequence)

    @property
    def timestamp(self) -> float:
        """The time of the frame in seconds."""
        time = self.data.timestamp
        return float(time.tv_sec + time.tv_usec / 1e6)

    @property
    def bytes_used(self) -> tuple[int, ...]:
        """The end of the data in each plane."""
        if self.planes is None:
            return (self.data.bytesused,)
        return tuple(part.bytesused for part in self.planes[0 : self.data.length])

    @property
    def offsets(self) -> tuple[int, ...]:
        """The beginning of the data in each plane."""
        if self.planes is None:
            return (0,)
        return tuple(part.data_offset for part in self.planes[0 : self.data.length])


_BUFFER, _PLANES = ffi.typeof("struct v4l2_buffer *"), ffi.typeof("struct v4l2_plane[]")
QBUF_DONE = V4L2_BUF_FLAG_QUEUED | V4L2_BUF_FLAG_DONE
NOT_DEQUEUED = 0xFFFFFFFF
"""The index in a struct v4l2_buffer before VIDIOC_DQBUF."""


def full_buffer(
    kind: int, memory: int, index: int, planes: Sequence[tuple[int, int]]
) -> BufferStruct:
    """Return what `qbuf` takes: (fd, length) of each plane."""
    buffer = BufferStruct(kind, memory, index, len(planes))
    for part, plane in zip(buffer.planes or (buffer.data,), planes, strict=True):
        number, part.length = plane
        if memory == V4L2_MEMORY_DMABUF:
            part.m.fd = number
    buffer.keep()
    return buffer


def empty_buffer(kind: int, memory: int) -> BufferStruct:
    """Return what `dqbuf` takes."""
    return BufferStruct(kind, memory, NOT_DEQUEUED, VIDEO_MAX_PLANES)


def qbuf(fd: int, buffer: BufferStruct) -> None:
    """Queue a buffer. `renew` it before, and `fill` that of an output."""
    call(fd, VIDIOC_QBUF, buffer.argument, "VIDIOC_QBUF")


def dqbuf(fd: int, buffer: BufferStruct) -> None:
    """Take a buffer that the device is done with; its index stays as it was if there is none yet.

    The error that says so goes no further: each caller that it passes takes as long as a call.
    """
    try:
        call(fd, VIDIOC_DQBUF, buffer.argument, "VIDIOC_DQBUF", nonblocking=True)
    except BlockingIOError as error:
        if error.errno is None:  # a signal handler's
            raise


def streamon(fd: int, kind: int) -> None:
    """Start the device on what is queued."""
    call(fd, VIDIOC_STREAMON, _int.pack(kind), "VIDIOC_STREAMON")


def streamoff(fd: int, kind: int) -> None:
    """Stop the device; every buffer is the caller's again."""
    call(fd, VIDIOC_STREAMOFF, _int.pack(kind), "VIDIOC_STREAMOFF")
