"""Stateful codecs: memory-to-memory devices that encode or decode pictures."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

from dmabuf.devices.v4l2 import _events_ioctl
from dmabuf.devices.v4l2._file import first
from dmabuf.devices.v4l2._source import Source
from dmabuf.devices.v4l2.coding import Coding, Results
from dmabuf.devices.v4l2.device import Device
from dmabuf.devices.v4l2.events import EventType
from dmabuf.devices.v4l2.format import Format
from dmabuf.devices.v4l2.queue import Queue
from dmabuf.devices.v4l2.selection import Rectangle, SelectionTarget
from dmabuf.devices.v4l2.stream import Stream
from dmabuf.errors import os_error
from dmabuf.image import PixelFormat

_STATELESS = {"S264", "S265", "MG2S", "VP8F", "VP9F", "AV1F", "SFWH"}
"""The formats of decoders that need a program to parse the data, and requests."""
_NO_SELECTION = (errno.EINVAL, errno.ENOTTY, errno.ENODATA)


class Codec(Device):
    """A memory-to-memory device that encodes or decodes. See `Encoder` and `Decoder`."""

    __slots__ = ()
    _what: ClassVar[str]
    _announces: ClassVar[bool]
    """Whether events tell what its results are."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a node.

        OSError, with the path, if that fails; ENODEV if it is not a codec of this kind.
        """
        super().__init__(path)
        try:
            if not (self.m2m and self._codes()):
                about = f"{self.path} ({self.info.card})"
                raise os_error(errno.ENODEV, f"{about} is not a stateful {self._what}; use find()")
        except BaseException:
            self.close()
            raise

    @classmethod
    def find(cls, coded: str | None = None) -> str:
        """Return the path of the first device of this kind and, if given, a coded format: "H264".

        Opens each V4L2 node and queries it. OSError if there is no such device: ENODEV, or the
        error of a node that this user may not open.
        """

        def fits(path: str) -> bool:
            with cls(path) as codec:
                return coded is None or coded in codec._codes()

        words = f"stateful {cls._what} here"
        return first(fits, words if coded is None else f"{words} for {coded}")

    @property
    def coded(self) -> Queue:
        """The queue of the coded frames."""
        raise NotImplementedError

    def _codes(self) -> list[str]:
        """Return the coded formats."""
        there = [about.fourcc for about in self.coded.formats() if about.compressed]
        return [code for code in there if code not in _STATELESS]

    def _stop(self, fd: int) -> None:
        """Tell the device to finish what it has."""
        raise NotImplementedError

    def stream(
        self,
        sources: Sequence[Source] | None = None,
        *,
        results: Results | None = None,
        count: int = 4,
    ) -> Coding:
        """Return the running codec, a `Coding`.

        It starts when it is entered, and touches no device before.

        `sources` are your own buffers for the frames to feed, as in `Output.stream()`. `results` is
        a function that returns your own buffers for the frames that come out, as `Capture.stream()`
        takes them. It is called with their `Format` as soon as that is known, and each time that it
        changes. Without them the device allocates `count` buffers each, or more.
        """
        sink = self.output.stream(sources, count=count)
        announcements = partial(self.events, EventType.SOURCE_CHANGE) if self._announces else None
        return Coding(self, sink, partial(self._results, results, count), self._stop, announcements)

    def _results(self, buffers: Results | None, count: int) -> Stream:
        """Return a stream of what it makes, with the format that this has now."""
        capture = self.capture
        made = None if buffers is None else buffers(capture.format())
        return capture.stream(made, count=count)


class Encoder(Codec):
    """A device that encodes: raw pictures go in; H264, VP8, JPEG or similar data comes out.

        with v4l2.Encoder("/dev/video0") as encoder:
            encoder.set_format("NV12", 640, 360, coded="H264")
            with encoder.stream() as coding:
                for frame in coding.process(pictures):
                    with frame, frame.data as data:
                        file.write(data)

    Settings such as the bit rate are controls: see `Device.set_control`. Thread-safe. Use it as a
    context manager, or call `close()`.
    """

    __slots__ = ()
    _what = "encoder"
    _announces = False

    @property
    def coded(self) -> Queue:
        """The queue of the coded frames."""
        return self.capture

    def set_format(
        self, format: str | int | PixelFormat, width: int, height: int, *, coded: str | int
    ) -> Format:
        """Set the format of the pictures and the coded format. Return the pictures' format as set.

        If the driver needs larger pictures, with a border, it encodes the part that was requested:
        see `visible()`. The errors are those of `Queue.set_format()`.
        """
        self.capture.set_format(coded, width, height)
        made = self.output.set_format(format, width, height)
        if (made.width, made.height) != (width, height):
            with _where_there_is_a_selection():
                part = (0, 0, width, height)
                self.output.set_selection(SelectionTarget.CROP, part)
        return made

    def visible(self) -> Rectangle:
        """Return the part of the pictures that is encoded. Follows VIDIOC_G_SELECTION."""
        return _visible(self.output, SelectionTarget.CROP)

    def _stop(self, fd: int) -> None:
        _events_ioctl.encoder_stop(fd)


class Decoder(Codec):
    """A device that decodes: H264, VP8, JPEG or similar data goes in; pictures come out.

        with v4l2.Decoder("/dev/video1") as decoder:
            decoder.set_format("H264", 1280, 720)
            with decoder.stream() as coding:
                for frame in coding.process(packets):
                    with frame:
                        frame.image.save("frame.png")

    Stateless decoders, which need a program to parse the data, are not supported. Thread-safe. Use
    it as a context manager, or call `close()`.
    """

    __slots__ = ()
    _what = "decoder"
    _announces = True

    @property
    def coded(self) -> Queue:
        """The queue of the coded frames."""
        return self.output

    def set_format(self, coded: str | int, width: int, height: int) -> Format:
        """Set the coded format, and the size of the largest picture to come, in pixels.

        The size decides how much data a buffer can hold. The actual size and format of the pictures
        come from the data: see `Coding.format`. The errors are those of `Queue.set_format()`.
        """
        return self.output.set_format(coded, width, height)

    def visible(self) -> Rectangle:
        """Return the part of the pictures to show, without the border that the coding adds.

        It is known once there is a picture. Follows VIDIOC_G_SELECTION.
        """
        return _visible(self.capture, SelectionTarget.COMPOSE)

    def _stop(self, fd: int) -> None:
        _events_ioctl.decoder_stop(fd)


def _visible(queue: Queue, target: SelectionTarget) -> Rectangle:
    with _where_there_is_a_selection():
        return queue.selection(target)
    format = queue.format()
    return Rectangle(0, 0, format.width, format.height)


@contextlib.contextmanager
def _where_there_is_a_selection() -> Iterator[None]:
    """Go on behind the block where the driver has no such selection."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SELECTION:
            raise
