#!/usr/bin/env python3
"""Use all of the package at once, for as long as asked, and prove that nothing is lost by it.

A camera's frames are published to subscribers that come, go, stall, fork and are killed; a display
flips, fences pend and signal, a pool's buffers go to another process and come back. At the end the
descriptors, the kernel's buffers and the memory of every process that lived on are what they were
when all of it had run for a moment. What this machine lacks is left out, and said.

    scripts/long_run.py [--seconds 3600] [--subscribers 10] [--faults]

With --faults the kernel fails one in a hundred of its allocations (CONFIG_FAILSLAB, root): errors
are expected then, each part begins anew where one ends it, and still nothing may be lost.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import multiprocessing
import os
import random
import re
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import numpy

import dmabuf
from dmabuf import Access, share
from dmabuf.devices import v4l2
from dmabuf.devices.kms import Display
from dmabuf.share import Publisher, Subscriber
from dmabuf.testing import open_source

BUFINFO = Path("/sys/kernel/debug/dma_buf/bufinfo")
FAILSLAB = Path("/sys/kernel/debug/failslab")
PERCENT = 1
WARM, TOLD = 10.0, 10.0  # seconds: before the first look, and between two lines
SIZE = 256 << 10
HELD = 1.0  # seconds after which who keeps a frame is disconnected
MOST_GROWTH = 1 << 20  # bytes of a process' own memory

Part = Iterator[None]
Processes = multiprocessing.get_context("forkserver")


class Look(NamedTuple):
    """What there is of this process and of the kernel's buffers."""

    descriptors: int
    buffers: int | None
    memory: int


def look() -> Look:
    """Count, after what is free was given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    kernel = None
    if os.access(BUFINFO, os.R_OK):
        total = re.search(r"Total (\d+) objects", BUFINFO.read_text(errors="replace"))
        kernel = int(total[1]) if total else None
    return Look(len(os.listdir("/proc/self/fd")), kernel, own_memory())


def own_memory() -> int:
    """Return the bytes of memory that are this process' alone."""
    status = Path("/proc/self/status").read_text()
    return sum(int(found) << 10 for found in re.findall(r"RssAnon:\s*(\d+) kB", status))


# The parts: each step of one is a `next()`, and its end gives back all that it has.


def camera(node: str, path: str) -> Part:
    """Publish a camera's frames."""
    with (
        v4l2.Capture(node) as device,
        Publisher(path, in_flight=12, hold_timeout=HELD) as publisher,
    ):
        device.set_format("YUYV", 320, 180)
        with device.stream(count=16) as frames:
            for frame in frames:
                publisher.publish(frame)
                yield


