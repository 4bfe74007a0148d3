"""What of a publisher's items one subscriber may keep from the others: never the last."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.publishing import SECONDS, Client, Ring, serve_until

import dmabuf
from dmabuf.share import Publisher, SharedFrame, Subscriber
from dmabuf.share._messages import MOST_DEPTH, Policy

Allocate = Callable[..., dmabuf.Buffer]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s")


def takes(subscriber: Subscriber, publisher: Publisher) -> SharedFrame:
    """Have a subscriber take what was published; it is there, or comes now."""
    subscriber.fileno()  # asks
    publisher.service()
    return subscriber.frame(0)


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("wanted", [0, 1, MOST_DEPTH])
def test_who_gives_nothing_back_costs_the_others_no_frame(
    path: str, ring: Ring, policy: Policy, wanted: int
) -> None:
    with (
        Publisher(path, keep_last=False) as publisher,
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
        assert publisher.subscribers()[1].held == min(wanted, 1)


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


def test_who_can_get_no_second_beside_others_is_told(path: str, ring: Ring) -> None:
    with (
        Publisher(path, keep_last=False) as publisher,
        Subscriber(path, depth=2) as two,
        Subscriber(path) as other,
    ):
        publisher.publish(ring.frame())
        takes(other, publisher).close()
        with takes(two, publisher):
            two.fileno()
            publisher.service()
            publisher.publish(ring.frame())
            with pytest.raises(dmabuf.RefusedError, match="in_flight=3"):
                two.frame(SECONDS)
        publisher.service()
        with two.frame(SECONDS) as second:
            assert second.sequence == 1


def test_who_have_several_leave_one_and_take_turns(path: str, ring: Ring) -> None:
    with (
        Publisher(path, in_flight=3, keep_last=False) as publisher,
        Subscriber(path, depth=2) as first,
        Subscriber(path, depth=2) as second,
    ):
        publisher.publish(ring.frame())
        with takes(first, publisher) as oldest:
            publisher.publish(ring.frame())
            with takes(second, publisher), takes(first, publisher):
                second.fileno()
                publisher.service()
                publisher.publish(ring.frame())  # would be the third of three
                with pytest.raises(TimeoutError):
                    second.frame(0)
                oldest.close()
                publisher.service()
                with second.frame(SECONDS) as frame:
                    assert frame.sequence == 2


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
