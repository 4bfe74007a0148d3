"""What a publisher does with its items, as its subscribers and its owner see it."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator

import pytest
from helpers.leaks import descriptors
from helpers.process import in_child
from helpers.publishing import Client, serve_until

import dmabuf
from dmabuf import Access, Image
from dmabuf.share import Publisher, SharedFrame, Subscriber
from dmabuf.testing.fences import PendingFence

Allocate = Callable[..., dmabuf.Buffer]


class Recurring:
    """What is given back by `queue()`, as a camera's frame is: its buffer stays."""

    def __init__(self, *buffers: dmabuf.Buffer) -> None:
        self.buffers = buffers
        self.returns = 0

    def queue(self) -> None:
        self.returns += 1


@pytest.fixture
def publisher(path: str) -> Iterator[Publisher]:
    with Publisher(path) as publisher:
        yield publisher


@pytest.fixture
def subscriber(path: str, publisher: Publisher) -> Iterator[Subscriber]:
    with Subscriber(path) as subscriber:
        yield subscriber


def ask(subscriber: Subscriber, publisher: Publisher) -> None:
    """Have a subscriber ask for a frame that isn't there."""
    with pytest.raises(TimeoutError):
        subscriber.frame(0)
    publisher.service()


def take(subscriber: Subscriber, publisher: Publisher) -> SharedFrame:
    """Return a frame that is there, or was published while nobody asked."""
    subscriber.fileno()  # asks
    publisher.service()
    return subscriber.frame(10)


def test_a_frame_is_the_publishers_memory(
    publisher: Publisher, subscriber: Subscriber, allocate: Allocate
) -> None:
    buffer = allocate(8192)
    with buffer.write() as memory:
        memory[:5] = b"hello"
    assert publisher.publish(buffer, message=b"text") == 1
    with take(subscriber, publisher) as frame, frame.buffers[0].read() as memory:
        assert frame.buffers[0] == buffer
        assert bytes(memory[:5]) == b"hello"
        assert (frame.sequence, frame.message, frame.dropped) == (0, b"text", 0)


def test_a_frame_has_the_image_that_was_published(
    publisher: Publisher, subscriber: Subscriber, allocate: Allocate
) -> None:
    first, second = allocate(64 * 40), allocate(64 * 20)
    image = Image([first, second], "NV12", 40, 32, strides=[64, 64], offsets=[0, 64])

    class Planar(Recurring):
        pass

    with first, second:
        publisher.publish(Planar(first, second), image=image)
        with take(subscriber, publisher) as frame:
            shared = frame.image
            assert (str(shared.format), shared.width, shared.height) == ("NV12", 40, 32)
            assert shared.planes == image.planes


def test_a_frame_without_an_image_says_so(
    publisher: Publisher, subscriber: Subscriber, allocate: Allocate
) -> None:
    publisher.publish(allocate(4096))
    with take(subscriber, publisher) as frame, pytest.raises(ValueError, match="has no image"):
        frame.image  # noqa: B018


def test_what_nobody_gets_is_closed_at_once(path: str, allocate: Allocate) -> None:
    with Publisher(path, keep_last=False) as publisher:
        buffer = allocate(4096)
        assert publisher.publish(buffer) == 0
        assert buffer.closed


def test_the_last_is_kept_until_the_next(publisher: Publisher, allocate: Allocate) -> None:
    first, second = allocate(4096), allocate(4096)
    publisher.publish(first)
    assert not first.closed
    publisher.publish(second)
    assert first.closed
    assert not second.closed


def test_who_starts_with_the_last_gets_what_was_published_before(
    path: str, publisher: Publisher, allocate: Allocate
) -> None:
    publisher.publish(allocate(4096))
    publisher.publish(allocate(4096))
    with Subscriber(path, start="last") as late, take(late, publisher) as frame:
        assert (frame.sequence, frame.dropped) == (1, 0)


def test_who_starts_with_the_next_gets_what_is_published_after_it_subscribed(
    path: str, publisher: Publisher, allocate: Allocate
) -> None:
    publisher.publish(allocate(4096))
    with Subscriber(path) as subscriber:
        publisher.publish(allocate(4096))
        with take(subscriber, publisher) as frame:
            assert (frame.sequence, frame.dropped) == (1, 0)


