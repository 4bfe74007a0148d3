"""What of a publisher's items one subscriber may keep from the others: never the last."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator

import pytest
from helpers.publishing import SECONDS, Client, Ring, serve_until

import dmabuf
from dmabuf.share import Publisher, SharedFrame, Subscriber
from dmabuf.share._messages import MOST_DEPTH, FrameMessage, Policy

Allocate = Callable[..., dmabuf.Buffer]


def takes(subscriber: Subscriber, publisher: Publisher) -> SharedFrame:
    """Have a subscriber take what was published; it is there, or comes now."""
    subscriber.fileno()  # asks
    publisher.service()
    return subscriber.frame(0)


@pytest.mark.parametrize("keep_last", [True, False])
@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("wanted", [0, 1, MOST_DEPTH])
def test_who_gives_nothing_back_costs_the_others_no_frame(
    path: str, ring: Ring, policy: Policy, wanted: int, keep_last: bool
) -> None:
    with (
        Publisher(path, keep_last=keep_last) as publisher,
        Subscriber(path) as good,
        Client(path) as greedy,
    ):
        greedy.hello(MOST_DEPTH, policy)
        if wanted:
            greedy.want(wanted)
        for number in range(10):
            good.fileno()
            publisher.service()
            assert publisher.publish(ring.frame()) == 2
            with good.frame(0) as frame:
                assert (frame.sequence, frame.dropped) == (number, 0)
        publisher.service()
        assert publisher.subscribers()[1].held == min(wanted, 2 if keep_last else 1)


def test_who_took_all_while_it_was_alone_costs_who_joins_no_frame(path: str, ring: Ring) -> None:
    with Publisher(path) as publisher, Client(path) as greedy:
        greedy.hello(MOST_DEPTH)
        greedy.want(MOST_DEPTH)
        for _ in range(3):
            publisher.publish(ring.frame())
        assert publisher.subscribers()[0].held == 2
        with Subscriber(path) as good:
            for _ in range(10):
                publisher.publish(ring.frame())
                with takes(good, publisher) as frame:
                    assert frame.dropped == 0


def test_who_is_alone_may_have_all(path: str, ring: Ring) -> None:
    with (
        Publisher(path, keep_last=False) as publisher,
        Subscriber(path, depth=2) as alone,
        contextlib.ExitStack() as held,
    ):
        for number in range(2):
            publisher.publish(ring.frame())
            frame = held.enter_context(takes(alone, publisher))
            assert frame.sequence == number
        assert publisher.publish(ring.frame()) == 0


def test_two_at_a_time_are_had_beside_others(path: str, ring: Ring) -> None:
    """A publisher as it is by default, and one that compares each frame with the one before."""
    with (
        Publisher(path) as publisher,
        Subscriber(path, depth=2) as comparing,
        Subscriber(path) as other,
        contextlib.ExitStack() as before,
    ):
        for number in range(10):
            comparing.fileno()
            other.fileno()
            publisher.service()
            publisher.publish(ring.frame())
            for subscriber in (other, comparing):
                frame = subscriber.frame(0)
                assert (frame.sequence, frame.dropped) == (number, 0)
                if subscriber is other:
                    frame.close()
            before.close()
            before.enter_context(frame)


@pytest.mark.parametrize("end", ["it gives one back", "the others leave"])
def test_who_may_have_no_more_beside_others_waits(path: str, ring: Ring, end: str) -> None:
    with (
        Publisher(path, keep_last=False) as publisher,
        Subscriber(path, depth=2) as two,
        Subscriber(path) as other,
        waiting_for_a_second(two, other, publisher, ring) as first,
    ):
        (first if end == "it gives one back" else other).close()
        publisher.service()
        with two.frame(SECONDS) as second:
            assert second.sequence == 1


def test_who_waited_for_too_long_is_told_why(path: str, ring: Ring) -> None:
    with (
        Publisher(path, keep_last=False, hold_timeout=0.1) as publisher,
        Subscriber(path, depth=2) as two,
        Subscriber(path) as other,
        waiting_for_a_second(two, other, publisher, ring),
    ):
        serve_until(publisher, lambda: len(publisher.subscribers()) == 1)
        with pytest.raises(ConnectionAbortedError, match=r"hold_timeout: .* in_flight=3"):
            two.frame(SECONDS)


@contextlib.contextmanager
def waiting_for_a_second(
    two: Subscriber, other: Subscriber, publisher: Publisher, ring: Ring
) -> Iterator[SharedFrame]:
    """Have one hold a frame, and ask for one that it may not have beside others; they stay."""
    publisher.publish(ring.frame())
    takes(other, publisher).close()
    with takes(two, publisher) as first:
        two.fileno()
        publisher.service()
        publisher.publish(ring.frame())
        with pytest.raises(TimeoutError, match="in_flight=3"):
            two.frame(0)
        yield first


def test_who_have_several_leave_one_to_others_and_take_turns(path: str, ring: Ring) -> None:
    with (
        Publisher(path) as publisher,
        Subscriber(path, depth=2) as first,
        Subscriber(path, depth=2) as second,
        Subscriber(path),
    ):
        publisher.publish(ring.frame())
        with takes(first, publisher) as oldest:
            publisher.publish(ring.frame())
            with takes(second, publisher), takes(first, publisher):
                second.fileno()
                publisher.service()
                publisher.publish(ring.frame())  # would be the third of theirs
                with pytest.raises(TimeoutError):
                    second.frame(0)
                oldest.close()
                publisher.service()
                with second.frame(SECONDS) as frame:
                    assert frame.sequence == 2


@pytest.mark.parametrize(("others", "most"), [(0, 4), (1, 4), (2, 3), (3, 2), (9, 2)])
def test_who_holds_several_leaves_one_for_each_other(
    path: str, allocate: Allocate, others: int, most: int
) -> None:
    with (
        contextlib.closing(Ring(allocate, 8)) as ring,
        Publisher(path, in_flight=4) as publisher,
        Client(path) as greedy,
        contextlib.ExitStack() as there,
    ):
        greedy.hello(MOST_DEPTH)
        greedy.want(MOST_DEPTH)
        for _ in range(others):
            there.enter_context(Subscriber(path))
        for _ in range(ring.count):
            publisher.publish(ring.frame())
        assert publisher.subscribers()[0].held == most


class Stalling(Client):
    """One that asks for frames and gives them back as it likes."""

    def __init__(self, path: str, likes: random.Random) -> None:
        super().__init__(path)
        self.sock.setblocking(False)
        self._likes = likes
        self._room = likes.choice([1, 2, 3, MOST_DEPTH])
        self._held: list[FrameMessage] = []
        self.hello(self._room, likes.choice(list(Policy)))

    def act(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                message = self.message()
                if isinstance(message, FrameMessage):
                    self._held.append(message)
        wanted = self._likes.randint(0, self._room)
        if wanted:
            self.want(wanted)
            self._room -= wanted
        if self._held and self._likes.random() < 0.2:
            self.release(self._held.pop(self._likes.randrange(len(self._held))))
            self._room += 1


@pytest.mark.parametrize("keep_last", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_as_many_as_may_stall_cost_a_good_one_no_frame(
    path: str, allocate: Allocate, seed: int, keep_last: bool
) -> None:
    likes = random.Random(seed)
    in_flight = likes.randint(2, 6)
    with (
        contextlib.closing(Ring(allocate, in_flight + keep_last + 1)) as ring,
        Publisher(path, in_flight=in_flight, keep_last=keep_last, hold_timeout=None) as publisher,
        contextlib.ExitStack() as there,
    ):
        others = [Stalling(path, likes) for _ in range(in_flight - 1)]
        for other in others:
            there.enter_context(other)
        good = there.enter_context(Subscriber(path))
        for number in range(40):
            for other in others:
                other.act()
            good.fileno()
            publisher.service()
            publisher.publish(ring.frame())
            with good.frame(0) as frame:
                assert (frame.sequence, frame.dropped) == (number, 0)


def test_what_was_not_sent_makes_nobody_wait(path: str, ring: Ring) -> None:
    """A publisher waits for those of "every" alone, and loses no item of theirs to others."""
    with (
        Publisher(path, block=1.0, keep_last=False) as publisher,
        Subscriber(path, policy="every") as every,
        Client(path) as idle,
    ):
        idle.hello(MOST_DEPTH, Policy.QUEUE)
        for number in range(10):
            every.fileno()
            publisher.service()
            publisher.publish(ring.frame())
            with every.frame(SECONDS) as frame:
                assert frame.sequence == number
        serve_until(publisher, lambda: publisher.subscribers()[0].held == 0)
        assert [info.dropped for info in publisher.subscribers()] == [0, 8]


def test_every_is_waited_for_from_its_first_item_on(path: str, ring: Ring) -> None:
    seen: list[int] = []

    def consume() -> None:
        for _ in range(2):
            with subscriber.frame(SECONDS) as frame:
                seen.append(frame.sequence)

    with Publisher(path, block=SECONDS) as publisher:
        publisher.publish(ring.frame())
        with Subscriber(path, policy="every", start="last") as subscriber:
            publisher.service()
            thread = threading.Timer(0.1, consume)
            thread.start()
            publisher.publish(ring.frame())
            while thread.is_alive():
                publisher.service(0.05)
    assert seen == [0, 1]


def test_who_never_asks_is_waited_for_once(path: str, ring: Ring) -> None:
    """As one of "every" that is stopped; else each item would take as long as `block`."""
    with (
        Publisher(path, block=SECONDS, hold_timeout=0.3, keep_last=False) as publisher,
        Subscriber(path, policy="every") as every,
        Client(path) as idle,
    ):
        idle.hello(1, Policy.EVERY)
        for number in range(10):
            every.fileno()
            publisher.service()
            publisher.publish(ring.frame())
            with every.frame(SECONDS) as frame:
                assert frame.sequence == number
        publisher.service()
        assert [info.dropped for info in publisher.subscribers()] == [0, 9]
        idle.want()
        publisher.service()
        assert idle.frame().sequence == 9
