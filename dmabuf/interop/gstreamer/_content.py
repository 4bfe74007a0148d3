"""What a buffer of a pipeline holds: dma-bufs, or plain memory; checked against the kernel."""

from __future__ import annotations

import os
import stat

from dmabuf import _libc
from dmabuf._fd import Descriptor, Hold
from dmabuf._scm import MessageError, Packet
from dmabuf.buffer import Buffer
from dmabuf.image import Image
from dmabuf.interop.gstreamer._caps import Picture
from dmabuf.interop.gstreamer._formats import default_placement
from dmabuf.interop.gstreamer._unixfd import BufferMessage, Memory

# include/uapi/linux/magic.h: what memfd_create(2) and shm_open(3) make.
_SHARED_MEMORY = (0x01021994, 0x958458F6)


class PlainMemory(Descriptor):
    """A memfd or a file of /dev/shm: read by pread(2), since its owner may shrink it any time."""

    __slots__ = ()

    def __init__(self, number: int) -> None:
        regular = stat.S_ISREG(os.fstat(number).st_mode)
        if not regular or _libc.filesystem_magic(number) not in _SHARED_MEMORY:
            raise ValueError(f"descriptor {number} is not shared memory")
        super().__init__(number)

    @property
    def size(self) -> int:
        """Its bytes now."""
        with Hold(self) as number:
            return os.fstat(number).st_size

    def read(self, memory: Memory) -> bytes:
        """Return a copy of a part. ValueError if it has shrunk."""
        with Hold(self) as number:
            data = bytearray()
            while len(data) < memory.size:
                part = os.pread(number, memory.size - len(data), memory.offset + len(data))
                if not part:
                    raise ValueError(f"the frame's memory has shrunk: {self!r}")
                data += part
        return bytes(data)


def adopt(message: BufferMessage, packet: Packet) -> list[Buffer | PlainMemory]:
    """Return the owners of a buffer's memories. MessageError if one isn't what it is said to be."""
    kind = Buffer if message.is_dma_buf else PlainMemory
    packet.adopt([kind] * len(message.memories))
    owners = packet.take()
    try:
        for owner, memory in zip(owners, message.memories, strict=True):
            if sum(memory) > owner.size:
                raise MessageError(
                    f"a buffer of {memory.size} bytes at {memory.offset},"
                    f" in memory of {owner.size} bytes"
                )
    except BaseException:
        for owner in owners:
            owner.close()
        raise
    return owners


def place_image(message: BufferMessage, buffers: list[Buffer], picture: Picture) -> Image:
    """Return a buffer's picture. ValueError if its planes aren't inside of its memories."""
    placed = default_placement(picture.format, picture.width, picture.height)
    strides, starts = placed.strides, placed.offsets
    if message.video is not None:
        strides, starts = message.video.strides, message.video.offsets
    if len(starts) != len(picture.format.planes):
        raise ValueError(f"{picture.format} has {len(picture.format.planes)} planes, not {starts}")
    places = [_place(start, message.memories) for start in starts]
    return Image(
        [buffers[index] for index, _ in places],
        picture.format,
        picture.width,
        picture.height,
        strides=strides,
        offsets=[offset for _, offset in places],
        modifier=picture.modifier,
        color_encoding=picture.color_encoding,
        color_range=picture.color_range,
    )


def _place(start: int, memories: tuple[Memory, ...]) -> tuple[int, int]:
    """Return in which memory a byte of a buffer is, and where in its descriptor."""
    for index, memory in enumerate(memories):
        if start < memory.size:
            return index, memory.offset + start
        start -= memory.size
    raise ValueError("a plane begins after the end of the frame's memory")
