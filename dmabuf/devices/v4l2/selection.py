"""The rectangles of a V4L2 queue: the part of a picture that is cut out, and where it is put."""

from __future__ import annotations

from typing import NamedTuple

from dmabuf._checked import whole
from dmabuf._record import record
from dmabuf.devices.v4l2 import _ioctl
from dmabuf.devices.v4l2._enumeration import Enumeration
from dmabuf.devices.v4l2._file import DeviceFile, Use


class SelectionTarget(Enumeration):
    """The rectangle of a queue that is meant: V4L2_SEL_TGT.

        print(camera.selection(v4l2.SelectionTarget.CROP_BOUNDS))

    For a camera CROP is the part of the sensor that is used, and COMPOSE the part of the frame
    where it is put. For an output it is the reverse. For an encoder's output queue CROP is the part
    that is encoded; for a decoder's capture queue COMPOSE is the part to show.
    """

    CROP = 0x0000
    """The part of the source that is used."""
    CROP_DEFAULT = 0x0001
    """The driver's recommendation for CROP: the whole picture without its border."""
    CROP_BOUNDS = 0x0002
    """The limits of CROP."""
    NATIVE_SIZE = 0x0003
    """The size of the sensor, or of the screen."""
    COMPOSE = 0x0100
    """The part of the target where the source is put."""
    COMPOSE_DEFAULT = 0x0101
    """The driver's recommendation for COMPOSE."""
    COMPOSE_BOUNDS = 0x0102
    """The limits of COMPOSE."""
    COMPOSE_PADDED = 0x0103
    """COMPOSE with the border that the device writes around it."""


@record
class Rectangle(NamedTuple):
    """A part of a picture, in pixels, as `selection()` returns it.

        part = v4l2.Rectangle(0, 0, 320, 180)
        print(camera.set_selection(v4l2.SelectionTarget.CROP, part))

    Columns and rows count from the top left corner.
    """

    left: int
    """The first column."""
    top: int
    """The first row."""
    width: int
    """The number of columns."""
    height: int
    """The number of rows."""


def read_selection(file: DeviceFile, kind: int, target: SelectionTarget) -> Rectangle:
    """Return a rectangle of a queue."""
    with Use(file, f"read its selection {SelectionTarget(target).name}") as fd:
        return Rectangle(*_ioctl.selection(fd, kind, target))


def set_selection(
    file: DeviceFile, kind: int, target: SelectionTarget, rectangle: tuple[int, int, int, int]
) -> Rectangle:
    """Set a rectangle of a queue, and return what the driver made of it."""
    left, top, width, height = (whole(number, "a side of a rectangle") for number in rectangle)
    if not all(-1 << 31 <= number < 1 << 31 for number in (left, top)):
        raise ValueError(f"left and top of a rectangle must be 32-bit numbers, not {left}, {top}")
    if not all(0 <= number < 1 << 32 for number in (width, height)):
        raise ValueError(
            f"a rectangle must have 0 to {(1 << 32) - 1} columns and rows, not {rectangle}"
        )
    with Use(file, f"set its selection {SelectionTarget(target).name}") as fd:
        return Rectangle(*_ioctl.selection(fd, kind, target, (left, top, width, height)))