def test_latest_gives_the_newest_and_tells_what_was_missed(
    publisher: Publisher, subscriber: Subscriber, allocate: Allocate
) -> None:
    for _ in range(5):
        assert publisher.publish(allocate(4096)) == 1
    with take(subscriber, publisher) as frame:
        assert (frame.sequence, frame.dropped) == (4, 4)
    assert publisher.subscribers()[0].dropped == 4


def test_a_pause_costs_latest_no_freshness(
    publisher: Publisher, subscriber: Subscriber, allocate: Allocate
) -> None:
    publisher.publish(allocate(4096))
    take(subscriber, publisher).close()
    for _ in range(29):
        publisher.publish(allocate(4096))
    with take(subscriber, publisher) as frame:
        assert frame.sequence == 29


def test_queue_keeps_as_many_as_its_depth(path: str, allocate: Allocate) -> None:
    with (
        Publisher(path, in_flight=8) as publisher,
        Subscriber(path, policy="queue", depth=3) as subscriber,
    ):
        for _ in range(5):
            publisher.publish(allocate(4096))
        frames = [take(subscriber, publisher) for _ in range(3)]
        assert [frame.sequence for frame in frames] == [2, 3, 4]
        assert [frame.dropped for frame in frames] == [2, 0, 0]
        for frame in frames:
            frame.close()


def test_every_makes_a_publisher_wait_that_blocks(path: str, allocate: Allocate) -> None:
    with Publisher(path, block=60) as publisher, Subscriber(path, policy="every") as subscriber:
        seen: list[int] = []

        def consume() -> None:
            for _ in range(20):
                with subscriber.frame(60) as frame:
                    seen.append(frame.sequence)

        thread = threading.Thread(target=consume)
        thread.start()
        for _ in range(20):
            publisher.publish(allocate(4096))
        while thread.is_alive():
            publisher.service(0.05)
        assert seen == list(range(20))


def test_every_loses_items_of_a_publisher_that_does_not_block(
    path: str, publisher: Publisher, allocate: Allocate
) -> None:
    with Subscriber(path, policy="every") as subscriber:
        for _ in range(3):
            publisher.publish(allocate(4096))
        with take(subscriber, publisher) as frame:
            assert frame.dropped == 2


def test_an_item_beyond_those_in_flight_goes_to_nobody(path: str, allocate: Allocate) -> None:
    with (
        Publisher(path, in_flight=1) as publisher,
        Subscriber(path) as holder,
        Subscriber(path) as other,
    ):
        ask(holder, publisher)
        publisher.publish(allocate(4096))
        take(other, publisher).close()
        with holder.frame(10):
            further = allocate(4096)
            assert publisher.publish(further) == 0
            assert further.closed
            assert [info.dropped for info in publisher.subscribers()] == [1, 1]
        assert publisher.publish(allocate(4096)) == 2


def test_an_item_is_given_back_with_its_last_holder(
    path: str, publisher: Publisher, subscriber: Subscriber, allocate: Allocate
) -> None:
    with Subscriber(path) as other, allocate(4096) as buffer:
        item = Recurring(buffer)
        publisher.publish(item)
        publisher.publish(allocate(4096))  # so that it isn't the last one
        # latest: both get the newer one
        assert item.returns == 1
        item = Recurring(buffer)
        with take(subscriber, publisher), take(other, publisher):
            publisher.publish(item)
        with take(subscriber, publisher), take(other, publisher):
            publisher.publish(allocate(4096))
            assert item.returns == 0
        publisher.service()
        assert item.returns == 1


def test_a_memory_s_descriptor_goes_to_a_subscriber_once(
    publisher: Publisher, subscriber: Subscriber, allocate: Allocate
) -> None:
    with allocate(4096) as buffer, allocate(4096) as other:
        counts = []
        for index in range(6):
            publisher.publish(Recurring(buffer if index % 2 else other))
            take(subscriber, publisher).close()
            counts.append(descriptors())
        assert counts[1:] == counts[1:2] * 5


