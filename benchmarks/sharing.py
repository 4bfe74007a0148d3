"""Hand-over and back of one buffer to one and to ten processes; writes sharing.json.

Every way ends with the producer knowing that all consumers have let go. They read one byte of it,
dmabuf and C inside of an access; GStreamer's unixfdsrc, fed by our Sink, reads nothing, and ten of
them live in one process. Copies are in the pickled queue alone. Where there is no unixfdsrc
(GStreamer 1.24), its way is left out: scripts/vm --userland media has it.
"""

import contextlib
import faulthandler
import itertools
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import shared_memory
from pathlib import Path
from typing import Protocol

from compare import Rows, compiled, keep_best, report, run_c
from disturbed import GOOD, Item, part_kept

import dmabuf
from dmabuf.interop import gstreamer
from dmabuf.share import Publisher, Subscriber

REPEATS = 12
ROUNDS = 8  # few, so that other work on the machine hits only some of the repeats
FEW = 2  # repeats of what starts programs or copies
COPIES, GSTREAMER = "pickled Queue", "GStreamer's unixfdsrc"
SIZES = {"4 KiB": 4096, "3 MB": 3 << 20, "12 MB": 12 << 20}
COUNTS = 1, 10
LONGEST = 400  # seconds, after which it says where it is and ends
BUFFERS = 4
context = multiprocessing.get_context("fork")
Turn = Callable[[], None]
Consumer = Callable[[int], None]


@contextlib.contextmanager
def processes(consumer: Consumer, count: int) -> Iterator[None]:
    """Run so many consumers, which end by themselves; where anything raises, with this process."""
    children = [
        context.Process(target=consumer, args=(number,), daemon=True) for number in range(count)
    ]
    for child in children:
        child.start()
    yield
    for child in children:
        child.join()


@contextlib.contextmanager
def published(size: int, count: int) -> Iterator[Turn]:
    """Publish, and serve until it has come back."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = f"{folder}/socket"

        def consume(_: int) -> None:
            with Subscriber(path, policy="every") as subscriber:
                for frame in subscriber:
                    with frame, frame.buffers[0].read() as memory:
                        memory[0]

        buffers = [stack.enter_context(dmabuf.allocate(size)) for _ in range(BUFFERS)]
        items = itertools.cycle([Item(buffer) for buffer in buffers])
        publisher = Publisher(path, keep_last=False)

        def turn() -> None:
            item = next(items)
            item.is_back = False
            publisher.publish(item)
            while not item.is_back:
                publisher.service(None)

        with processes(consume, count), publisher:
            while len(publisher.subscribers()) < count:
                publisher.service(None)
            yield turn


@contextlib.contextmanager
def pushed(size: int, count: int) -> Iterator[Turn]:
    """Push to pipelines of GStreamer, and serve until it has come back from all."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = f"{folder}/socket"
        buffers = [stack.enter_context(dmabuf.allocate(size)) for _ in range(BUFFERS)]
        items = itertools.cycle([Item(buffer) for buffer in buffers])
        branch = f"unixfdsrc socket-path={path} ! fakesink sync=false enable-last-sample=false"
        pipelines = ["gst-launch-1.0", "-q", *branch.split() * count]

        def turn() -> None:
            item = next(items)
            item.is_back = False
            sink.push(item, caps="application/octet-stream")
            while not item.is_back:
                sink.service(None)

        with gstreamer.Sink(path) as sink:
            stack.enter_context(subprocess.Popen(pipelines))
            while len(sink.clients()) < count:
                sink.service(None)
            yield turn
            sink.end()


class Channel(Protocol):
    """A queue of names; None ends its reader."""

    def put(self, name: str | None, /) -> None:
        """Send a name."""

    def get(self) -> str | None:
        """Return the next."""


