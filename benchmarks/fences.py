"""Fences against C: latency, awaiting many, merging. On vgem; writes fences.json."""

import asyncio
import resource
import struct
import subprocess
import time
from pathlib import Path

from compare import Rows, compiled, keep_best, report, run_c

import dmabuf
from dmabuf import Access, Fence
from dmabuf.devices.drm import Vgem

REPEATS = 5
ROUNDS = 60
COUNTS = (10, 100, 1000, 10_000)
MERGED = 1000


def latency(program: Path) -> dict[str, float]:
    """From a signal of another process to the return of `wait`."""
    best: dict[str, float] = {}
    with Vgem() as vgem, dmabuf.allocate(4096) as buffer, vgem.import_buffer(buffer) as gem:
        number = vgem.fileno()
        words = [str(program), "signal", str(number)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(words, pass_fds=[number], bufsize=0, **pipes) as signaller:
            for _ in range(REPEATS):
                keep_best(best, "C", run_c(program, "latency", ROUNDS))
                for _ in range(ROUNDS):
                    pending = vgem.attach_fence(gem, Access.WRITE)
                    with buffer.export_fence(Access.READ) as fence:
                        signaller.stdin.write(struct.pack("I", pending.handle))
                        fence.wait()
                        woken = time.monotonic_ns()
                    then = struct.unpack("Q", signaller.stdout.read(8))[0]
                    keep_best(best, "dmabuf", woken - then)
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


def awaiting(program: Path, count: int) -> dict[str, float]:
    """Wait for many fences at once; nanoseconds for each."""
    best: dict[str, float] = {}

    async def everything(way, fences, pending) -> float:
        start = time.perf_counter_ns()
        tasks = [asyncio.ensure_future(way(fence)) for fence in fences]
        await asyncio.sleep(0)
        try:
            pending.signal()
        except TimeoutError:  # vgem's fences expire after 10 s, and so does this measurement
            return float("inf")
        finally:
            await asyncio.gather(*tasks)
        return (time.perf_counter_ns() - start) / count

    with Vgem() as vgem, dmabuf.allocate(4096) as buffer, vgem.import_buffer(buffer) as gem:
        for _ in range(REPEATS if count < 5000 else 3):
            keep_best(best, "C with epoll", run_c(program, "epoll", count))
            for name, way in (("add_reader", bare), ("dmabuf", ours)):
                pending = vgem.attach_fence(gem, Access.WRITE)
                fences = [buffer.export_fence(Access.READ) for _ in range(count)]
                keep_best(best, name, asyncio.run(everything(way, fences, pending)))
                for fence in fences:
                    fence.close()
    return best


def merging(program: Path) -> dict[str, float]:
    """Merge 1,000 fences of as many timelines."""
    best: dict[str, float] = {}
    for _ in range(REPEATS):
        keep_best(best, "C", run_c(program, "merge", MERGED))
        with Vgem() as vgem:
            fences = []
            for _ in range(MERGED):
                with dmabuf.allocate(4096) as buffer, vgem.import_buffer(buffer) as gem:
                    vgem.attach_fence(gem, Access.WRITE)
                    fences.append(buffer.export_fence(Access.READ))
            start = time.perf_counter_ns()
            merged = fences[0].merge(*fences[1:])
            keep_best(best, "dmabuf", time.perf_counter_ns() - start)
            assert len(merged.info().points) == MERGED
            for fence in (merged, *fences):
                fence.close()
    return best


def main() -> None:
    """Measure, and print the ratios."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 16, 1 << 16))
    with compiled("fences") as program:
        rows: Rows = {"signal to wake-up": latency(program)}
        for count in COUNTS:
            rows[f"await {count:,} fences, each"] = awaiting(program, count)
        rows[f"merge {MERGED:,} fences"] = merging(program)
    report("fences", rows)


if __name__ == "__main__":
    main()
