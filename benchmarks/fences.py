"""Fences against C: latency, awaiting many, merging. On vgem; writes fences.json."""

import asyncio
import contextlib
import fcntl
import gc
import math
import os
import resource
import select
import statistics
import struct
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from compare import Rows, compiled, keep_best, report, run_c

import dmabuf
from dmabuf import Access, Fence
from dmabuf.devices.drm import Vgem

REPEATS = 5
ROUNDS = 60
COUNTS = {10: 100, 100: 30, 1000: 20, 10_000: 4}  # how many fences, and how often
MERGED = 1000
SYNC_IOC_MERGE = 0xC0303E03
MERGE = struct.Struct("=32siiII")


def latency(program: Path) -> dict[str, float]:
    """From a signal of another process to the return of `wait`: the best median of some rounds."""
    best: dict[str, float] = {}
    with dmabuf.allocate(4096) as buffer:
        words = [str(program), "signal", str(buffer.fileno())]
        with subprocess.Popen(
            words,
            pass_fds=[buffer.fileno()],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as signaller:
            for _ in range(REPEATS):
                keep_best(best, "C", run_c(program, "latency", ROUNDS))
                times = []
                for _ in range(ROUNDS):
                    signaller.stdin.write(b"x")
                    signaller.stdout.read(1)
                    with buffer.export_fence(Access.READ) as fence:
                        fence.wait()
                        woken = time.monotonic_ns()
                    times.append(woken - struct.unpack("Q", signaller.stdout.read(8))[0])
                keep_best(best, "dmabuf", statistics.median(times))
            signaller.stdin.close()
    return best


async def bare(fence: Fence) -> None:
    """Wait as one does without the package."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    number = fence.fileno()
    loop.add_reader(number, future.set_result, None)
    try:
        await future
    finally:
        loop.remove_reader(number)


async def ours(fence: Fence) -> None:
    """Wait."""
    await fence


Way = Callable[[Fence], Awaitable[None]]
WAYS: dict[str, Way] = {"add_reader": bare, "dmabuf": ours}


async def wake_all(way: Way, fences: list[Fence], signal: Callable[[], None]) -> int:
    """Return the processor time, in ns, in which tasks wait for all fences and are woken."""
    start = time.process_time_ns()
    tasks = [asyncio.ensure_future(way(fence)) for fence in fences]
    await asyncio.sleep(0)
    signal()
    await asyncio.gather(*tasks)
    return time.process_time_ns() - start


def awaiting(program: Path, count: int, repeats: int) -> dict[str, float]:
    """Wait for many fences at once; nanoseconds of processor time for each.

    All are exported from one buffer, each a sync_file of its own, and signalled at once. A
    measurement in which vgem's fence expires, after 10 s, counts for nothing.
    """
    best: dict[str, float] = {}
    with Vgem() as vgem, dmabuf.allocate(4096) as buffer, vgem.import_buffer(buffer) as gem:
        for repeat in range(repeats):
            if repeat < REPEATS:
                keep_best(best, "C with epoll", run_c(program, "epoll", count))
            for name, way in WAYS.items():
                pending = vgem.attach_fence(gem, Access.WRITE)
                fences = [buffer.export_fence(Access.READ) for _ in range(count)]
                gc.collect()  # or the garbage of one way is the other's cost
                with contextlib.suppress(TimeoutError):
                    spent = asyncio.run(wake_all(way, fences, pending.signal))
                    keep_best(best, name, spent / count)
                for fence in fences:
                    fence.close()
    return best


def waiting() -> dict[str, float]:
    """Wait for a fence that has signalled; nanoseconds."""
    best: dict[str, float] = {}
    with dmabuf.allocate(4096) as buffer, buffer.export_fence(Access.READ) as fence:
        number = fence.fileno()

        def bare_wait() -> None:
            poll = select.poll()
            poll.register(number, select.POLLIN)
            poll.poll()

        for _ in range(REPEATS * 20):
            for way, wait in (("poll", bare_wait), ("dmabuf", fence.wait)):
                start = time.perf_counter_ns()
                for _ in range(ROUNDS):
                    wait()
                keep_best(best, way, (time.perf_counter_ns() - start) / ROUNDS)
    return best


def merge_bare(numbers: list[int]) -> int:
    """Merge as one does without the package, as a tree."""
    if len(numbers) == 1:
        return os.dup(numbers[0])
    middle = len(numbers) // 2
    left, right = merge_bare(numbers[:middle]), merge_bare(numbers[middle:])
    data = bytearray(MERGE.pack(b"", right, -1, 0, 0))
    fcntl.ioctl(left, SYNC_IOC_MERGE, data)
    os.close(left)
    os.close(right)
    return int(MERGE.unpack(data)[2])


def merging(program: Path) -> dict[str, float]:
    """Merge 1,000 fences of as many timelines, in processor time; not if one expires meanwhile."""
    best: dict[str, float] = {}
    for _ in range(REPEATS):
        keep_best(best, "C", run_c(program, "merge", MERGED))
        with contextlib.ExitStack() as stack:
            vgem = stack.enter_context(Vgem())
            buffers = [stack.enter_context(dmabuf.allocate(4096)) for _ in range(MERGED)]
            gems = [stack.enter_context(vgem.import_buffer(buffer)) for buffer in buffers]
            for gem in gems:
                vgem.attach_fence(gem, Access.WRITE)
            fences = [stack.enter_context(buffer.export_fence(Access.READ)) for buffer in buffers]
            numbers = [fence.fileno() for fence in fences]
            start = time.process_time_ns()
            bare_number = merge_bare(numbers)
            middle = time.process_time_ns()
            merged = stack.enter_context(fences[0].merge(*fences[1:]))
            end = time.process_time_ns()
            os.close(bare_number)
            if len(merged.info().points) == MERGED and not any(fence.signaled for fence in fences):
                keep_best(best, "fcntl", middle - start)
                keep_best(best, "dmabuf", end - middle)
    return best


def main() -> None:
    """Measure, and print the ratios."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 16, 1 << 16))
    gc.freeze()  # what was imported is not walked in each measurement
    costs: dict[int, float] = {}
    with compiled("fences") as program:
        rows: Rows = {
            "signal to wake-up": latency(program),
            "wait, signalled": waiting(),
        }
        for count, repeats in COUNTS.items():
            best = rows[f"await {count:,} fences, each"] = awaiting(program, count, repeats)
            costs[count] = best.get("dmabuf", math.nan)
        rows[f"merge {MERGED:,} fences"] = merging(program)
    for row in [row for row, best in rows.items() if "dmabuf" not in best]:
        del rows[row]
        print(f"{row}: this machine is too slow, vgem's fences expire after 10 s")
    few, many = min(costs), max(costs)
    growth = costs[many] / costs[few]
    report("fences", rows, {f"one of {many:,} awaited against one of {few}": growth})


if __name__ == "__main__":
    main()