def display() -> Part:
    """Show two images by turns."""
    with contextlib.ExitStack() as stack:
        shows = stack.enter_context(Display())
        mode = shows.connector.modes[0]
        images = [
            stack.enter_context(dmabuf.Image.allocate("XRGB8888", *mode.size)) for _ in range(2)
        ]
        number = 0
        while True:
            number += 1
            image = images[number % 2]
            with image.write() as (pixels, *_):
                pixels[: pixels.shape[0] // 8] = number & 255
            shows.show(image).wait(10)
            yield


def fences() -> Part:
    """Have fences pend on a buffer, signal them, and merge them."""
    with open_source() as source, dmabuf.allocate(SIZE, name="soak") as buffer:
        while True:
            with contextlib.ExitStack() as stack:
                pending = source.many(2)
                merged = stack.enter_context(pending[0].fence & pending[1].fence)
                buffer.import_fence(merged, Access.WRITE)
                assert not buffer.is_idle(Access.READ)
                with buffer.export_fence(Access.READ) as exported:
                    for one in pending:
                        one.signal()
                        one.fence.close()
                    exported.wait(10)
                assert buffer.wait(Access.READ, 10)
            yield


def pool() -> Part:
    """Send a pool's buffers to another process, which writes into them, and see that it did."""
    with contextlib.ExitStack() as stack:
        ours, theirs = socket.socketpair()
        stack.enter_context(ours)
        with theirs:
            peer = Processes.Process(target=answer, args=(theirs,), daemon=True)
            peer.start()
        stack.callback(peer.join)
        stack.callback(ours.close)
        buffers = stack.enter_context(dmabuf.Pool(3, SIZE))
        while True:
            value = random.randrange(1, 255)
            with buffers.acquire(10) as buffer:
                with buffer.write() as memory:
                    numpy.frombuffer(memory, "u1")[:] = value
                share.send(ours, [buffer], b"%d" % value)
                assert ours.recv(1) == b"y", "the other process has read something else"
                with buffer.read() as memory:
                    assert (numpy.frombuffer(memory, "u1") == value + 1).all()
            yield


def answer(sock: socket.socket) -> None:
    """Add one to each byte of each buffer that comes, until the peer is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with sock, contextlib.suppress(EOFError, ConnectionResetError, BrokenPipeError):
        while True:
            with share.receive(sock) as received:
                (buffer,) = received.objects
                with buffer.read_write() as memory:
                    pixels = numpy.frombuffer(memory, "u1")
                    right = (pixels == int(received.message)).all()
                    pixels += 1
                    del pixels
            sock.sendall(b"y" if right else b"n")


# The subscribers.


def subscribe(path: str, ending: str, seconds: float) -> None:
    """Take frames for a time, and end in a way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    until = time.monotonic() + seconds
    with Subscriber(path, reconnect=True) as subscriber:
        while time.monotonic() < until:
            with contextlib.suppress(TimeoutError), subscriber.frame(1) as frame:
                with frame.image.read() as (pixels, *_):
                    assert pixels.shape[0] == 180
                if time.monotonic() > until:
                    end(ending)


def stay(path: str, seconds: float) -> None:
    """Subscribe for the whole time, and end with 1 if that has cost something."""
    warm = min(WARM, seconds / 2)
    subscribe(path, "leave", warm)
    before = look()
    subscribe(path, "leave", seconds - warm)
    report("the subscriber that stays", before, look())


def end(ending: str) -> None:
    """End with a frame in hand."""
    if ending == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif ending == "exit":
        os._exit(0)
    elif ending == "stall":
        time.sleep(2 * HELD)
    elif ending == "fork" and not os.fork():
        time.sleep(HELD / 2)
        os._exit(0)


class Crowd:
    """Subscribers: one that stays, and others that come and go in every way."""

    def __init__(self, path: str, count: int, until: float) -> None:
        self.ended: Counter[str] = Counter()
        self._path = path
        self._living: list[tuple[BaseProcess, str]] = []
        self._count = count
        self._begin("stay", stay, until - time.monotonic())

    def step(self) -> None:
        """Replace one that has ended."""
        for one in self._living[1:]:
            if not one[0].is_alive():
                self._bury(*one)
                self._living.remove(one)
        if len(self._living) < self._count:
            ending = random.choice(["leave", "exit", "kill", "stall", "fork"])
            self._begin(ending, subscribe, ending, random.uniform(1, 20))

    def end(self) -> None:
        """Wait for those that are left."""
        for one in self._living:
            self._bury(*one)

    def _begin(self, ending: str, work: Callable[..., None], *details: object) -> None:
        process = Processes.Process(target=work, args=(self._path, *details))
        process.start()
        self._living.append((process, ending))

    def _bury(self, process: BaseProcess, ending: str) -> None:
        process.join(60)
        wanted = -signal.SIGKILL if ending == "kill" else 0
        # One whose time was up between two frames has left as any.
        if process.exitcode not in (wanted, 0):
            raise SystemExit(f"a subscriber ({ending}) ended with {process.exitcode}")
        process.close()
        self.ended[ending] += 1


# All of it.


@contextlib.contextmanager
def failing(wanted: bool) -> Iterator[Callable[[bool], None]]:
    """Give what switches failures of this process' allocations on and off."""
    if not wanted:
        yield lambda on: None
        return
    if not FAILSLAB.is_dir():
        raise SystemExit("this kernel fails no allocations: CONFIG_FAILSLAB, and root, are needed")
    settings = {"probability": PERCENT, "interval": 1, "times": -1, "task-filter": "Y"}
    for name, value in {**settings, "verbose": 0, "ignore-gfp-wait": "N"}.items():
        (FAILSLAB / name).write_text(str(value))
    with open("/proc/self/make-it-fail", "r+b", buffering=0) as switch:
        try:
            yield lambda on: os.pwrite(switch.fileno(), b"1" if on else b"0", 0) and None
        finally:
            (FAILSLAB / "probability").write_text("0")


def found(path: str) -> dict[str, Callable[[], Part]]:
    """Return the parts that this machine has; says which it lacks."""
    parts: dict[str, Callable[[], Part]] = {"pool": pool}
    try:
        node = v4l2.Capture.find()
    except OSError as error:
        print(f"no camera, and so no subscribers: {error.strerror}")
    else:
        parts["camera"] = lambda: camera(node, path)
    for name, part, needed in (("display", display, Display), ("fences", fences, open_source)):
        try:
            needed().close()
        except OSError as error:
            print(f"no {name}: {error.strerror}")
        else:
            parts[name] = part
    return parts


def run(parts: dict[str, Callable[[], Part]], path: str, options: argparse.Namespace) -> None:
    """Take each part's next step by turns, until the time is over."""
    begun = told = time.monotonic()
    until = begun + options.seconds
    steps: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    living: dict[str, Part] = {}
    crowd = Crowd(path, options.subscribers, until) if "camera" in parts else None
    with failing(options.faults) as fail:
        while (now := time.monotonic()) < until:
            for name, begin in parts.items():
                part = living.setdefault(name, begin())
                fail(True)
                try:
                    next(part)
                    steps[name] += 1
                except (OSError, MemoryError) as error:
                    if not options.faults:
                        raise
                    errors[f"{name}: {type(error).__name__}"] += 1
                    del living[name]
                finally:
                    fail(False)
            if crowd:
                crowd.step()
            if now > told + TOLD:
                told = now
                tell(now - begun, options.seconds, steps, errors, crowd)
    for part in living.values():
        part.close()  # type: ignore[attr-defined] # a generator
    if crowd:
        crowd.end()
    tell(time.monotonic() - begun, options.seconds, steps, errors, crowd)
    print()


def tell(
    seconds: float, of: float, steps: Counter[str], errors: Counter[str], crowd: Crowd | None
) -> None:
    """Print a line; over the one before on a terminal."""
    words = [f"{seconds:.0f} of {of:.0f} s"]
    words += [f"{name} {count}" for name, count in steps.items()]
    words += [f"{sum(crowd.ended.values())} subscribers gone"] if crowd else []
    words += [f"{error} {count}" for error, count in sorted(errors.items())]
    over = sys.stdout.isatty()
    print("\r\x1b[K" * over + ", ".join(words), end="" if over else "\n", flush=True)


def report(what: str, before: Look, after: Look) -> None:
    """Say what there was and is; ends this process with 1 if something was lost."""
    grown = after.memory - before.memory
    kernel = "unknown here" if after.buffers is None else f"{before.buffers} → {after.buffers}"
    print(
        f"{what}: descriptors {before.descriptors} → {after.descriptors}, the kernel's buffers"
        f" {kernel}, own memory {grown / 1024:+.0f} KiB",
        flush=True,
    )
    # Of the kernel's buffers one process knows nothing while others live.
    if after.descriptors != before.descriptors or grown > MOST_GROWTH:
        raise SystemExit(f"{what} has lost something")


def main() -> None:
    """Warm up, look, run, and look again."""
    parser = argparse.ArgumentParser(description="Use all of dmabuf at once, and lose nothing.")
    parser.add_argument("--seconds", type=float, default=3600, metavar="S", help="default: 3600")
    parser.add_argument("--subscribers", type=int, default=10, metavar="N", help="default: 10")
    parser.add_argument("--faults", action="store_true", help="let the kernel's allocations fail")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of all that is random")
    options = parser.parse_args()
    random.seed(options.seed)
    print(f"seed {options.seed}")
    Processes.set_forkserver_preload(["__main__"])
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/soak"
        parts = found(path)
        warm = argparse.Namespace(**{**vars(options), "seconds": WARM, "faults": False})
        run(parts, path, warm)
        before = look()
        run(parts, path, options)
        after = look()
    report("this process", before, after)
    if after.buffers != before.buffers:
        raise SystemExit("buffers are left in the kernel: dmabuf-alloc ps tells whose they are")


if __name__ == "__main__":
    main()
