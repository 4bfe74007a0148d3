"""What subscribers cost the others that are killed, stopped, silent or hostile: nothing."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from helpers import interrupt
from helpers.examples import examples
from helpers.leaks import descriptors
from helpers.publishing import EACH, ROUNDS, Client, Process, Ring, bad_messages, serve_until
from hypothesis import given
from hypothesis import strategies as st

import dmabuf
from dmabuf import _scm
from dmabuf.share import Publisher, Subscriber, _messages, _wire
from dmabuf.share._messages import Policy, Start

Allocate = Callable[..., dmabuf.Buffer]
Tell = Callable[[bytes], None]
_CLONE_NEWPID = 0x20000000  # include/uapi/linux/sched.h
PAYLOADS = {kind: bytes(8) for kind in _wire.Kind}


@pytest.fixture
def publisher(path: str, ring: Ring) -> Iterator[Publisher]:
    with Publisher(path, hold_timeout=0.3) as publisher:
        yield publisher


@pytest.fixture
def good(path: str, publisher: Publisher) -> Iterator[Subscriber]:
    """Give one that is to get every item, whatever others do."""
    with Subscriber(path) as good:
        yield good


def gets_a_frame(good: Subscriber, publisher: Publisher, ring: Ring) -> None:
    """Have a good subscriber get an item that is published now."""
    good.fileno()  # asks
    publisher.service()
    publisher.publish(ring.frame())
    with good.frame(0) as frame:
        assert frame.dropped == 0


def holding(
    client: Client, good: Subscriber, publisher: Publisher, ring: Ring
) -> _messages.FrameMessage:
    """Have a client hold a frame, which the good one has given back."""
    client.hello()
    client.want()
    gets_a_frame(good, publisher, ring)
    return client.frame()


NAMES = list(
    bad_messages(_messages.FrameMessage(0, 0, 0, (_messages.SharedMemory(0, 1, 0),), None, b""))
)


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_message_ends_its_sender_alone(
    path: str, publisher: Publisher, good: Subscriber, ring: Ring, name: str
) -> None:
    gets_a_frame(good, publisher, ring)
    before = descriptors()
    with Client(path) as client:
        frame = holding(client, good, publisher, ring)
        client.sock.send(bad_messages(frame)[name])
        publisher.service()
        assert [info.pid for info in publisher.subscribers()] == [os.getpid()]
        assert client.message() == _messages.Bye(_messages.Reason.REFUSED)
        assert client.message() is None
    gets_a_frame(good, publisher, ring)
    gets_a_frame(good, publisher, ring)
    assert descriptors() == before + 3  # memories that the good one had not seen before


def test_a_descriptor_that_a_subscriber_sends_is_closed(
    path: str, publisher: Publisher, good: Subscriber, ring: Ring
) -> None:
    gets_a_frame(good, publisher, ring)
    before = descriptors()
    for packet in (_wire.pack_hello(1, Policy.LATEST, Start.NEXT), b"", b"x"):
        with Client(path) as client:
            if packet:
                _scm.send(client.sock, (packet,), [0] * 253)
            publisher.service()
    publisher.service()
    assert len(publisher.subscribers()) == 1
    assert descriptors() == before


def test_no_packets_cost_others_a_frame(path: str, publisher: Publisher, ring: Ring) -> None:
    packets = st.one_of(
        st.binary(min_size=1, max_size=100),
        st.builds(
            lambda kind, payload: _wire._packed(kind, payload),
            st.sampled_from(list(_wire.Kind)),
            st.binary(max_size=40),
        ),
        st.builds(_wire.pack_want, st.integers(0, 3)),
        st.builds(_wire.pack_release, st.integers(0, 3), st.integers(0, 9), st.integers(0, 50)),
        st.builds(
            _wire.pack_hello, st.integers(0, 3), st.sampled_from(Policy), st.sampled_from(Start)
        ),
    )

    with Subscriber(path) as good:

        @examples(60)
        @given(st.lists(packets, max_size=6))
        def fuzz(sent: list[bytes]) -> None:
            with Client(path) as client:
                client.hello()
                with contextlib.suppress(OSError):
                    for packet in sent:
                        client.sock.send(packet)
                        publisher.service()
                gets_a_frame(good, publisher, ring)
            publisher.service()

        fuzz()
        assert len(publisher.subscribers()) == 1


def test_who_floods_it_with_what_may_be_skipped_keeps_no_publisher(
    path: str, publisher: Publisher, good: Subscriber, ring: Ring
) -> None:
    def flood(tell: Tell) -> None:
        with Client(path) as client:
            client.hello()
            tell(b"begins")
            while True:
                client.sock.send(_wire._packed(99, b"", _wire.OPTIONAL))

    with Process(flood) as process:
        assert process.hear() == b"begins"
        for _ in range(100):
            gets_a_frame(good, publisher, ring)


def test_who_says_nothing_is_let_go(path: str, publisher: Publisher) -> None:
    with Client(path) as silent:
        publisher.service()
        serve_until(publisher, lambda: hung_up(silent))


def hung_up(client: Client) -> bool:
    """Whether the publisher has ended the connection."""
    client.sock.setblocking(False)
    try:
        return client.message() is None
    except BlockingIOError:
        return False
    finally:
        client.sock.setblocking(True)


def test_who_does_not_read_is_let_go(
    path: str, publisher: Publisher, good: Subscriber, ring: Ring
) -> None:
    with Client(path) as deaf:
        frame = holding(deaf, good, publisher, ring)
        first = frame.memories[0]
        sequence = frame.sequence
        while True:
            with contextlib.suppress(BrokenPipeError):
                deaf.sock.send(_wire.pack_release(first.slot, first.generation, sequence))
                deaf.want()
            good.fileno()
            publisher.service()
            if len(publisher.subscribers()) == 1:
                break
            publisher.publish(ring.frame())
            with good.frame(0) as seen:
                sequence = seen.sequence
            first = memory_of(publisher, sequence, first)


def memory_of(
    publisher: Publisher, sequence: int, before: _messages.SharedMemory
) -> _messages.SharedMemory:
    """Return what the deaf one would have read."""
    for peer in publisher._delivery.peers:
        if sequence in peer.held:
            memory = peer.held[sequence][0].memories[0]
            return _messages.SharedMemory(memory.slot, memory.generation, 0)
    return before


STAGES = ("connected", "joined", "asked", "sent", "held", "reading", "given back", "asked again")


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_subscriber_leaves_nothing(
    path: str, publisher: Publisher, good: Subscriber, ring: Ring, stage: str
) -> None:
    def consume(tell: Tell) -> None:
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(Client(path))
            reached(tell, "connected")
            client.hello()
            reached(tell, "joined")
            client.want()
            reached(tell, "asked")
            tell(b"wait")
            client.sock.recv(1, 2)  # MSG_PEEK: it is there, and not taken
            reached(tell, "sent")
            with _scm.receive(client.sock, _wire.MOST_BYTES):
                pass
            with _scm.receive(client.sock, _wire.MOST_BYTES) as packet:
                frame = _wire.unpack(packet.data, packet.count)
                packet.adopt([dmabuf.Buffer])
                buffer = stack.enter_context(packet.take()[0])
            reached(tell, "held")
            with buffer.read():
                reached(tell, "reading")
            client.release(frame)
            reached(tell, "given back")
            client.want()
            reached(tell, "asked again")

    def reached(tell: Tell, this: str) -> None:
        if this == stage:
            tell(b"here")
            signal.pause()

    publisher.service()
    before = descriptors()
    for _ in range(EACH):
        with Process(consume) as process:
            if process.hear() == b"wait":
                publisher.service()
                publisher.publish(ring.frame())
                assert process.hear() == b"here"
            publisher.service()
            process.kill()
            process.wait()
        serve_until(publisher, lambda: len(publisher.subscribers()) == 1)
        serve_until(publisher, lambda: not publisher.quarantined)
        for _ in range(ring.count + 1):
            good.fileno()
            publisher.service()
            publisher.publish(ring.frame())
            good.frame(0).close()
        publisher.service()
        assert len(ring.free) == ring.count - 1  # the last is kept
        assert descriptors() == before + ring.count  # the good one's


def test_subscribers_that_are_killed_at_random_leave_nothing(
    path: str, publisher: Publisher, ring: Ring
) -> None:
    def consume(tell: Tell) -> None:
        with Subscriber(path, depth=2, policy="queue") as subscriber:
            tell(b"ready")
            for frame in subscriber:
                with frame, frame.buffers[0].read():
                    pass

    before = descriptors()
    for _ in range(ROUNDS):
        with Process(consume) as process:
            end = time.monotonic() + random.uniform(0, 0.05)
            while time.monotonic() < end:
                publisher.publish(ring.frame())
                publisher.service(0.002)
            process.kill()
            process.wait()
    serve_until(publisher, lambda: not publisher.subscribers())
    serve_until(publisher, lambda: not publisher.quarantined)
    serve_until(publisher, lambda: descriptors() == before)  # those who had said nothing too
    assert len(ring.free) >= ring.count - 1


def stopped(path: str) -> Process:
    """Return a process that holds a frame and is stopped."""

    def consume(tell: Tell) -> None:
        with Subscriber(path) as subscriber:
            tell(b"ready")
            with subscriber.frame(60), contextlib.suppress(ConnectionError):
                tell(b"held")
                time.sleep(0.2)
            with contextlib.suppress(ConnectionError):
                subscriber.frame(60)
                tell(b"still served")
            tell(b"told")

    process = Process(consume)
    assert process.hear() == b"ready"
    return process


def test_a_stopped_subscriber_costs_what_it_holds_and_only_for_a_time(
    path: str, publisher: Publisher, good: Subscriber, ring: Ring
) -> None:
    with stopped(path) as process:
        serve_until(publisher, lambda: len(publisher.subscribers()) == 2)
        while sum(info.held for info in publisher.subscribers()) == 0:
            gets_a_frame(good, publisher, ring)
            publisher.service(0.01)
        assert process.hear() == b"held"
        process.kill(signal.SIGSTOP)
        quarantined = False
        while len(publisher.subscribers()) == 2 or publisher.quarantined:
            gets_a_frame(good, publisher, ring)
            quarantined |= publisher.quarantined == 1
            publisher.service(0.01)
        assert quarantined
        for _ in range(3):
            gets_a_frame(good, publisher, ring)
        process.kill(signal.SIGCONT)
        while not (word := process.hear()):
            publisher.service(0.01)
        assert word == b"told"
        assert process.wait() == 0


@pytest.mark.parametrize("depth", [1, 30])
def test_who_gave_back_while_the_publisher_was_away_stays(
    path: str, allocate: Allocate, depth: int
) -> None:
    """As of one that publishes every minute, and does not serve meanwhile."""
    with (
        contextlib.closing(Ring(allocate, depth + 1)) as ring,
        Publisher(path, in_flight=depth, hold_timeout=1, keep_last=False) as publisher,
        Client(path) as client,
    ):
        client.hello(depth)
        client.want(depth)
        for _ in range(depth):
            publisher.publish(ring.frame())
        for _ in range(depth):
            client.release(client.frame())
            client.want()
        time.sleep(1.2)
        publisher.publish(ring.frame())
        assert [info.held for info in publisher.subscribers()] == [1]


def test_what_a_stopped_one_held_is_given_back_when_it_ends(path: str, allocate: Allocate) -> None:
    with Publisher(path, hold_timeout=0.2, keep_last=False) as publisher:
        with stopped(path) as process:
            serve_until(publisher, lambda: len(publisher.subscribers()) == 1)
            while not publisher.subscribers()[0].delivered:
                buffer = allocate(4096)
                publisher.publish(buffer)
                publisher.service(0.01)
            assert process.hear() == b"held"
            process.kill(signal.SIGSTOP)
            serve_until(publisher, lambda: publisher.quarantined == 1)
            process.kill()
            process.wait()
            serve_until(publisher, lambda: publisher.quarantined == 0)
        assert buffer.closed


def test_the_publishers_own_look_at_a_frame_is_nobody_elses(path: str, ring: Ring) -> None:
    """Its mapping is one reference more than there was before the first subscriber had it."""

    def consume(tell: Tell) -> None:
        with Subscriber(path) as subscriber:
            tell(b"ready")
            with subscriber.frame(60):
                tell(b"held")
                signal.pause()

    with Publisher(path, keep_last=False) as publisher, Process(consume) as process:
        assert process.hear() == b"ready"
        serve_until(publisher, lambda: bool(publisher.subscribers()))
        frame = ring.frame()
        publisher.publish(frame)
        serve_until(publisher, process.has_told)
        with frame.buffers[0].read():
            process.kill()
            process.wait()
        serve_until(publisher, lambda: not publisher.subscribers())
        assert publisher.quarantined == 0
        assert len(ring.free) == ring.count


def test_nobody_can_drain_the_ring_by_connecting_again(
    path: str, publisher: Publisher, good: Subscriber, ring: Ring
) -> None:
    kept = []
    for _ in range(ring.count * 3):
        with Client(path) as client:
            client.hello()
            client.want()
            gets_a_frame(good, publisher, ring)
            _scm.receive(client.sock, _wire.MOST_BYTES).close()  # WELCOME
            with _scm.receive(client.sock, _wire.MOST_BYTES) as packet:
                packet.adopt([dmabuf.Buffer])
                kept.extend(packet.take())
        publisher.service()
        assert publisher.quarantined <= 1
    for buffer in kept:
        buffer.close()
    gets_a_frame(good, publisher, ring)


def test_what_a_dead_ones_child_keeps_is_quarantined_and_then_recycled(
    path: str, allocate: Allocate
) -> None:
    end, keep = os.pipe()

    def consume(tell: Tell) -> None:
        os.close(keep)
        subscriber = Subscriber(path, start="last")
        with subscriber, subscriber.frame(60) as frame, frame.buffers[0].read():
            if os.fork():
                os._exit(0)
            tell(b"child")
            os.read(end, 1)  # until the test ends

    with contextlib.ExitStack() as stack:
        stack.callback(os.close, end)
        stack.callback(os.close, keep)
        publisher = stack.enter_context(Publisher(path, hold_timeout=0.5))
        buffer = allocate(4096)
        publisher.publish(buffer)
        with Process(consume) as process:
            serve_until(publisher, lambda: bool(publisher.subscribers()))
            serve_until(publisher, lambda: not publisher.subscribers())
            assert process.hear() == b"child"
            assert process.wait() == 0
            publisher.publish(allocate(4096))
            assert publisher.quarantined == 1
            assert not buffer.closed
            serve_until(publisher, lambda: publisher.quarantined == 0)
            assert buffer.closed


@pytest.mark.needs("root")
def test_a_subscriber_in_another_pid_namespace_is_named_as_it_is_seen(path: str) -> None:
    def consume(tell: Tell) -> None:
        assert ctypes.CDLL(None).unshare(_CLONE_NEWPID) == 0
        child = os.fork()
        if child:
            tell(str(child).encode())
            os.waitpid(child, 0)
            return
        with Subscriber(path) as subscriber:
            assert os.getpid() == 1
            with contextlib.suppress(EOFError):
                subscriber.frame(60)
        os._exit(0)

    with Publisher(path) as publisher, Process(consume) as process:
        child = int(process.hear())
        serve_until(publisher, lambda: bool(publisher.subscribers()))
        assert publisher.subscribers()[0][:2] == (child, 0)
        publisher.close()
        assert process.wait() == 0


def test_subscribers_are_told_of_an_end_amid_their_message(path: str, ring: Ring) -> None:
    """As by Ctrl-C, which comes while the publisher hears one."""
    for moment in interrupt.every_point():
        with Publisher(path) as publisher, Subscriber(path) as subscriber:
            subscriber.fileno()  # asks
            publisher.service()
            publisher.publish(ring.frame())
            subscriber.frame(0).close()
            subscriber.fileno()
            moment.interrupts(publisher.service)
            publisher.close()
            with pytest.raises(EOFError, match="has closed"):
                subscriber.frame(0)
            assert len(ring.free) == ring.count, moment.where
