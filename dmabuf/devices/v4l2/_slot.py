"""The places of a V4L2 queue, and the buffers that may stand there."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dmabuf.buffer import Buffer
from dmabuf.errors import RefusedError
from dmabuf.image import Image

if TYPE_CHECKING:
    from dmabuf.access import Access
    from dmabuf.devices.v4l2.format import Format
    from dmabuf.devices.v4l2.stream import Stream

Source = Buffer | Image | Sequence[Buffer]
"""What one frame is on: its buffer, one buffer a plane, or a picture of the stream's format."""


class Slot:
    """One of a queue's places, and the buffers that stand at it."""

    __slots__ = ("_image", "_offsets", "buffers", "place", "used")

    def __init__(self, place: int, buffers: tuple[Buffer, ...]) -> None:
        self.place = place
        self.buffers = buffers
        self.used = False  # by the device
        self._image: Image | None = None
        self._offsets: tuple[int, ...] = ()

    def replace(self, buffers: tuple[Buffer, ...]) -> None:
        """Have other buffers here."""
        self.buffers = buffers
        self.used = False
        self._image = None

    def image(self, stream: Stream, offsets: tuple[int, ...]) -> Image:
        """Return the picture, made once as long as its data begins at the same bytes."""
        picture = self._image
        if picture is None or self._offsets != offsets:
            picture = self._image = stream.format.image(self.buffers, offsets)
            self._offsets = offsets
        return picture

    def wait(self, access: Access) -> None:
        """Wait until the device may have the buffers."""
        for buffer in self.buffers:
            buffer.wait(access)

    async def ready(self, access: Access) -> None:
        """Wait in asyncio until the device may have the buffers."""
        for buffer in self.buffers:
            if not buffer.is_idle(access):
                await buffer.ready(access)


def checked(source: Source, format: Format, path: str) -> tuple[Buffer, ...]:
    """Return the buffers of a frame; RefusedError if they don't fit what a device streams."""
    buffers = _buffers(source)
    if isinstance(source, Image):
        _check_layout(source, format, path)
    needed = format.sizeimage
    if len(buffers) != len(needed):
        what = f"a frame of {format.fourcc} has {len(needed)} buffers, not {len(buffers)}"
        raise RefusedError(errno.EINVAL, what)
    for buffer, size in zip(buffers, needed, strict=True):
        if buffer.size < size:
            what = f"{path} wants buffers of {size} bytes (sizeimage), {buffer!r} is too small"
            raise RefusedError(errno.EINVAL, what)
    return buffers


def _buffers(source: Source) -> tuple[Buffer, ...]:
    if isinstance(source, Buffer):
        return (source,)
    buffers = source.buffers if isinstance(source, Image) else tuple(source)
    for buffer in buffers:
        if not isinstance(buffer, Buffer):
            kind = type(buffer).__name__
            raise TypeError(f"a frame is on a dmabuf.Buffer, one a plane, or an Image, not {kind}")
    return buffers


def _check_layout(picture: Image, format: Format, path: str) -> None:
    """Raise unless the device would put the picture's planes where they are."""
    wanted = format.image(picture.buffers, (0,) * len(picture.buffers))
    for have, want in zip(picture.planes, wanted.planes, strict=False):
        if have[1:] != want[1:] or picture.format is not wanted.format:
            what = f"{picture!r} with {have[1:]} is not what {path} streams"
            raise RefusedError(errno.EINVAL, f"{what}: {wanted!r} with {want[1:]}")
