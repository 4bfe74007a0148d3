"""The core against C and against today's Python. On the system heap; writes core.json."""

import os
import resource
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy
import today
from compare import Rows, compiled, keep_best, report, run_c

import dmabuf

MIB = 1 << 20
REPEATS = 5
BATCHES = 10  # short ones, that other work on the machine seldom hits
BUFFERS = 10_000

Work = Callable[[], object]


def timed(work: Work, rounds: int) -> float:
    """Return nanoseconds a round."""
    start = time.perf_counter_ns()
    for _ in range(rounds):
        work()
    return (time.perf_counter_ns() - start) / rounds


def compare(ways: dict[str, Work], rounds: int, c: tuple[object, ...] = ()) -> dict[str, float]:
    """Return the best time of each way, C's first if it has one, measured in turns."""
    best: dict[str, float] = {}
    for _ in range(REPEATS):
        if c:
            keep_best(best, "C", run_c(*c))
        for _ in range(BATCHES):
            for way, work in ways.items():
                keep_best(best, way, timed(work, rounds))
    return best


def scopes(program: Path) -> Rows:
    """An empty write scope, and one that makes a numpy view."""
    rounds = 200
    c = (program, "scope", 4096, 20_000)
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
            "empty write scope": compare(empty, rounds, c),
            "write scope with a numpy view": compare(
                {"ctypes": ctypes_numpy, "dmabuf": ours_numpy}, rounds
            ),
        }


def views() -> Rows:
    """An image's scope, an array, and a buffer of a descriptor, against the least in Python."""
    rounds = 100
    with dmabuf.Heap("system") as heap, heap.allocate(640 * 480 * 2) as buffer:
        fd, memory = buffer.fileno(), buffer.memory
        image = dmabuf.Image(buffer, "YUYV", 640, 480)

        def ours_image() -> None:
            with image.write():
                pass

        def bare_array() -> None:
            numpy.frombuffer(memory, "u1", 1024).reshape(32, 32)

        def ours_array() -> None:
            buffer.array((32, 32))

        def ours_from_fd() -> None:
            dmabuf.Buffer.from_fd(fd).close()

        def ours_dup() -> None:
            buffer.dup().close()

        duplicate = {"bare": lambda: today.duplicate_close(fd), "dmabuf": ours_from_fd}
        return {
            "write scope of an image": compare(
                {"bare": lambda: today.bare_scope(fd), "dmabuf": ours_image}, rounds
            ),
            "array of 32 x 32": compare({"numpy": bare_array, "dmabuf": ours_array}, rounds),
            "from_fd + close": compare(duplicate, rounds),
            "dup + close": compare(duplicate | {"dmabuf": ours_dup}, rounds),
        }


def exporters() -> Rows:
    """`dmabuf.allocate`, which opens the heap, against a heap that is open."""
    with dmabuf.Heap("system") as heap:

        def opened() -> None:
            heap.allocate(4096).close()

        def ours() -> None:
            dmabuf.allocate(4096).close()

        return {"dmabuf.allocate, 4 KiB": compare({"Heap.allocate": opened, "dmabuf": ours}, 40)}


def allocations(program: Path) -> Rows:
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

            c = (program, "allocate", size, rounds * 10)
            ways = {"bare": bare, "dmabuf": ours}
            found[f"allocate + map + close, {title}"] = compare(ways, rounds, c)
    return found


def filling(program: Path) -> Rows:
    """Fill and sum 8 MiB, in a buffer and in an ordinary array."""
    size = 8 * MIB
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
                {"numpy": lambda: ordinary.fill(2), "dmabuf": ours_fill},
                1,
                (program, "fill", size, 10),
            ),
            "sum 8 MiB": compare(
                {"numpy": ordinary.sum, "dmabuf": ours_sum}, 1, (program, "sum", size, 10)
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
            blocks.append(min(timed(one, 50) for _ in range(BUFFERS // 500)))
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


def main() -> None:
    """Measure everything, and print the ratios."""
    with compiled("core") as program:
        rows = {
            **scopes(program),
            **views(),
            **exporters(),
            **allocations(program),
            **filling(program),
        }
    report("core", rows, many_buffers())


if __name__ == "__main__":
    main()
