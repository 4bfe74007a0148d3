"""One direction of a V4L2 device: its formats, and the streams that run on them."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, TypeVar

from dmabuf.devices.v4l2 import _controls_ioctl
from dmabuf.devices.v4l2 import device as _device
from dmabuf.devices.v4l2 import format as _format
from dmabuf.devices.v4l2._output import OutputStream
from dmabuf.devices.v4l2._slot import Source
from dmabuf.devices.v4l2.device import Device, Memory
from dmabuf.devices.v4l2.format import Format, FormatInfo, FrameSize
from dmabuf.devices.v4l2.stream import Stream
from dmabuf.errors import RefusedError, os_error

if TYPE_CHECKING:
    from dmabuf.image import PixelFormat

_Self = TypeVar("_Self", bound="_Queue")


class _Queue:
    """One direction of a device."""

    __slots__ = ("_device", "_kind", "_owned")
    _what: ClassVar[str]
    _kinds: ClassVar[tuple[int, int]]

    def __init__(self, device: Device | str | os.PathLike[str]) -> None:
        """Open a node, and close it with this object; or share an open device, which stays open."""
        self._owned = not isinstance(device, Device)
        opened = device if isinstance(device, Device) else Device(device)
        if not getattr(opened.info, self._what):
            if self._owned:
                opened.close()
            what = f"{opened.path} ({opened.info.card}) has no {self._what} queue"
            raise os_error(errno.ENODEV, what)
        self._device = opened
        self._kind = self._kinds[opened.info.multi_planar]

    @property
    def device(self) -> Device:
        """The device that it belongs to."""
        return self._device

    @property
    def format(self) -> Format:
        """The format as the driver has it now; see `set_format`."""
        with self._device._use("read its format") as fd:
            return _format.current(fd, self._kind)

    def formats(self) -> list[FormatInfo]:
        """Return the pixel formats on offer, the driver's favourite first."""
        with self._device._use("list its formats") as fd:
            return _format.offered(fd, self._kind)

    def frame_sizes(self, format: str | int | PixelFormat) -> list[FrameSize]:
        """Return the sizes that go with a format; none if the driver doesn't list them."""
        with self._device._use("list its frame sizes") as fd:
            return _format.sizes(fd, self._kind, format)

    def set_format(self, format: str | int | PixelFormat, width: int, height: int) -> Format:
        """Ask for a format and return what the driver made of it: the size may be another.

        `format` is what `dmabuf.image.pixel_format` takes, or V4L2's code of any (an int, or text
        such as "NM12", "MJPG"). All planes in one buffer are preferred to one buffer each.
        RefusedError (EINVAL) if the device has no such format, EBUSY during a stream.
        """
        with self._device._use("set its format") as fd:
            return _format.negotiated(fd, self._kind, format, width, height)

    @property
    def frame_rate(self) -> float | None:
        """Frames a second; None if the driver doesn't say. May be set: the nearest is taken."""
        with self._device._use("read its frame rate") as fd:
            numerator, denominator = _controls_ioctl.g_parm(fd, self._kind)
        return denominator / numerator if numerator else None

    @frame_rate.setter
    def frame_rate(self, rate: float) -> None:
        from fractions import Fraction

        if not rate > 0:
            raise ValueError(f"a frame rate is above 0, not {rate}")
        time = 1 / Fraction(rate).limit_denominator(1001)
        with self._device._use("set its frame rate") as fd:
            _controls_ioctl.s_parm(fd, self._kind, time.numerator, time.denominator)

    def close(self) -> None:
        """Close the device, if this object has opened it. Idempotent."""
        if self._owned:
            self._device.close()

    def __enter__(self: _Self) -> _Self:
        self._device.fileno()  # ValueError if closed
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<dmabuf.devices.v4l2.{type(self).__name__} of {self._device!r}>"

    def _streamed(self, buffers: Sequence[Source] | None) -> Format:
        """Return the format of a stream; RefusedError if it can't be on such buffers."""
        there, wanted = self._device.info.memory, Memory.MMAP if buffers is None else Memory.DMABUF
        if there and not there & wanted:
            remedy = "its own: stream(count=…)" if there & Memory.MMAP else "those of others"
            what = f"{self._device.path} takes no {wanted.name} buffers, but {remedy}"
            raise RefusedError(errno.EINVAL, what)
        return self.format


class Capture(_Queue):
    """Frames that come from a device: `Capture(path)`, or `device.capture`. Thread-safe."""

    __slots__ = ()
    _what = "capture"
    _kinds = _device.CAPTURE

    def stream(self, buffers: Sequence[Source] | None = None, *, count: int = 4) -> Stream:
        """Return a stream of frames; the device is not touched before it is entered.

        On `buffers`, one (a buffer, or one a plane, or an Image) for each frame that may be under
        way, which stay the caller's; or on `count` of the device's own, which are exported. It may
        want more. RefusedError (EINVAL) for buffers smaller than `sizeimage`, too few of them, or
        of a kind that the device doesn't take.
        """
        return Stream(self._device, self._kind, self._streamed(buffers), buffers, count)


class Output(_Queue):
    """Frames that go to a device: `Output(path)`, or `device.output`. Thread-safe."""

    __slots__ = ()
    _what = "output"
    _kinds = _device.OUTPUT

    def stream(self, buffers: Sequence[Source] | None = None, *, count: int = 4) -> OutputStream:
        """Return a stream of frames to be filled; as `Capture.stream`."""
        return OutputStream(self._device, self._kind, self._streamed(buffers), buffers, count)
