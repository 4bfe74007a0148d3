"""A soak of speed: a camera's frames through image scopes, in a thread and in asyncio. On vivid.

    soak.py [--way for|async] [--frames N] [--seconds S]

Each way takes so many frames, or what fits into the seconds, at the camera's fastest rate, in ten
parts. What would grow or drift is told of each part: the blocks of memory that Python has, those of
the process, its descriptors, and the processor time of a frame, in user mode and in the kernel.
Fails if one has grown at the end.

Between its frames each part does a fixed work too, again and again: bare ioctls, and in asyncio a
plain sleep before each. A frame's time is told as a multiple of that, so that a machine which gets
slower itself, in what it computes or in how it wakes a process, is no drift.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
EVERY = 20  # frames, and then a fixed work of so many pairs of ioctls, or sleeps with one each
PAIRS, SLEEPS = 80, 10
NAP = 0.001
MOST_BLOCKS, MOST_BYTES, MOST_DRIFT = 100, 256 << 10, 1.15  # the parts have blocks too


class Spent(NamedTuple):
    """Processor time, in microseconds."""

    user: float
    kernel: float

    @property
    def whole(self) -> float:
        """Of both: exact, while its two pieces are what the kernel's clock has sampled."""
        return self.user + self.kernel

    def minus(self, other: Spent) -> Spent:
        """Return the time since then."""
        return Spent(self.user - other.user, self.kernel - other.kernel)

    def each(self, count: int) -> Spent:
        """Return the time of one."""
        return Spent(self.user / count, self.kernel / count)


class Part(NamedTuple):
    """What there was at the end of a part, and what a frame and a fixed work of it took."""

    frames: int
    blocks: int
    resident: int
    descriptors: int
    frame: Spent
    fixed: Spent

    @property
    def relative(self) -> float:
        """A frame's time as a multiple of the fixed work's."""
        return self.frame.whole / self.fixed.whole

    def __str__(self) -> str:
        times = "  ".join(
            f"{name} {took.user:.0f}+{took.kernel:.0f} us"
            for name, took in (("frame", self.frame), ("fixed", self.fixed))
        )
        memory = f"{self.blocks} blocks, {self.resident >> 10} KiB, {self.descriptors} descriptors"
        return f"{self.frames} frames  {times}  x{self.relative:.2f}  {memory}"


def spent() -> Spent:
    """Return what this process has taken so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Spent(usage.ru_utime * 1e6, usage.ru_stime * 1e6)


def resident() -> int:
    """Return the bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


class Soak:
    """The parts of one run, told of each frame."""

    def __init__(self, frames: int, seconds: float) -> None:
        self.parts: list[Part] = []
        self._most = frames // PARTS
        self._seconds = seconds / PARTS
        self._begin()

    def _begin(self) -> None:
        self._frames = self._works = 0
        self._fixed = Spent(0, 0)
        self._end = time.monotonic() + self._seconds
        self._start = spent()

    def look(self, pixels: numpy.ndarray) -> bool:
        """Look at a frame; whether a fixed work is due after it."""
        assert pixels[0, 0, 1] >= 0
        self._frames += 1
        return self._frames % EVERY == 0

    @contextmanager
    def fixed(self) -> Iterator[None]:
        """Count what is done in here as a fixed work."""
        start = spent()
        yield
        taken = spent().minus(start)
        self._fixed = Spent(self._fixed.user + taken.user, self._fixed.kernel + taken.kernel)
        self._works += 1

    def goes_on(self) -> bool:
        """Whether there are more frames to take, asked after a fixed work."""
        if self._frames < self._most and time.monotonic() < self._end:
            return True
        frame = spent().minus(self._start).minus(self._fixed).each(self._frames)
        gc.collect()
        descriptors = len(os.listdir("/proc/self/fd"))
        fixed = self._fixed.each(self._works)
        blocks = sys.getallocatedblocks()
        part = Part(self._frames, blocks, resident(), descriptors, frame, fixed)
        self.parts.append(part)
        print(f"  {part}", flush=True)
        self._begin()
        return len(self.parts) < PARTS

    def report(self) -> None:
        """Compare the last part with the second, and the halves; AssertionError if one grew."""
        first, last = self.parts[1], self.parts[-1]
        half = PARTS // 2
        early = median(part.relative for part in self.parts[:half])
        late = median(part.relative for part in self.parts[half:])
        print(f"{sum(part.frames for part in self.parts)} frames, drift x{late / early:.3f}")
        assert last.blocks - first.blocks < MOST_BLOCKS, (first, last)
        assert last.resident - first.resident < MOST_BYTES, (first, last)
        assert last.descriptors == first.descriptors, (first, last)
        assert late < early * MOST_DRIFT, (early, late)


def by_for(stream: v4l2.Stream, soak: Soak, fd: int) -> None:
    """Take frames by `for`."""
    with stream as frames:
        for frame in frames:
            with frame, frame.image.read() as (pixels,):
                due = soak.look(pixels)
            del pixels
            if due:
                with soak.fixed():
                    for _ in range(PAIRS):
                        bare_scope(fd)
                if not soak.goes_on():
                    return


def by_async_for(stream: v4l2.Stream, soak: Soak, fd: int) -> None:
    """Take frames by `async for`."""

    async def take() -> None:
        async with stream as frames:
            async for frame in frames:
                async with frame, frame.image.read() as (pixels,):
                    due = soak.look(pixels)
                del pixels
                if due:
                    with soak.fixed():
                        for _ in range(SLEEPS):
                            await asyncio.sleep(NAP)
                            bare_scope(fd)
                    if not soak.goes_on():
                        return

    asyncio.run(take())


WAYS = {"for": by_for, "async": by_async_for}


def main() -> None:
    """Soak by each way, or by the one that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--way", choices=WAYS, help="take frames this way alone")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of each way, at the most")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each way, at the most")
    wanted = parser.parse_args()
    with v4l2.Capture(find_camera()) as camera, ExitStack() as stack:
        format = camera.set_format("YUYV", *SIZE)
        camera.set_frame_rate(1000)  # the highest that it has
        size = format.sizeimage[0]
        buffers = [stack.enter_context(dmabuf.allocate(size)) for _ in range(SLOTS)]
        still = stack.enter_context(dmabuf.allocate(4096))
        for name in [wanted.way] if wanted.way else WAYS:
            print(f"by {name}")
            soak = Soak(wanted.frames, wanted.seconds)
            WAYS[name](camera.stream(buffers), soak, still.fileno())
            soak.report()


if __name__ == "__main__":
    main()
