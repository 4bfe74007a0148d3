"""A scan against C and lsof, over processes and descriptors. On the system heap; writes usage.json.

The C program reads the same files. Every figure is the best of some interleaved rounds, as many as
PATIENCE lets begin; C looks twice in each, since the first look fills the caches. All takes a few
minutes where it is emulated, and root, for 100,000 descriptors.
"""

import contextlib
import gc
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from compare import Rows, compiled, keep_best, report, run_c

import dmabuf
from dmabuf import usage

ROUNDS = 5
PATIENCE = 5.0  # seconds after which no round begins
LSOF_MOST = 10_000  # descriptors: with ten times as many it takes longer than all the rest
LOOKS = 5
TERMINAL = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}


@contextlib.contextmanager
def machine(processes: int, descriptors: int, each: int) -> Iterator[None]:
    """Have processes with so many descriptors in all, `each` descriptors a buffer."""
    a_process = max(descriptors // processes, 1)
    numbers: list[int] = []
    pids = []
    try:
        with dmabuf.Heap("system") as heap:
            while len(numbers) < a_process:
                numbers.append(heap.allocate(4096).detach())
                twins = min(each - 1, a_process - len(numbers))
                numbers += [os.dup(numbers[-1]) for _ in range(twins)]
        ready, done = os.pipe()
        for _ in range(processes - 1):
            pid = os.fork()
            if not pid:
                os.write(done, b"x")
                signal.pause()
            pids.append(pid)
            os.read(ready, 1)
        os.close(ready)
        os.close(done)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for number in numbers:
            os.close(number)


def lsof() -> float:
    """Return the nanoseconds in which lsof lists descriptors and mappings."""
    start = time.perf_counter_ns()
    subprocess.run(["lsof", "-nPlw", "-F", "pfDin"], stdout=subprocess.DEVNULL, check=False)
    return time.perf_counter_ns() - start


def scans(program: Path, processes: int, descriptors: int, each: int) -> dict[str, float]:
    """Return the best time of each way."""
    best: dict[str, float] = {}
    with machine(processes, descriptors, each):
        end = time.monotonic() + PATIENCE
        for number in range(ROUNDS):
            if number and time.monotonic() > end:
                break
            keep_best(best, "C", run_c(program, 2))
            gc.collect()
            start = time.perf_counter_ns()
            usage.scan(explain=False)
            keep_best(best, "dmabuf", time.perf_counter_ns() - start)
            if descriptors <= LSOF_MOST and shutil.which("lsof"):
                keep_best(best, "lsof", lsof())
    return best


def memory(processes: int, descriptors: int, each: int) -> float:
    """Return the bytes a descriptor that a scan keeps."""
    with machine(processes, descriptors, each):
        gc.collect()
        tracemalloc.start()
        scan = usage.scan(explain=False)
        gc.collect()
        used = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert sum(process.descriptors for process in scan.processes) == descriptors
    return used / descriptors


def tick(processes: int) -> float:
    """Return the processor's seconds of each look of `dmabuf-alloc top` after the first."""
    with machine(processes, 10 * processes, 10):
        return (top(1 + LOOKS) - top(1)) / LOOKS


def top(looks: int) -> float:
    """Return the processor's seconds that so many looks take on a terminal, with the start."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-m", "dmabuf", "top", "-d", "0.1", "--count", str(looks)]
    ours, terminal = pty.openpty()
    with subprocess.Popen(words, stdin=terminal, stdout=terminal, env=TERMINAL) as process:
        os.close(terminal)
        with contextlib.suppress(OSError):  # the end
            while os.read(ours, 65536):
                pass
    os.close(ours)
    assert process.returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def slope(rows: Rows, first: str, last: str, factor: float) -> float:
    """Return how a time grows against what grew: 1 is linear."""
    return rows[last]["dmabuf"] / rows[first]["dmabuf"] / factor


def main() -> None:
    """Measure everything, and print the ratios."""
    limit = 120_000
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    rows: Rows = {}
    with compiled("usage") as program:
        for processes, descriptors, each in (
            (10, 100, 10),
            (10, 1_000, 10),
            (10, 10_000, 10),
            (10, 100_000, 10),
            (1, 1_000, 1),
            (1, 10_000, 1),
            (100, 10_000, 10),
            (300, 3_000, 10),
            (1_000, 10_000, 10),
        ):
            title = f"{processes} processes, {descriptors} descriptors, {each} a buffer"
            rows[title] = scans(program, processes, descriptors, each)
            print(title, rows[title], flush=True)
    titles = list(rows)
    report(
        "usage",
        rows,
        {
            "100,000 descriptors against ten times 10,000": slope(rows, titles[2], titles[3], 10),
            "1,000 processes against ten times 100": slope(rows, titles[6], titles[8], 10),
            "processor seconds of a look of `top`, 300 processes": tick(300),
            "bytes a descriptor, ten a buffer and process": memory(10, 10_000, 10),
            "bytes a descriptor, ten a buffer, one process": memory(1, 1_000, 10),
            "bytes a descriptor, a hundred a buffer, one process": memory(1, 1_000, 100),
            "bytes a descriptor, one a buffer, one process": memory(1, 1_000, 1),
        },
    )


if __name__ == "__main__":
    main()
