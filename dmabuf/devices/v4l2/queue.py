"""What both directions of a V4L2 device have in common: formats, sizes and frame rates."""

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
        """Use the queue of this V4L2_BUF_TYPE. Close `file` at the end if `owned`."""
        self._file = file
        self._kind = kind
        self._owned = owned

    def format(self) -> Format:
        """Return the current format, which `set_format` sets. Follows VIDIOC_G_FMT."""
        with Use(self._file, "read its format") as fd:
            return _format.read_format(fd, self._kind)

    def formats(self) -> list[FormatInfo]:
        """Return the pixel formats that the queue supports, in the driver's order of preference.

        Follows VIDIOC_ENUM_FMT.
        """
        with Use(self._file, "list its formats") as fd:
            return _format.list_formats(fd, self._kind)

    def frame_sizes(self, format: str | int | PixelFormat) -> list[FrameSize]:
        """Return the frame sizes for a format; empty if the driver does not list them.

        Follows VIDIOC_ENUM_FRAMESIZES.
        """
        with Use(self._file, "list its frame sizes") as fd:
            return _format.list_sizes(fd, self._kind, format)

    def frame_rates(
        self, format: str | int | PixelFormat, width: int, height: int
    ) -> list[FrameRate]:
        """Return the frame rates for a format and size; empty if the driver does not list them.

        Follows VIDIOC_ENUM_FRAMEINTERVALS.
        """
        with Use(self._file, "list its frame rates") as fd:
            return _format.list_rates(fd, self._kind, format, width, height)

    def selection(self, target: SelectionTarget) -> Rectangle:
        """Return a rectangle: the part of the picture that is cut out, or the place for it.

        OSError: EINVAL if the queue does not have this rectangle, ENOTTY if the driver has no
        selections. Follows VIDIOC_G_SELECTION.
        """
        return read_selection(self._file, self._kind, target)

    def set_selection(
        self, target: SelectionTarget, rectangle: tuple[int, int, int, int]
    ) -> Rectangle:
        """Request a rectangle, and return the one that the driver set. This may change the format.

        `rectangle` is (left, top, width, height) in pixels. OSError: EINVAL if the queue does not
        have this rectangle, EBUSY while streaming. ValueError for numbers of more than 32 bits.
        Follows VIDIOC_S_SELECTION.
        """
        return set_selection(self._file, self._kind, target, rectangle)

    def set_format(self, format: str | int | PixelFormat, width: int, height: int) -> Format:
        """Request a format, and return the one that the driver set. Its size may differ.

        `format` is what `dmabuf.image.pixel_format` takes, or the V4L2 code of any format: an int,
        or text as in `FormatInfo.fourcc` ("NM12", "MJPG", "Y16-BE"). If DRM gives a code another
        meaning (RG16), V4L2's meaning counts. One buffer for all planes is preferred to one buffer
        per plane. `width` and `height` are in pixels.

        RefusedError (EINVAL) if the device has no such format, OSError (EBUSY) while streaming,
        ValueError for an invalid size. Follows VIDIOC_S_FMT.
        """
        with Use(self._file, "set its format") as fd:
            return _format.set_format(fd, self._kind, format, width, height)

    def frame_rate(self) -> float | None:
        """Return the frame rate in frames per second; None if the driver does not report it.

        Follows VIDIOC_G_PARM.
        """
        with Use(self._file, "read its frame rate") as fd:
            return _rate(*_controls_ioctl.g_parm(fd, self._kind))

    def set_frame_rate(self, rate: float) -> float | None:
        """Request a frame rate in frames per second, and return the one that the driver set.

        The driver chooses the nearest rate that it supports. None if it does not report it.
        ValueError unless `rate` is above 0, and 32 bits can hold the rate and its inverse. Follows
        VIDIOC_S_PARM.
        """
        time = _format.time_per_frame(rate)
        with Use(self._file, "set its frame rate") as fd:
            made = _controls_ioctl.s_parm(fd, self._kind, time.numerator, time.denominator)
        return _rate(*made)

    def close(self) -> None:
        """Close the device if this object has opened it. Does nothing the second time."""
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