@contextlib.contextmanager
def named(size: int, count: int, make: Callable[[], Channel]) -> Iterator[Turn]:
    """Send the names of shared_memory blocks, and wait for them to come back."""
    there = [make() for _ in range(count)]
    back = [make() for _ in range(count)]
    blocks = [shared_memory.SharedMemory(create=True, size=size) for _ in range(BUFFERS)]
    names = itertools.cycle([block.name for block in blocks])

    def consume(number: int) -> None:
        known: dict[str, shared_memory.SharedMemory] = {}
        while (name := there[number].get()) is not None:
            if name not in known:
                known[name] = shared_memory.SharedMemory(name)
            known[name].buf[0]
            back[number].put(name)
        for block in known.values():
            block.close()

    def turn() -> None:
        name = next(names)
        for queue in there:
            queue.put(name)
        for queue in back:
            queue.get()

    with processes(consume, count):
        yield turn
        for queue in there:
            queue.put(None)
    for block in blocks:
        block.close()
        block.unlink()


class Pipe:
    """A pipe that is used as a queue is."""

    def __init__(self) -> None:
        self._receiver, self._sender = context.Pipe(duplex=False)
        self.get = self._receiver.recv
        self.put = self._sender.send


@contextlib.contextmanager
def pickled(size: int, count: int) -> Iterator[Turn]:
    """Send the bytes themselves."""
    there = [context.Queue() for _ in range(count)]
    back = context.Queue()
    data = bytes(size)

    def consume(number: int) -> None:
        while (received := there[number].get()) is not None:
            received[0]
            back.put(number)

    def turn() -> None:
        for queue in there:
            queue.put(data)
        for _ in there:
            back.get()

    with processes(consume, count):
        yield turn
        for queue in there:
            queue.put(None)


Way = Callable[[int, int], contextlib.AbstractContextManager[Turn]]
WAYS: dict[str, Way] = {
    "dmabuf": published,
    "shared_memory, Queue": lambda size, count: named(size, count, context.Queue),
    "shared_memory, Pipe": lambda size, count: named(size, count, Pipe),
    COPIES: pickled,
    GSTREAMER: pushed,
}


def ways() -> dict[str, Way]:
    """Return the ways that this machine has."""
    asked = ["gst-inspect-1.0", "--exists", "unixfdsrc"]
    if shutil.which(asked[0]) is not None and not subprocess.call(asked):
        return WAYS
    return {name: way for name, way in WAYS.items() if name != GSTREAMER}


def measure(program: Path, size: int, count: int) -> dict[str, float]:
    """Return the best time of each way, in ns for one turn."""
    print(f"{size} bytes to {count} …", file=sys.stderr, flush=True)
    best: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        turns = {name: stack.enter_context(way(size, count)) for name, way in ways().items()}
        for name, turn in turns.items():
            for _ in range(1 if name == COPIES else BUFFERS):
                turn()
        for repeat in range(REPEATS):
            if repeat < FEW:
                keep_best(best, "C over seqpacket", run_c(program, size, count, FEW * ROUNDS))
            for name, turn in turns.items():
                if name == COPIES and repeat:
                    continue
                rounds = 1 if name == COPIES else ROUNDS
                start = time.perf_counter_ns()
                for _ in range(rounds):
                    turn()
                keep_best(best, name, (time.perf_counter_ns() - start) / rounds)
    return best


def main() -> None:
    """Measure, and print the ratios."""
    faulthandler.dump_traceback_later(LONGEST, exit=True)
    rows: Rows = {}
    flat: dict[str, float] = {}
    with compiled("sharing") as program:
        for count in COUNTS:
            those = {name: measure(program, size, count) for name, size in SIZES.items()}
            ours = [best["dmabuf"] for best in those.values()]
            flat[f"the slowest size against the fastest, to {count}"] = max(ours) / min(ours)
            rows |= {f"{name} to {count} and back": best for name, best in those.items()}
    print("good subscribers beside bad ones …", file=sys.stderr, flush=True)
    kept = {f"rate of {GOOD} good subscribers that is kept beside bad ones": part_kept()}
    report("sharing", rows, {**flat, **kept})


if __name__ == "__main__":
    main()
