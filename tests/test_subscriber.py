"""How a subscriber gets its frames, and how it hears of the end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from helpers.leaks import descriptors
from helpers.process import NOBODY, in_child, without_nodes
from helpers.publishing import Process

import dmabuf
from dmabuf import RefusedError
from dmabuf.share import Publisher, Subscriber

Allocate = Callable[..., dmabuf.Buffer]


@pytest.fixture
def publisher(path: str) -> Iterator[Publisher]:
    with Publisher(path, block=60) as publisher:
        yield publisher


def publish(publisher: Publisher, allocate: Allocate, count: int) -> None:
    """Publish so many, each once the one before is under way, and close."""
    for index in range(count):
        publisher.publish(allocate(4096), message=str(index).encode())
    while any(info.held or info.delivered < count for info in publisher.subscribers()):
        publisher.service(0.05)
    publisher.close()


def exhaust(subscriber: Subscriber) -> None:
    """Take frames until that raises."""
    while True:
        subscriber.frame(60).close()


@pytest.fixture
def every(path: str, publisher: Publisher, allocate: Allocate) -> Iterator[Subscriber]:
    """Give a subscriber of a publisher that publishes five items, in a thread, and closes."""
    with Subscriber(path, policy="every") as subscriber:
        thread = threading.Thread(target=publish, args=(publisher, allocate, 5))
        thread.start()
        yield subscriber
        thread.join()


def test_iteration_ends_when_the_publisher_closes(every: Subscriber) -> None:
    seen = []
    for frame in every:
        with frame:
            seen.append(frame.message)
    assert seen == [b"0", b"1", b"2", b"3", b"4"]
    with pytest.raises(EOFError, match="has closed"):
        every.frame(0)


def test_frames_come_in_an_event_loop(every: Subscriber) -> None:
    async def consume() -> list[int]:
        seen = []
        async for frame in every:
            with frame:
                seen.append(frame.sequence)
        return seen

    assert asyncio.run(consume()) == [0, 1, 2, 3, 4]


def test_frames_come_in_trio_by_the_descriptor(every: Subscriber) -> None:
    seen = []

    async def consume() -> None:
        while True:
            await trio.lowlevel.wait_readable(every)
            try:
                with every.frame(0) as frame:
                    seen.append(frame.sequence)
            except TimeoutError:
                pass

    with pytest.raises(EOFError):
        trio.run(consume)
    assert seen == [0, 1, 2, 3, 4]


def test_frames_come_in_select_by_the_descriptor(every: Subscriber) -> None:
    seen = []

    def consume() -> None:
        while select.select([every], [], [], 60)[0]:
            try:
                with every.frame(0) as frame:
                    seen.append(frame.sequence)
            except TimeoutError:
                pass

    with pytest.raises(EOFError):
        consume()
    assert seen == [0, 1, 2, 3, 4]


def test_a_publisher_is_served_in_trio_by_its_descriptor(path: str, allocate: Allocate) -> None:
    async def serve(publisher: Publisher) -> None:
        while True:
            await trio.lowlevel.wait_readable(publisher)
            publisher.service()

    seen: list[int] = []

    async def both() -> None:
        with Publisher(path) as publisher, Subscriber(path) as subscriber:
            publisher.service()
            publisher.publish(allocate(4096))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, publisher)
                while not seen:
                    await trio.lowlevel.wait_readable(subscriber)
                    with contextlib.suppress(TimeoutError), subscriber.frame(0) as frame:
                        seen.append(frame.sequence)
                nursery.cancel_scope.cancel()

    trio.run(both)
    assert seen == [0]


def test_neither_side_starts_a_thread(path: str, allocate: Allocate) -> None:
    before = set(threading.enumerate())
    with Publisher(path) as publisher, Subscriber(path) as subscriber:
        publisher.service()
        publisher.publish(allocate(4096))
        subscriber.fileno()  # asks
        publisher.service()
        with subscriber.frame(60), pytest.raises(dmabuf.RefusedError):
            subscriber.frame(0)
        assert set(threading.enumerate()) <= before


def test_both_sides_live_in_one_event_loop(path: str, allocate: Allocate) -> None:
    async def produce(publisher: Publisher) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(publisher, publisher.service)
        for _ in range(5):
            publisher.publish(allocate(4096))
            await asyncio.sleep(0)
        while publisher.subscribers()[0].held or publisher.subscribers()[0].delivered == 0:
            await asyncio.sleep(0.01)
        loop.remove_reader(publisher)
        publisher.close()

    async def both() -> int:
        with Publisher(path) as publisher, Subscriber(path) as subscriber:
            task = asyncio.create_task(produce(publisher))
            count = 0
            async for frame in subscriber:
                with frame:
                    count += 1
            await task
            return count

    assert asyncio.run(both()) >= 1


def test_there_must_be_a_publisher(path: str, tmp_path: Path) -> None:
    for where, what in ((tmp_path, "a directory"), (__file__, "a file"), ("/dev/null", "a device")):
        for reconnect in (False, True):
            with pytest.raises(OSError, match=f"it is {what}.*not a publisher's socket") as caught:
                Subscriber(where, reconnect=reconnect)
            assert caught.value.errno == errno.ENOTSOCK
    with pytest.raises(FileNotFoundError, match="there is no publisher"):
        Subscriber(path)


def test_a_publisher_that_died_is_told_from_one_that_closed(path: str, allocate: Allocate) -> None:
    def serve(tell: Callable[[bytes], None]) -> None:
        with Publisher(path) as publisher:
            tell(b"ready")
            while True:
                publisher.publish(allocate(4096))
                publisher.service(0.01)

    with Process(serve) as process:
        process.hear()
        with Subscriber(path) as subscriber:
            with subscriber.frame(60) as frame:
                process.kill()
                process.wait()
                with frame.buffers[0].read() as memory:
                    assert len(memory) == 4096  # what is held stays
            with pytest.raises(ConnectionError, match="died"):
                exhaust(subscriber)
            with pytest.raises(ConnectionError, match="died"):
                subscriber.frame()
    with pytest.raises(ConnectionRefusedError, match="its publisher has ended"):
        Subscriber(path)


def test_reconnecting_goes_on_with_the_next_publisher(path: str, allocate: Allocate) -> None:
    with Subscriber(path, reconnect=True) as subscriber:
        with pytest.raises(TimeoutError):
            subscriber.frame(0.01)

        def serve() -> None:
            for _ in range(3):
                with Publisher(path) as publisher:
                    while not any(info.delivered for info in publisher.subscribers()):
                        publisher.publish(allocate(4096))
                        publisher.service(0.01)

        thread = threading.Thread(target=serve)
        thread.start()
        for _ in range(3):
            with subscriber.frame(60) as frame:
                assert len(frame.buffers[0].memory) == 4096
        thread.join()


def test_a_time_out_costs_no_frame(path: str, publisher: Publisher, allocate: Allocate) -> None:
    with Subscriber(path, policy="queue") as subscriber:
        with pytest.raises(TimeoutError, match=r"no frame from .* within 0.01 s"):
            subscriber.frame(0.01)
        publisher.publish(allocate(4096))
        with subscriber.frame(60) as frame:
            assert frame.sequence == 0


def test_who_holds_its_depth_is_told_instead_of_waiting(
    path: str, publisher: Publisher, allocate: Allocate
) -> None:
    with Subscriber(path) as subscriber:
        publisher.publish(allocate(4096))
        subscriber.fileno()
        publisher.service()
        refusal = pytest.raises(RefusedError, match="holds 1 frames, its depth")
        with subscriber.frame(60), refusal:
            subscriber.frame()


def test_a_frame_is_for_the_time_until_it_is_given_back(
    path: str, publisher: Publisher, allocate: Allocate
) -> None:
    with Subscriber(path) as subscriber:
        publisher.publish(allocate(4096))
        subscriber.fileno()
        publisher.service()
        with subscriber.frame(60) as frame:
            array = frame.buffers[0].array(4096)
        frame.close()
        for use in (lambda: frame.buffers, lambda: frame.image, frame.__enter__):
            with pytest.raises(ValueError, match="given back"):
                use()
        assert array[0] == 0
        publisher.service()
        assert [info.held for info in publisher.subscribers()] == [0]


def test_a_frame_that_is_dropped_is_given_back_with_a_warning(
    path: str, publisher: Publisher, allocate: Allocate
) -> None:
    with Subscriber(path) as subscriber:
        publisher.publish(allocate(4096))
        subscriber.fileno()
        publisher.service()
        frame = subscriber.frame(60)
        with pytest.warns(ResourceWarning, match="frame 0 was not given back"):
            del frame
        publisher.service()
        assert [info.held for info in publisher.subscribers()] == [0]


def test_a_close_ends_the_waits_of_others(path: str, publisher: Publisher) -> None:
    subscriber = Subscriber(path)
    ends = []

    def wait() -> None:
        try:
            subscriber.frame()
        except ValueError as error:
            ends.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    publisher.service(0.05)
    subscriber.close()
    thread.join()
    assert "closed Subscriber" in ends[0]


def test_a_frame_outlives_its_subscriber(
    path: str, publisher: Publisher, allocate: Allocate
) -> None:
    before = descriptors()
    with Subscriber(path) as subscriber:
        publisher.publish(allocate(4096))
        subscriber.fileno()
        publisher.service()
        frame = subscriber.frame(60)
    with frame, frame.buffers[0].read() as memory:
        assert len(memory) == 4096
    publisher.service()
    assert descriptors() == before + 1  # the last, which the publisher keeps


def test_a_fork_has_a_closed_subscriber_and_keeps_nothing_of_it_open(
    path: str, publisher: Publisher, allocate: Allocate
) -> None:
    with Subscriber(path) as subscriber:
        publisher.service()

        def linger(tell: Callable[[bytes], None]) -> None:
            tell(b"closed" if subscriber.closed and publisher.closed else b"open")
            threading.Event().wait()

        with Process(linger) as child:
            assert child.hear() == b"closed"
            subscriber.close()
            publisher.service(10)
            assert publisher.subscribers() == []


@pytest.mark.needs("root")
def test_a_subscriber_needs_no_rights_but_the_sockets(path: str, allocate: Allocate) -> None:
    for folder in Path(path).parents:
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)

    def consume() -> bytes:
        def as_nobody() -> bytes:
            subscriber = Subscriber(path, start="last")
            with subscriber, subscriber.frame(60) as frame, frame.buffers[0].read() as memory:
                return bytes(memory[:4])

        return without_nodes("/dev", lambda: in_child(as_nobody, user=NOBODY))

    with Publisher(path, mode=0o666) as publisher:
        buffer = allocate(4096)
        with buffer.write() as memory:
            memory[:4] = b"seen"
        publisher.publish(buffer)
        results: list[bytes] = []

        def serve(tell: Callable[[bytes], None]) -> None:
            tell(consume())

        with Process(serve) as process:
            thread = threading.Thread(target=lambda: results.append(process.hear()))
            thread.start()
            while thread.is_alive():
                publisher.service(0.05)
            assert results == [b"seen"]


def test_a_subscriber_may_be_told_of_no_policy_that_is_none(path: str) -> None:
    for terms in ({"policy": "newest"}, {"start": "first"}, {"depth": 0}, {"depth": 65}):
        with pytest.raises(ValueError, match=r"newest|first|depth"):
            Subscriber(path, **terms)
    assert os.listdir(os.path.dirname(path)) == []
