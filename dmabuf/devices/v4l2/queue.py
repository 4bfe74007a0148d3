"""What the two directions of a V4L2 device have in common: formats, sizes and frame rates."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TypeVar

from dmabuf._closing import Closing
from dmabuf.devices.v4l2 import _controls_ioctl
from dmabuf.devices.v4l2 import format as _format
from dmabuf.devices.v4l2._file import DeviceFile, Use
from dmabuf.devices.v4l2._ring import Ring
from dmabuf.devices.v4l2._source import Source, require_distinct, source_buffers
from dmabuf.devices.v4l2.format import Format, FormatInfo, FrameRate, FrameSize
from dmabuf.devices.v4l2.info import Memory
from dmabuf.devices.v4l2.selection import (
    Rectangle,
    SelectionTarget,
    read_selection,
    set_selection,
)
from dmabuf.errors import RefusedError
from dmabuf.image import PixelFormat

_Self = TypeVar("_Self", bound="Queue")


class Queue(Closing):
    """One direction of a device: a `Capture` or an `Output`."""

    __slots__ = ("_file", "_kind", "_owned")

    def __init__(self, file: DeviceFile, kind: int, *, owned: bool) -> None:
        """Stand for the queue of this V4L2_BUF_TYPE, which closes the file if that is its own."""
        self._file = file
        self._kind = kind
        self._owned = owned

    def format(self) -> Format:
        """Return the format that the driver has now; see `set_format`. Follows VIDIOC_G_FMT."""
        with Use(self._file, "read its format") as fd:
            return _format.read_format(fd, self._kind)

    def formats(self) -> list[FormatInfo]:
        """Return the pixel formats on offer, the driver's favourite first."""
        with Use(self._file, "list its formats") as fd:
            return _format.list_formats(fd, self._kind)

    def frame_sizes(self, format: str | int | PixelFormat) -> list[FrameSize]:
        """Return the frame sizes for a format; empty if the driver doesn't list them."""
        with Use(self._file, "list its frame sizes") as fd:
            return _format.list_sizes(fd, self._kind, format)

    def frame_rates(
        self, format: str | int | PixelFormat, width: int, height: int
    ) -> list[FrameRate]:
        """Return the frame rates for a format and size; empty if the driver doesn't list them.

        Follows VIDIOC_ENUM_FRAMEINTERVALS.
        """
        with Use(self._file, "list its frame rates") as fd:
            return _format.list_rates(fd, self._kind, format, width, height)

    def selection(self, target: SelectionTarget) -> Rectangle:
        """Return a rectangle: what is cut out of the picture, or where it is put.

        OSError: EINVAL if the queue has no such rectangle, ENOTTY if it has none. Follows
        VIDIOC_G_SELECTION.
        """
        return read_selection(self._file, self._kind, target)

    def set_selection(
        self, target: SelectionTarget, rectangle: tuple[int, int, int, int]
    ) -> Rectangle:
        """Ask for a rectangle, and return what the driver made of it. It may change the format.

        OSError: EINVAL if the queue has no such rectangle, EBUSY during a stream. ValueError for
        numbers that 32 bits don't hold. Follows VIDIOC_S_SELECTION.
        """
        return set_selection(self._file, self._kind, target, rectangle)

    def set_format(self, format: str | int | PixelFormat, width: int, height: int) -> Format:
        """Ask for a format, and return what the driver made of it: the size may differ.

        `format` is what `dmabuf.image.pixel_format` takes, or V4L2's code of any format, in or out
        of dmabuf's table: an int, or text as in `FormatInfo.fourcc` ("NM12", "MJPG", "Y16-BE").
        Where DRM means something else by a code (RG16), V4L2's meaning is taken. All planes in one
        buffer are preferred to one buffer per plane. RefusedError (EINVAL) if the device has no
        such format; OSError (EBUSY) during a stream; ValueError for a size that can't be. Follows
        VIDIOC_S_FMT.
        """
        with Use(self._file, "set its format") as fd:
            return _format.set_format(fd, self._kind, format, width, height)

    def frame_rate(self) -> float | None:
        """Return the frames per second; None if the driver doesn't say. Follows VIDIOC_G_PARM."""
        with Use(self._file, "read its frame rate") as fd:
            return _rate(*_controls_ioctl.g_parm(fd, self._kind))

    def set_frame_rate(self, rate: float) -> float | None:
        """Ask for so many frames per second, and return the nearest rate, which the driver took.

        None if the driver doesn't say. ValueError unless it is above 0, and 32 bits hold it and its
        inverse. Follows VIDIOC_S_PARM.
        """
        time = _format.time_per_frame(rate)
        with Use(self._file, "set its frame rate") as fd:
            made = _controls_ioctl.s_parm(fd, self._kind, time.numerator, time.denominator)
        return _rate(*made)

    def close(self) -> None:
        """Close the device, if this object has opened it. Idempotent."""
        if self._owned:
            self._file.close()

    def __enter__(self: _Self) -> _Self:
        self._file.fileno()  # ValueError if closed
        return self

    def __repr__(self) -> str:
        return f"<dmabuf.devices.v4l2.{type(self).__name__} of {self._file!r}>"

    def _ring(self, sources: Sequence[Source] | None, count: int) -> Ring:
        """Return the ring of a stream. RefusedError if it can't be on such buffers."""
        file = self._file
        there, wanted = file.info.memory, Memory.MMAP if sources is None else Memory.DMABUF
        if there and not there & wanted:
            remedy = "its own: stream(count=…)" if there & Memory.MMAP else "those of others"
            what = f"{file.path} takes no {wanted.name} buffers, but {remedy}"
            raise RefusedError(errno.EINVAL, what)
        format = self.format()
        buffers = None
        if sources is not None:
            count = len(sources)
            buffers = [source_buffers(source, format, file.path) for source in sources]
            require_distinct(buffers)
        return Ring(file, self._kind, format, buffers, count)


def _rate(numerator: int, denominator: int) -> float | None:
    """Return frames per second for the time of one, a fraction in seconds."""
    return denominator / numerator if numerator else None
