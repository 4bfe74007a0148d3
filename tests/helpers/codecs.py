"""vicodec, the kernel's own stateful codec: an encoder and a decoder without hardware."""

from __future__ import annotations

from typing import NamedTuple

import numpy

from dmabuf.devices import v4l2

WIDTH, HEIGHT = 640, 360
"""The least that vicodec takes."""
CODED_HEIGHT = 368
"""What vicodec makes of that: a multiple of 16."""
LARGER = 720, 400
CODED = "FWHT"
LOSS = 12
"""The most by which a decoded number differs from what was encoded, for pictures as these."""


class Packet(NamedTuple):
    """A coded picture."""

    data: bytes
    timestamp: float
    flags: v4l2.FrameFlag


def pictures(count: int, format: v4l2.Format) -> list[bytes]:
    """Return NV12 pictures, each a slope of another brightness and colour."""
    width, height = format.width, format.height
    across, down = numpy.linspace(40, 120, width), numpy.linspace(0, 60, height)[:, None]
    found = []
    for number in range(count):
        luma = (across + down + number * 10).astype("u1")
        chroma = numpy.full((height // 2, width), 100 + number * 10, "u1")
        found.append(luma.tobytes() + chroma.tobytes())
    return found


def encoded(
    count: int, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> tuple[list[bytes], list[Packet]]:
    """Return pictures, and what the encoder makes of them."""
    with v4l2.Encoder(v4l2.Encoder.find(CODED)) as encoder:
        given = pictures(count, encoder.set_format("NV12", *size, coded=CODED))
        with encoder.stream(count=2) as coding:
            return given, [packet(frame) for frame in coding.process(given)]


def packet(frame: v4l2.Frame) -> Packet:
    """Return what an encoder has made, and give the frame back."""
    with frame, frame.data as data:
        return Packet(bytes(data), frame.timestamp, frame.flags)


def differ(frame: v4l2.Frame, given: bytes) -> int:
    """Return by how much a decoded picture differs from what was encoded, and give the frame back.

    The rim that the codec adds below counts for nothing.
    """
    with frame, frame.image.read() as (luma, *chroma):
        height, width = luma.shape
        visible = HEIGHT if height == CODED_HEIGHT else height
        wanted = numpy.frombuffer(given, "u1").reshape(-1, width).astype(int)
        differences = [luma[:visible] - wanted[:visible]]
        differences += [plane[: visible // 2] - wanted[height, 0] for plane in chroma]
        return max(int(abs(difference).max()) for difference in differences)
