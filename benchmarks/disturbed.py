"""What bad subscribers cost the good ones of one publisher: the part of their rate that is kept."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable

import dmabuf
from dmabuf.share import Publisher, Subscriber

GOOD = 9
FRAMES = 50
PACE = 0.04  # seconds from frame to frame: a camera's, and slow enough where it is emulated
BUFFERS = 12
context = multiprocessing.get_context("fork")
Consumer = Callable[[str], object]


class Item:
    """A buffer that comes back, as a camera's does."""

    def __init__(self, buffer: dmabuf.Buffer) -> None:
        self.buffers = (buffer,)
        self.is_back = True

    def queue(self) -> None:
        """Come back."""
        self.is_back = True


def stop(path: str) -> None:
    """Stop with a frame in its hands."""
    with Subscriber(path) as subscriber, subscriber.frame():
        os.kill(os.getpid(), signal.SIGSTOP)


def die(path: str) -> None:
    """Die with a frame in its hands."""
    with Subscriber(path) as subscriber, subscriber.frame():
        os.kill(os.getpid(), signal.SIGKILL)


def dawdle(path: str) -> None:
    """Keep each frame while others are published."""
    with Subscriber(path) as subscriber:
        for frame in subscriber:
            with frame:
                time.sleep(3 * PACE)


def hoard(path: str) -> None:
    """Keep every frame that comes, also when that is refused."""
    kept = []
    with Subscriber(path, depth=64, policy="queue") as subscriber, contextlib.suppress(OSError):
        while True:
            kept.append(subscriber.frame())


def fork(path: str) -> None:
    """Fork with a frame in its hands; the child lives as long as it does."""
    with Subscriber(path) as subscriber, subscriber.frame():
        parent = os.getpid()
        if not os.fork():
            while os.getppid() == parent:
                time.sleep(0.05)
            os._exit(0)
        signal.pause()


def send_garbage(path: str) -> None:
    """Send what is no message, and connect again."""
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with sock, contextlib.suppress(OSError):
            sock.connect(path)
            sock.send(bytes(range(64)))
        time.sleep(0.01)


BAD: tuple[Consumer, ...] = (stop, die, dawdle, hoard, fork, send_garbage)


def frames_of_the_worst(bad: tuple[Consumer, ...]) -> int:
    """Return how many frames the good one got that got the fewest."""
    counts = context.SimpleQueue()

    def count(path: str) -> None:
        number = 0
        try:
            with Subscriber(path) as subscriber:
                for frame in subscriber:
                    with frame, frame.buffers[0].read() as memory:
                        memory[0]
                    number += 1
        finally:  # also of one that was disconnected, since the machine was too busy for it
            counts.put(number)

    with contextlib.ExitStack() as stack:
        path = stack.enter_context(tempfile.TemporaryDirectory()) + "/socket"
        items = [Item(stack.enter_context(dmabuf.allocate(4096))) for _ in range(BUFFERS)]
        with Publisher(path, in_flight=len(BAD) + 2, keep_last=False, hold_timeout=1) as publisher:
            consumers = [count] * GOOD + list(bad)
            processes = [
                context.Process(target=one, args=(path,), daemon=True) for one in consumers
            ]
            for process in processes:
                process.start()
            joining = len(consumers) - (send_garbage in bad)
            while len(publisher.subscribers()) < joining:
                publisher.service(None)
            for _ in range(FRAMES):
                item = next(item for item in items if item.is_back)
                item.is_back = False
                publisher.publish(item)
                until = time.monotonic() + PACE
                while (left := until - time.monotonic()) > 0:
                    publisher.service(left)
        got = [counts.get() for _ in range(GOOD)]
        for process in processes[GOOD:]:
            process.kill()
        for process in processes:
            process.join()
    return min(got)


def part_kept() -> float:
    """Return the frames of the worst good one beside bad ones, as a part of those without."""
    return frames_of_the_worst(BAD) / frames_of_the_worst(())
