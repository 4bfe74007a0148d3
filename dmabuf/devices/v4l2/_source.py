"""What the caller may put a frame on, checked against the format of the stream."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from itertools import chain

from dmabuf.buffer import Buffer
from dmabuf.devices.v4l2.format import Format
from dmabuf.errors import RefusedError
from dmabuf.image import Image

Source = Buffer | Image | Sequence[Buffer]
"""What one frame is on: its buffer, one buffer per plane, or an Image of the stream's format."""


def source_buffers(source: Source, format: Format, path: str) -> tuple[Buffer, ...]:
    """Return the buffers of a frame. RefusedError if they don't fit what a device streams."""
    buffers = _buffers(source)
    if isinstance(source, Image):
        _require_layout(source, format, path)
    needed = format.sizeimage
    if len(buffers) != len(needed):
        what = f"a frame of {format.fourcc} has {len(needed)} buffers, not {len(buffers)}"
        raise RefusedError(errno.EINVAL, what)
    for buffer, size in zip(buffers, needed, strict=True):
        if buffer.size < size:
            what = f"{path} needs buffers of {size} bytes (sizeimage); {buffer!r} is too small"
            raise RefusedError(errno.EINVAL, what)
    return buffers


def require_distinct(frames: Iterable[tuple[Buffer, ...]]) -> None:
    """Raise ValueError if the same memory is there twice: a buffer, or one and its duplicate."""
    seen: set[Buffer] = set()
    for buffer in chain.from_iterable(frames):
        if buffer in seen:
            raise ValueError(
                f"a stream has each buffer at one place only: {buffer!r}, or a duplicate of it, has"
                " one already"
            )
        seen.add(buffer)


def _buffers(source: Source) -> tuple[Buffer, ...]:
    if isinstance(source, Buffer):
        return (source,)
    buffers = source.buffers if isinstance(source, Image) else tuple(source)
    for buffer in buffers:
        if not isinstance(buffer, Buffer):
            kind = type(buffer).__name__
            what = f"a frame is on a dmabuf.Buffer, one per plane, or an Image, not on a {kind}"
            raise TypeError(what)
    return buffers


def _require_layout(image: Image, format: Format, path: str) -> None:
    """Raise unless the device would put the image's planes where they are."""
    wanted = format.image(image.buffers, (0,) * len(image.buffers))
    for have, want in zip(image.planes, wanted.planes, strict=False):
        if have[1:] != want[1:] or image.format is not wanted.format:
            raise RefusedError(
                errno.EINVAL,
                f"{image!r} is not what {path} streams, which is {wanted!r}; a plane has offset,"
                f" stride, width and height {have[1:]} and needs {want[1:]}",
            )