def test_a_pool_s_memory_goes_to_a_subscriber_once(
    publisher: Publisher, path: str, allocate: Allocate
) -> None:
    with dmabuf.Pool(2, 4096, allocate=allocate) as pool, Client(path) as client:
        client.hello()
        told = []
        for _ in range(6):
            client.want()
            publisher.publish(pool.acquire(timeout=0))
            frame = client.frame()
            client.release(frame)
            told.append(frame.new)
        assert told == [1, 1, 0, 0, 0, 0]


def test_a_pool_that_lends_nothing_twice_lends_no_more_what_was_published(
    publisher: Publisher, subscriber: Subscriber, allocate: Allocate
) -> None:
    with dmabuf.Pool(1, 4096, allocate=allocate, retire_after_share=True) as pool:
        counts, seen = [], []
        for _ in range(6):
            seen.append(pool.acquire(timeout=0))
            publisher.publish(seen[-1])
            take(subscriber, publisher).close()
            publisher.publish(allocate(4096))  # so that it isn't the last one
            take(subscriber, publisher).close()
            counts.append(descriptors())
        assert len(set(seen)) == 6
        assert counts[2:] == counts[2:3] * 4


def test_a_memory_that_is_gone_is_given_up_by_subscribers(
    publisher: Publisher, subscriber: Subscriber, allocate: Allocate
) -> None:
    counts = []
    for _ in range(6):
        publisher.publish(allocate(4096))
        take(subscriber, publisher).close()
        counts.append(descriptors())
    assert counts[2:] == counts[2:3] * 4


def test_other_formats_replace_the_memories_of_a_stream_that_ended(
    publisher: Publisher, subscriber: Subscriber, allocate: Allocate
) -> None:
    with allocate(4096) as old:
        publisher.publish(Recurring(old))
        frame = take(subscriber, publisher)
    with allocate(8192) as new:
        publisher.publish(Recurring(new))
        publisher.service()
        seen = frame.buffers[0]
        frame.close()
        with take(subscriber, publisher) as later:
            assert later.buffers == (new,)
        ask(subscriber, publisher)
        assert seen.closed


def test_a_frame_that_is_held_outlives_the_retirement_of_its_memory(
    path: str, publisher: Publisher, allocate: Allocate
) -> None:
    with Subscriber(path, depth=2) as subscriber:
        with allocate(4096) as old, old.write() as memory:
            memory[0] = 7
        publisher.publish(Recurring(old := allocate(4096)))
        frame = take(subscriber, publisher)
        old.close()
        publisher.publish(allocate(8192))
        take(subscriber, publisher).close()
        ask(subscriber, publisher)
        with frame, frame.buffers[0].read() as memory:
            assert len(memory) == 4096


@pytest.mark.needs("export")
def test_a_fence_that_is_published_holds_back_who_reads(
    publisher: Publisher, subscriber: Subscriber, allocate: Allocate, pending: PendingFence
) -> None:
    publisher.publish(allocate(4096), fence=pending.fence)
    with take(subscriber, publisher) as frame:
        assert not frame.buffers[0].is_idle(Access.READ)
        pending.signal()
        assert frame.buffers[0].wait(Access.READ, 10)


@pytest.mark.needs("export")
def test_an_item_is_given_back_once_its_readers_fences_have_signalled(
    publisher: Publisher, subscriber: Subscriber, allocate: Allocate, pending: PendingFence
) -> None:
    buffer = allocate(4096)
    publisher.publish(buffer)
    with take(subscriber, publisher) as frame:
        frame.buffers[0].import_fence(pending.fence, Access.READ)
    publisher.publish(allocate(4096))
    publisher.service()
    assert not buffer.closed
    assert select.select([publisher], [], [], 0)[0] == []
    pending.signal()
    assert select.select([publisher], [], [], 10)[0] == [publisher]
    publisher.service()
    assert buffer.closed


def test_what_is_refused_stays_the_callers(publisher: Publisher, allocate: Allocate) -> None:
    with allocate(4096) as buffer, allocate(4096) as other:
        with pytest.raises(ValueError, match="at most 4096 bytes"):
            publisher.publish(buffer, message=bytes(4097))
        with pytest.raises(ValueError, match="not in the item"):
            publisher.publish(buffer, image=Image(other, "R8", 8, 8))
        with pytest.raises(ValueError, match="borrows its buffers"):
            publisher.publish(Image(buffer, "R8", 8, 8))
        with pytest.raises(TypeError, match=r"dmabuf\.Image"):
            publisher.publish(buffer, image=8)
        with pytest.raises(TypeError, match=r"dmabuf\.Fence"):
            publisher.publish(buffer, fence=buffer)
        with pytest.raises(TypeError, match="an item is"):
            publisher.publish(4096)
        publisher.close()
        with pytest.raises(ValueError, match="closed Publisher"):
            publisher.publish(buffer)
        assert not buffer.closed


