"""The core against C and against today's Python, in one run on one kernel.

Every figure is the best of several interleaved repeats, and the ratio is what counts: the machine
is shared and perhaps emulated. Run by `make bench`; writes core.json into $DMABUF_VM_OUT if set.
"""

import json
import os
import resource
import subprocess
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy
import today
from rich.console import Console
from rich.table import Table

import dmabuf

HERE = Path(__file__).parent
MIB = 1 << 20
REPEATS = 7
BUFFERS = 10_000

Work = Callable[[], object]


def timed(work: Work, rounds: int) -> float:
    """Return nanoseconds a round."""
    start = time.perf_counter_ns()
    for _ in range(rounds):
        work()
    return (time.perf_counter_ns() - start) / rounds


def compare(c_command: list[str], ways: dict[str, Work], rounds: int) -> dict[str, float]:
    """Return the best time of each way, C first if it has one, measured in turns."""
    best: dict[str, float] = {}
    for _ in range(REPEATS):
        if c_command:
            figure = subprocess.run(c_command, check=True, capture_output=True, text=True)
            best["C"] = min(best.get("C", 1e18), float(figure.stdout))
        for way, work in ways.items():
            best[way] = min(best.get(way, 1e18), timed(work, rounds))
    return best


def scopes(baseline: Path) -> dict[str, dict[str, float]]:
    """An empty write scope, and one that makes a numpy view."""
    rounds = 2000
    c_command = [str(baseline), "scope", "4096", str(rounds * 10)]
    with dmabuf.Heap("system") as heap, heap.allocate(4096) as buffer:
        fd = buffer.fileno()
        memory = buffer.memory

        def ctypes_empty() -> None:
            with today.ctypes_scope(fd):
                pass

        def ours_empty() -> None:
            with buffer.write():
                pass

        def ctypes_numpy() -> None:
            with today.ctypes_scope(fd):
                numpy.frombuffer(memory, "u1")

        def ours_numpy() -> None:
            with buffer.write() as memory:
                numpy.frombuffer(memory, "u1")

        empty = {"bare": lambda: today.bare_scope(fd), "ctypes": ctypes_empty, "dmabuf": ours_empty}
        return {
            "empty write scope": compare(c_command, empty, rounds),
            "write scope with a numpy view": compare(
                [], {"ctypes": ctypes_numpy, "dmabuf": ours_numpy}, rounds
            ),
        }


def allocations(baseline: Path) -> dict[str, dict[str, float]]:
    """Allocate, map and close."""
    found = {}
    with dmabuf.Heap("system") as heap:
        fd = heap.fileno()
        for title, size, rounds in (
            ("4 KiB", 4096, 500),
            ("1 MiB", MIB, 40),
            ("8 MiB", 8 * MIB, 8),
        ):

            def ours(size: int = size) -> None:
                with heap.allocate(size) as buffer:
                    assert buffer.memory

            def bare(size: int = size) -> None:
                today.allocate_map_close(fd, size)

            c_command = [str(baseline), "allocate", str(size), str(rounds)]
            ways = {"bare": bare, "dmabuf": ours}
            found[f"allocate + map + close, {title}"] = compare(c_command, ways, rounds)
    return found


def filling(baseline: Path) -> dict[str, dict[str, float]]:
    """Fill and sum 8 MiB, in a buffer and in an ordinary array."""
    size, rounds = 8 * MIB, 10
    ordinary = numpy.ones(size // 8, "u8")
    with dmabuf.Heap("system") as heap, heap.allocate(size) as buffer:
        array = buffer.array(size // 8, "u8")
        array.fill(1)

        def ours_fill() -> None:
            with buffer.write():
                array.fill(2)

        def ours_sum() -> None:
            with buffer.read():
                array.sum()

        return {
            "fill 8 MiB": compare(
                [str(baseline), "fill", str(size), str(rounds)],
                {"numpy": lambda: ordinary.fill(2), "dmabuf": ours_fill},
                rounds,
            ),
            "sum 8 MiB": compare(
                [str(baseline), "sum", str(size), str(rounds)],
                {"numpy": ordinary.sum, "dmabuf": ours_sum},
                rounds,
            ),
        }


def many_buffers() -> dict[str, float]:
    """Open many buffers; return bytes and descriptors for each, and what the last ones cost."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (BUFFERS + 100, BUFFERS + 100))
    descriptors = len(os.listdir("/proc/self/fd"))
    blocks: list[float] = []
    with dmabuf.Heap("system") as heap:
        buffers: list[dmabuf.Buffer] = []

        def one() -> None:
            buffer = heap.allocate(4096)
            assert buffer.memory
            buffers.append(buffer)

        for _ in range(10):
            blocks.append(timed(one, BUFFERS // 10))
        opened = len(os.listdir("/proc/self/fd")) - descriptors - 1
        for buffer in buffers:
            buffer.close()
        buffers.clear()
        tracemalloc.start()
        for _ in range(1000):
            one()
        used = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        for buffer in buffers:
            buffer.close()
    return {
        "bytes of Python memory a mapped buffer": used / 1000,
        f"descriptors a mapped buffer, of {BUFFERS}": opened / BUFFERS,
        f"cost of the last 1,000 of {BUFFERS} against the first": blocks[-1] / blocks[0],
    }


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print each comparison with our ratio to every other way."""
    table = Table("", "best times", "dmabuf against", title=title)
    for name, best in rows.items():
        times = "  ".join(f"{way} {figure / 1000:,.1f} µs" for way, figure in best.items())
        others = [(way, figure) for way, figure in best.items() if way != "dmabuf"]
        ratios = "  ".join(f"{way} x{best['dmabuf'] / figure:.2f}" for way, figure in others)
        table.add_row(name, times, ratios)
    Console(width=130).print(table)


def main() -> None:
    """Measure everything that this machine can."""
    with tempfile.TemporaryDirectory() as folder:
        baseline = Path(folder) / "baseline"
        subprocess.run(["gcc", "-O2", "-o", baseline, HERE / "baseline.c"], check=True)
        rows = {**scopes(baseline), **allocations(baseline), **filling(baseline)}
    show(f"dmabuf {dmabuf.__version__} on Linux {os.uname().release}", rows)
    many = many_buffers()
    for name, figure in many.items():
        print(f"{name}: {figure:,.2f}")
    if "DMABUF_VM_OUT" in os.environ:
        text = json.dumps({"times_ns": rows, "many": many}, indent=1)
        Path(os.environ["DMABUF_VM_OUT"], "core.json").write_text(text)


if __name__ == "__main__":
    main()
