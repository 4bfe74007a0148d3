"""A soak of speed: a camera's frames through image scopes, in a thread and in asyncio. On vivid.

    soak.py [FRAMES [SECONDS]]

Each way takes so many frames, or what fits into the seconds, at the camera's fastest rate, in ten
parts. What would grow or drift is told of each part: the blocks of memory that Python has, those of
the process, its descriptors, and the processor time of a frame. Fails if one has grown at the end.

Each part does a fixed work too, the same bare ioctls again and again, between its frames. A frame's
time is told as a multiple of that, so that a machine which gets slower itself is no drift.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy
from frames import find_camera
from today import bare_scope

import dmabuf
from dmabuf.devices import v4l2

FRAMES, SECONDS = 100_000, 150.0
PARTS, SLOTS = 10, 4
SIZE = (320, 180)
EVERY, FIXED = 10, 40  # a fixed work after so many frames, of so many pairs of ioctls
MOST_BLOCKS, MOST_BYTES, MOST_DRIFT = 100, 256 << 10, 1.15  # the parts have blocks too


class Part(NamedTuple):
    """What there was at the end of a part, and what a frame of it took."""

    frames: int
    blocks: int
    resident: int
    descriptors: int
    ns: float
    fixed_ns: float
    """What the fixed work of the part took, each time."""

    @property
    def relative(self) -> float:
        """A frame's time as a multiple of the fixed work's."""
        return self.ns / self.fixed_ns


def resident() -> int:
    """Return the bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


class Soak:
    """The parts of one run, which `count` is told of each frame."""

    def __init__(self, frames: int, seconds: float, fd: int) -> None:
        self.parts: list[Part] = []
        self._fd = fd
        self._most = frames // PARTS
        self._seconds = seconds / PARTS
        self._begin()

    def _begin(self) -> None:
        self._count = self._fixed = 0
        self._end = time.monotonic() + self._seconds
        self._spent = time.process_time_ns()

    def count(self, pixels: numpy.ndarray) -> bool:
        """Look at a frame; False after the last."""
        assert pixels[0, 0, 1] >= 0
        self._count += 1
        if self._count % EVERY == 0:
            self._do_fixed()
        if self._count < self._most and time.monotonic() < self._end:
            return True
        self._do_fixed()
        spent = (time.process_time_ns() - self._spent - self._fixed) / self._count
        fixed = self._fixed / (self._count // EVERY + 1)
        gc.collect()
        descriptors = len(os.listdir("/proc/self/fd"))
        part = Part(self._count, sys.getallocatedblocks(), resident(), descriptors, spent, fixed)
        self.parts.append(part)
        print(f"  {part} x{part.relative:.2f}", flush=True)
        self._begin()
        return len(self.parts) < PARTS

    def _do_fixed(self) -> None:
        start = time.process_time_ns()
        for _ in range(FIXED):
            bare_scope(self._fd)
        self._fixed += time.process_time_ns() - start


def in_a_thread(stream: v4l2.Stream, soak: Soak) -> None:
    """Take frames by `for`."""
    with stream as frames:
        for frame in frames:
            with frame, frame.image.read() as (pixels,):
                more = soak.count(pixels)
            del pixels
            if not more:
                return


def in_asyncio(stream: v4l2.Stream, soak: Soak) -> None:
    """Take frames by `async for`."""

    async def take() -> None:
        async with stream as frames:
            async for frame in frames:
                async with frame, frame.image.read() as (pixels,):
                    more = soak.count(pixels)
                del pixels
                if not more:
                    return

    asyncio.run(take())


def main(frames: int = FRAMES, seconds: float = SECONDS) -> None:
    """Soak both ways, and compare the end with the second part."""
    with v4l2.Capture(find_camera()) as camera, ExitStack() as stack:
        format = camera.set_format("YUYV", *SIZE)
        camera.set_frame_rate(1000)  # the highest that it has
        size = format.sizeimage[0]
        buffers = [stack.enter_context(dmabuf.allocate(size)) for _ in range(SLOTS)]
        still = stack.enter_context(dmabuf.allocate(4096))
        for way in (in_a_thread, in_asyncio):
            print(way.__name__)
            soak = Soak(frames, seconds, still.fileno())
            way(camera.stream(buffers), soak)
            first, last = soak.parts[1], soak.parts[-1]
            half = PARTS // 2
            early = median(part.relative for part in soak.parts[:half])
            late = median(part.relative for part in soak.parts[half:])
            print(f"{sum(part.frames for part in soak.parts)} frames, drift x{late / early:.3f}")
            assert last.blocks - first.blocks < MOST_BLOCKS, (first, last)
            assert last.resident - first.resident < MOST_BYTES, (first, last)
            assert last.descriptors == first.descriptors, (first, last)
            assert late < early * MOST_DRIFT, (early, late)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
