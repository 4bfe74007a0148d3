"""A soak of speed: a camera's frames through image scopes, in a thread and in asyncio. On vivid.

    soak.py [--way for|async] [--frames N] [--seconds S]

Each way takes so many frames, or what fits into the seconds, at the camera's fastest rate, in ten
parts. What would grow or drift is told of each part: the blocks of memory that Python has, those of
the process, its descriptors, and the processor time of a frame, in user mode and in the kernel.
Fails if one has grown at the end.

After each part a new process takes a few frames of another camera the same way. A frame's time is
told as a multiple of that process's, which is too young to have drifted: so a machine that gets
slower itself is no drift.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy

import dmabuf
from dmabuf.devices import v4l2

FRAMES, SECONDS = 100_000, 150.0
PARTS, SLOTS = 10, 4
SIZE = (320, 180)
YOUNG = 500  # frames of a new process
MOST_BLOCKS, MOST_BYTES, MOST_DRIFT = 200, 256 << 10, 1.15  # the parts have blocks too


class Spent(NamedTuple):
    """Processor time, in microseconds."""

    user: float
    kernel: float

    @property
    def whole(self) -> float:
        """Of both: exact, while its two pieces are what the kernel's clock has sampled."""
        return self.user + self.kernel

    def __str__(self) -> str:
        return f"{self.user:.0f}+{self.kernel:.0f} us"


class Part(NamedTuple):
    """What there was at the end of a part, and what a frame took, of it and of a new process."""

    frames: int
    blocks: int
    resident: int
    descriptors: int
    frame: Spent
    young: Spent

    @property
    def relative(self) -> float:
        """A frame's time as a multiple of that in a new process."""
        return self.frame.whole / self.young.whole

    def __str__(self) -> str:
        memory = f"{self.blocks} blocks, {self.resident >> 10} KiB, {self.descriptors} descriptors"
        times = f"{self.frame} a frame, {self.young} in a new process, x{self.relative:.2f}"
        return f"{self.frames} frames: {times}; {memory}"


def resident() -> int:
    """Return the bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


class Count:
    """Of the frames that are taken, which it looks at."""

    def __init__(self, most: int, seconds: float, part_is_over: Callable[[int, Spent], bool]):
        self._most = most
        self._seconds = seconds
        self._part_is_over = part_is_over
        self._begin()

    def _begin(self) -> None:
        self._frames = 0
        self._end = time.monotonic() + self._seconds
        self._start = resource.getrusage(resource.RUSAGE_SELF)

    def wants_more(self, pixels: numpy.ndarray) -> bool:
        """Look at a frame; False after the last."""
        assert pixels[0, 0, 1] >= 0
        self._frames += 1
        if self._frames < self._most and time.monotonic() < self._end:
            return True
        now, count = resource.getrusage(resource.RUSAGE_SELF), self._frames
        user = (now.ru_utime - self._start.ru_utime) * 1e6 / count
        kernel = (now.ru_stime - self._start.ru_stime) * 1e6 / count
        more = self._part_is_over(count, Spent(user, kernel))
        self._begin()
        return more


def by_for(stream: v4l2.Stream, count: Count) -> None:
    """Take frames by `for`."""
    with stream as frames:
        for frame in frames:
            with frame, frame.image.read() as (pixels,):
                more = count.wants_more(pixels)
            del pixels
            if not more:
                return


def by_async_for(stream: v4l2.Stream, count: Count) -> None:
    """Take frames by `async for`."""

    async def take() -> None:
        async with stream as frames:
            async for frame in frames:
                async with frame, frame.image.read() as (pixels,):
                    more = count.wants_more(pixels)
                del pixels
                if not more:
                    return

    asyncio.run(take())


WAYS = {"for": by_for, "async": by_async_for}


def take(way: str, path: str, count: Count) -> None:
    """Take frames of a camera at its fastest rate."""
    with v4l2.Capture(path) as camera, ExitStack() as stack:
        format = camera.set_format("YUYV", *SIZE)
        camera.set_frame_rate(1000)  # the highest that it has
        size = format.sizeimage[0]
        buffers = [stack.enter_context(dmabuf.allocate(size)) for _ in range(SLOTS)]
        WAYS[way](camera.stream(buffers), count)


def be_young(way: str, path: str) -> None:
    """Print what a frame takes in this new process."""
    parts: list[Spent] = []

    def part_is_over(_frames: int, spent: Spent) -> bool:
        parts.append(spent)
        return len(parts) < 2  # the first warms

    take(way, path, Count(YOUNG, 60, part_is_over))
    print(*parts[1])


def measure_young(way: str, path: str) -> Spent:
    """Return what a frame takes in a new process."""
    words = [sys.executable, __file__, "--way", way, "--young", path]
    out = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Spent(*map(float, out.split()))


def soak(way: str, path: str, other: str, frames: int, seconds: float) -> None:
    """Take frames of one camera in parts, and compare; AssertionError if something has grown."""
    parts: list[Part] = []

    def part_is_over(frames: int, spent: Spent) -> bool:
        gc.collect()
        descriptors = len(os.listdir("/proc/self/fd"))
        young = measure_young(way, other)
        blocks = sys.getallocatedblocks()
        parts.append(Part(frames, blocks, resident(), descriptors, spent, young))
        print(f"  {parts[-1]}", flush=True)
        return len(parts) < PARTS

    print(f"by {way}", flush=True)
    take(way, path, Count(frames // PARTS, seconds / PARTS, part_is_over))
    first, last = parts[1], parts[-1]
    half = PARTS // 2
    early = median(part.relative for part in parts[:half])
    late = median(part.relative for part in parts[half:])
    print(f"{sum(part.frames for part in parts)} frames, drift x{late / early:.3f}")
    assert last.blocks - first.blocks < MOST_BLOCKS, (first, last)
    assert last.resident - first.resident < MOST_BYTES, (first, last)
    assert last.descriptors == first.descriptors, (first, last)
    assert late < early * MOST_DRIFT, (early, late)


def find_cameras() -> list[str]:
    """Return the nodes of the cameras."""
    nodes = map(v4l2.inspect, sorted(Path("/dev").glob("video*")))
    return [node.path for node in nodes if node.capture and not node.m2m]


def main() -> None:
    """Soak by each way, or by the one that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--way", choices=WAYS, help="take frames this way alone")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of each way, at the most")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each way, at the most")
    parser.add_argument("--young", metavar="CAMERA", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.young:
        be_young(wanted.way, wanted.young)
        return
    cameras = find_cameras()
    if len(cameras) < 2:
        parser.error("two cameras are needed, one for the new processes: modprobe vivid n_devs=2")
    path, other, *_ = cameras
    for way in [wanted.way] if wanted.way else WAYS:
        soak(way, path, other, wanted.frames, wanted.seconds)


if __name__ == "__main__":
    main()
