"""Many frames to many subscribers: none is torn, and none is lost to others' faults."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import zlib
from collections.abc import Callable
from functools import partial

import pytest
from helpers import cameras
from helpers.publishing import NUMBERED, Client, Process, Ring, serve_until

import dmabuf
from dmabuf import Access
from dmabuf.devices import v4l2
from dmabuf.share import Publisher, Subscriber, SubscriberInfo
from dmabuf.share._messages import MOST_DEPTH
from dmabuf.testing.fences import PendingFence

Allocate = Callable[..., dmabuf.Buffer]
Tell = Callable[[bytes], None]
FRAMES = int(os.environ.get("DMABUF_FRAMES", "400"))
"""How many are checked for tearing: about 10 s where the machine is emulated."""
GOOD = 9


def consumer(path: str, policy: str) -> Process:
    """Return a process that checks each frame, and tells how many there were."""

    def consume(tell: Tell) -> None:
        count = 0
        with Subscriber(path, policy=policy) as subscriber:
            tell(b"ready")
            for frame in subscriber:
                with frame, frame.buffers[0].read() as memory:
                    number, checksum = NUMBERED.unpack_from(memory)
                    assert number == frame.sequence
                    assert zlib.crc32(memory[NUMBERED.size :]) == checksum, (
                        f"frame {number} is torn"
                    )
                    count += 1
        tell(str(count).encode())

    process = Process(consume)
    assert process.hear() == b"ready"
    return process


@pytest.mark.parametrize("policy", ["latest", "every"])
def test_no_frame_is_torn(path: str, ring: Ring, policy: str) -> None:
    with Publisher(path, block=60) as publisher, consumer(path, policy) as process:
        for number in range(FRAMES):
            publisher.publish(ring.numbered(number))
        serve_until(publisher, lambda: is_done(publisher.subscribers()[0], FRAMES))
        publisher.close()
        count = int(process.hear())
        assert process.wait() == 0
        assert 0 < count <= FRAMES
        if policy == "every":
            assert count == FRAMES


def is_done(info: SubscriberInfo, frames: int) -> bool:
    """Whether nothing is left to be sent or given back; what is queued at a close is lost."""
    return info.delivered + info.dropped == frames and not info.held


def stopped(path: str) -> Process:
    """Return one that stops with a frame in its hands."""

    def consume(tell: Tell) -> None:
        with Subscriber(path) as subscriber:
            tell(b"ready")
            with subscriber.frame(60):
                signal.pause()

    return joined(Process(consume))


def killed(path: str) -> Process:
    """Return one that dies with a frame in its hands."""

    def consume(tell: Tell) -> None:
        with Subscriber(path) as subscriber:
            tell(b"ready")
            with subscriber.frame(60):
                os.kill(os.getpid(), signal.SIGKILL)

    return joined(Process(consume))


def forking(path: str) -> Process:
    """Return one that forks with a frame in its hands, and whose child lives on."""

    def consume(tell: Tell) -> None:
        with Subscriber(path) as subscriber:
            tell(b"ready")
            with subscriber.frame(60):
                parent = os.getpid()
                if not os.fork():
                    while os.getppid() == parent:
                        signal.sigtimedwait([], 0.05)
                    os._exit(0)
            signal.pause()

    return joined(Process(consume))


def slow(path: str) -> Process:
    """Return one that keeps each frame while several are published."""

    def consume(tell: Tell) -> None:
        with Subscriber(path) as subscriber:
            tell(b"ready")
            for frame in subscriber:
                with frame:
                    time.sleep(0.2)

    return joined(Process(consume))


def greedy(path: str) -> Process:
    """Return one that keeps whatever it gets."""

    def consume(tell: Tell) -> None:
        kept = []
        with Subscriber(path, depth=MOST_DEPTH, policy="queue") as subscriber:
            tell(b"ready")
            while True:
                with contextlib.suppress(dmabuf.RefusedError):
                    kept.append(subscriber.frame())

    return joined(Process(consume))


def hostile(path: str) -> Process:
    """Return one that sends garbage, and connects again, for ever."""

    def consume(tell: Tell) -> None:
        tell(b"ready")
        for number in range(1 << 30):
            with Client(path) as client, contextlib.suppress(OSError, AssertionError):
                client.hello()
                client.want()
                client.frame()
                client.sock.send(bytes([number & 255]) * 32)

    return joined(Process(consume))


def joined(process: Process) -> Process:
    assert process.hear() == b"ready"
    return process


@pytest.mark.parametrize("bad", [stopped, killed, slow, greedy, forking, hostile])
def test_a_bad_subscriber_costs_the_good_ones_no_frame(
    path: str, allocate: Allocate, bad: Callable[[str], Process]
) -> None:
    frames = 60
    with contextlib.closing(Ring(allocate, 8)) as ring, contextlib.ExitStack() as stack:
        publisher = stack.enter_context(Publisher(path, in_flight=3, block=60, hold_timeout=5))
        good = [stack.enter_context(consumer(path, "every")) for _ in range(GOOD)]
        stack.enter_context(bad(path))
        serve_until(publisher, lambda: len(publisher.subscribers()) >= GOOD)
        for number in range(frames):
            publisher.publish(ring.numbered(number))
        pids = {process.pid for process in good}
        serve_until(
            publisher,
            lambda: all(
                is_done(info, frames) for info in publisher.subscribers() if info.pid in pids
            ),
        )
        publisher.close()
        assert [int(process.hear()) for process in good] == [frames] * GOOD


@pytest.mark.needs("vivid")
def test_a_cameras_buffers_go_on_circulating_whatever_subscribers_do(path: str) -> None:
    count = 60

    def consume(tell: Tell, *, stop: bool = False) -> None:
        with Subscriber(path) as subscriber:
            tell(b"ready")
            for number, frame in enumerate(subscriber):
                with frame, frame.image.read() as planes:
                    assert planes[0].shape == (cameras.HEIGHT, cameras.WIDTH)
                    if stop and number == 3:  # where it holds a frame: without one it may stay
                        os.kill(os.getpid(), signal.SIGSTOP)
                if number == 3:
                    tell(b"seen")

    stopping = partial(consume, stop=True)
    with contextlib.ExitStack() as stack:
        publisher = stack.enter_context(Publisher(path, hold_timeout=3))
        good, doomed, _ = (
            stack.enter_context(joined(Process(work))) for work in (consume, consume, stopping)
        )
        camera = stack.enter_context(cameras.camera())
        frames = stack.enter_context(camera.stream(count=6))
        for number, frame in zip(range(50 * count), frames, strict=False):
            publisher.publish(frame)
            if number == count // 3:
                doomed.kill()
            left = [info.pid for info in publisher.subscribers()]
            if number > count and left == [good.pid] and not publisher.quarantined:
                break
        assert left == [good.pid]
        publisher.close()
        assert good.hear() == b"seen"
        assert good.wait() == 0


@pytest.mark.needs("vivid")
@pytest.mark.parametrize("multi_planar", [False, True])
def test_a_camera_is_published_frame_by_frame(path: str, multi_planar: bool) -> None:
    with (
        cameras.camera(multi_planar=multi_planar) as camera,
        Publisher(path) as publisher,
        camera.stream(count=6) as frames,
        Subscriber(path) as subscriber,
    ):
        thread = threading.Thread(target=take, args=(subscriber, 5))
        thread.start()
        for frame in frames:
            publisher.publish(frame)
            if not thread.is_alive():
                break


@pytest.mark.needs("vivid", "export")
def test_a_readers_fence_keeps_a_cameras_frame_for_a_time_and_makes_nobody_wait(
    path: str, pending: PendingFence
) -> None:
    with (
        cameras.camera() as camera,
        Publisher(path, hold_timeout=0.3, keep_last=False) as publisher,
        camera.stream(count=4) as frames,
        Subscriber(path) as subscriber,
    ):
        subscriber.fileno()  # asks
        publisher.service()
        frame = frames.frame(60)
        publisher.publish(frame)
        with subscriber.frame(60) as shared:
            shared.buffers[0].import_fence(pending.fence, Access.READ)
        serve_until(publisher, lambda: is_given_back(frame))
        assert not pending.fence.signaled
        for _ in range(2 * len(frames.buffers)):
            publisher.publish(frames.frame(60))


def is_given_back(frame: v4l2.Frame) -> bool:
    try:
        return not frame.buffers
    except ValueError:
        return True


def take(subscriber: Subscriber, count: int) -> None:
    for _ in range(count):
        with subscriber.frame(60) as frame, frame.image.read() as planes:
            assert planes[0].shape == (cameras.HEIGHT, cameras.WIDTH)
