"""A scan against C and lsof, over processes and descriptors. On the system heap; writes usage.json.

The C program reads the same files. Every figure is the best of a few rounds, the largest ones of
one: emulated, they take most of a minute.
"""

import contextlib
import gc
import os
import resource
import shutil
import signal
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from compare import Rows, compiled, keep_best, report, run_c

import dmabuf
from dmabuf import usage

ROUNDS = 3


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


def scans(
    program: Path, processes: int, descriptors: int, each: int, rounds: int
) -> dict[str, float]:
    """Return the best time of each way."""
    best: dict[str, float] = {}
    with machine(processes, descriptors, each):
        for _ in range(rounds):
            keep_best(best, "C", run_c(program, 1))
            gc.collect()
            start = time.perf_counter_ns()
            usage.scan(explain=False)
            keep_best(best, "dmabuf", time.perf_counter_ns() - start)
            if shutil.which("lsof"):
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
    """Return the processor's seconds that a look of a live view takes, the best of some."""
    with machine(processes, 10 * processes, 10):
        best: dict[str, float] = {}
        for _ in range(ROUNDS):
            start = time.process_time()
            usage.scan(explain=False)
            keep_best(best, "dmabuf", time.process_time() - start)
    return best["dmabuf"]


def slope(rows: Rows, first: str, last: str, factor: float) -> float:
    """Return how a time grows against what grew: 1 is linear."""
    return rows[last]["dmabuf"] / rows[first]["dmabuf"] / factor


def main() -> None:
    """Measure everything, and print the ratios."""
    limit = 120_000
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    rows: Rows = {}
    with compiled("usage") as program:
        for processes, descriptors, each, rounds in (
            (10, 100, 10, ROUNDS),
            (10, 1_000, 10, ROUNDS),
            (10, 10_000, 10, ROUNDS),
            (10, 100_000, 10, 1),
            (1, 10_000, 1, ROUNDS),
            (100, 10_000, 10, ROUNDS),
            (1_000, 10_000, 10, 1),
        ):
            title = f"{processes} processes, {descriptors} descriptors, {each} a buffer"
            rows[title] = scans(program, processes, descriptors, each, rounds)
            print(title, rows[title], flush=True)
    names = list(rows)
    report(
        "usage",
        rows,
        {
            "100,000 descriptors against ten times 10,000": slope(rows, names[2], names[3], 10),
            "1,000 processes against ten times 100": slope(rows, names[5], names[6], 10),
            "processor seconds of a look, 300 processes": tick(300),
            "bytes a descriptor, ten a buffer and process": memory(10, 10_000, 10),
            "bytes a descriptor, ten a buffer, one process": memory(1, 1_000, 10),
            "bytes a descriptor, a hundred a buffer, one process": memory(1, 1_000, 100),
            "bytes a descriptor, one a buffer, one process": memory(1, 1_000, 1),
        },
    )


if __name__ == "__main__":
    main()