def test_what_can_only_be_left_is_an_item(publisher: Publisher, allocate: Allocate) -> None:
    class Left:
        def __init__(self, buffer: dmabuf.Buffer) -> None:
            self.buffers = (buffer,)
            self.is_back = False

        def leave(self) -> None:
            self.is_back = True

    with allocate(4096) as buffer:
        item = Left(buffer)
        publisher.publish(item)
        publisher.publish(allocate(4096))  # so that it isn't the last one
        assert item.is_back


def test_an_item_is_not_published_twice(publisher: Publisher, allocate: Allocate) -> None:
    buffer = allocate(4096)
    publisher.publish(buffer)
    with pytest.raises(ValueError, match="already published"):
        publisher.publish(buffer)


def test_an_error_of_giving_back_comes_out_of_publish(
    publisher: Publisher, allocate: Allocate
) -> None:
    class Unplugged(Recurring):
        def queue(self) -> None:
            raise OSError(19, "No such device")

    with allocate(4096) as buffer:
        publisher.publish(Unplugged(buffer))
        with pytest.raises(OSError, match="No such device"):
            publisher.publish(allocate(4096))
        assert publisher.publish(allocate(4096)) == 0


def test_closing_gives_everything_back_and_may_be_repeated(
    path: str, publisher: Publisher, subscriber: Subscriber, allocate: Allocate
) -> None:
    buffers = [allocate(4096) for _ in range(3)]
    for buffer in buffers:
        publisher.publish(buffer)
    with take(subscriber, publisher):
        publisher.close()
        publisher.close()
    assert all(buffer.closed for buffer in buffers)
    assert os.listdir(os.path.dirname(path)) == []


def test_a_fork_has_a_closed_publisher_and_the_parent_goes_on(
    path: str, publisher: Publisher, subscriber: Subscriber, allocate: Allocate
) -> None:
    ask(subscriber, publisher)

    def child() -> tuple[bool, int]:
        return publisher.closed and subscriber.closed, descriptors()

    closed, open_in_child = in_child(child)
    assert closed
    assert open_in_child < descriptors()
    assert publisher.publish(allocate(4096)) == 1
    with subscriber.frame(10) as frame:
        assert frame.sequence == 0
    assert os.path.exists(path)


def test_threads_may_publish_serve_and_close_at_once(path: str, allocate: Allocate) -> None:
    publisher = Publisher(path, in_flight=4)
    published: list[dmabuf.Buffer] = []

    def publish() -> None:
        try:
            while True:
                buffer = allocate(4096)
                try:
                    publisher.publish(buffer)
                except ValueError:
                    buffer.close()
                    raise
                published.append(buffer)
        except ValueError:
            pass

    def serve() -> None:
        try:
            while True:
                publisher.service(None)
        except ValueError:
            pass

    threads = [threading.Thread(target=work) for work in (publish, publish, publish, serve)]
    with Subscriber(path) as subscriber:
        for thread in threads:
            thread.start()
        for _ in range(20):
            subscriber.frame(60).close()
        publisher.close()
        for thread in threads:
            thread.join()
        assert all(buffer.closed for buffer in published)
        for frame in subscriber:  # it ends
            frame.close()


def test_what_is_collected_unclosed_warns_and_is_closed(path: str) -> None:
    publisher = Publisher(path)
    with pytest.warns(ResourceWarning, match="unclosed <dmabuf.share.Publisher"):
        del publisher
    assert not os.path.exists(path)


def test_serving_waits_as_long_as_it_is_told_to(publisher: Publisher, path: str) -> None:
    publisher.service(0.01)
    with Subscriber(path):
        serve_until(publisher, lambda: len(publisher.subscribers()) == 1)
        assert publisher.subscribers()[0][:2] == (os.getpid(), os.getuid())
    serve_until(publisher, lambda: not publisher.subscribers())
