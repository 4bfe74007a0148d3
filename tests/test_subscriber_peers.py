"""What a bad publisher can do to its subscribers: end their connection, and nothing else."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest
from helpers.examples import examples
from helpers.leaks import descriptors, kernel_buffers
from helpers.process import descriptors_left
from helpers.publishing import EACH, ROUNDS, SECONDS, Process, serve_until
from hypothesis import given
from hypothesis import strategies as st

import dmabuf
from dmabuf import _scm
from dmabuf.share import Publisher, SharedFrame, Subscriber, _connection, _packets, _wire
from dmabuf.share._messages import Layout, SharedMemory, SharedPlane
from dmabuf.share._wire import FramePacker

Allocate = Callable[..., dmabuf.Buffer]
Tell = Callable[[bytes], None]


class Server:
    """A listening socket that says whatever it is told to."""

    def __init__(self, path: str) -> None:
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listening.bind(path)
        self._listening.listen()
        self.sock: socket.socket | None = None

    def accept(self) -> None:
        """Take the next subscriber, and leave the one before."""
        if self.sock is not None:
            self.sock.close()
        self.sock, _ = self._listening.accept()
        self.sock.settimeout(SECONDS)

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
        self._listening.close()


@pytest.fixture
def server(path: str) -> Iterator[Server]:
    with contextlib.closing(Server(path)) as server:
        yield server


@pytest.fixture
def subscriber(path: str, server: Server) -> Iterator[Subscriber]:
    """Give one that has asked."""
    with Subscriber(path, depth=2) as subscriber:
        server.accept()
        with pytest.raises(TimeoutError):
            subscriber.frame(0)
        yield subscriber


def frame(
    *memories: SharedMemory, sequence: int = 0, new: int = 1, layout: Layout | None = None
) -> bytes:
    return FramePacker(sequence, 0, memories or (SharedMemory(0, 1, 4096),), layout, b"").pack(new)


def grey(stride: int = 64, offset: int = 0, format: str = "R8", modifier: int = 0) -> Layout:
    return Layout(format, 64, 64, modifier, (SharedPlane(0, stride, offset),))


WELCOME = _wire.pack_welcome(0)
BAD: dict[str, tuple[list[bytes], int]] = {
    "garbage": ([b"\xff" * 64], 0),
    "a torn header": ([WELCOME[:9]], 0),
    "another version": ([b"DMAR\2" + WELCOME[5:]], 0),
    "a second WELCOME": ([WELCOME, WELCOME], 0),
    "a frame before WELCOME": ([frame()], 1),
    "what only subscribers say": ([_wire.pack_want(1)], 0),
    "a frame without its descriptor": ([WELCOME, frame()], 0),
    "a surplus descriptor": ([WELCOME, frame()], 2),
    "a descriptor with WELCOME": ([WELCOME], 1),
    "a descriptor without bytes": ([b""], 1),
    "an unknown memory": ([WELCOME, frame(new=0)], 0),
    "more bytes than its buffer has": ([WELCOME, frame(SharedMemory(0, 1, 1 << 40))], 1),
    "a plane outside of its buffer": ([WELCOME, frame(layout=grey(offset=4096))], 1),
    "a stride beyond its buffer": ([WELCOME, frame(layout=grey(stride=2**32 - 1))], 1),
    "a stride that is too short": ([WELCOME, frame(layout=grey(stride=1))], 1),
    "planes that the format hasn't": ([WELCOME, frame(layout=grey(format="NV12"))], 1),
    "RETIRE of what never was": ([WELCOME, _wire.pack_retire(0, 1)], 0),
    "more than a packet": ([bytes(_wire.MOST_BYTES + 1)], 0),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_message_ends_the_connection(
    server: Server, subscriber: Subscriber, allocate: Allocate, name: str
) -> None:
    packets, count = BAD[name]
    before = descriptors()
    with allocate(4096) as buffer:
        for packet in packets[:-1]:
            _scm.send(server.sock, (packet,))
        _scm.send(server.sock, (packets[-1],), [buffer.fileno()] * count)
        with pytest.raises(ConnectionError, match="sent an invalid message"):
            subscriber.frame(60)
    assert descriptors() == before - 1  # its connection
    with pytest.raises(ConnectionError, match="sent an invalid message"):
        subscriber.frame(0)


def test_what_is_no_dma_buf_is_refused(server: Server, subscriber: Subscriber) -> None:
    before = descriptors()
    _scm.send(server.sock, (WELCOME,))
    with open("/dev/null", "rb") as other:
        _scm.send(server.sock, (frame(),), [other.fileno()])
        with pytest.raises(ConnectionError, match="/dev/null"):
            subscriber.frame(60)
    assert descriptors() == before - 1


def test_frames_that_were_not_asked_for_are_never_more_than_the_depth(
    server: Server, subscriber: Subscriber, allocate: Allocate
) -> None:
    _scm.send(server.sock, (WELCOME,))
    with allocate(4096) as buffer:
        _scm.send(server.sock, (frame(),), [buffer.fileno()])
        _scm.send(server.sock, (frame(sequence=1, new=0),))
        _scm.send(server.sock, (frame(sequence=2, new=0),))
        refusal = pytest.raises(dmabuf.RefusedError, match="holds 2 frames, its depth")
        with subscriber.frame(60), subscriber.frame(60), refusal:
            subscriber.frame(60)
        with subscriber.frame(60) as third:
            assert third.sequence == 2


def test_a_format_that_is_unknown_here_is_no_fault(
    server: Server, subscriber: Subscriber, allocate: Allocate
) -> None:
    _scm.send(server.sock, (WELCOME,))
    with allocate(4096) as buffer:
        _scm.send(server.sock, (frame(layout=grey(format="NEW9")),), [buffer.fileno()])
        with subscriber.frame(60) as held:
            assert held.buffers == (buffer,)
            with pytest.raises(ValueError, match="does not know"):
                held.image  # noqa: B018


def test_an_unknown_message_is_skipped_if_it_is_optional(
    server: Server, subscriber: Subscriber, allocate: Allocate
) -> None:
    _scm.send(server.sock, (WELCOME,))
    _scm.send(server.sock, (struct.pack("<4sBBHIHH", b"DMAR", 1, 9, 77, 0, 0, 1),))
    with allocate(4096) as buffer:
        _scm.send(server.sock, (frame(),), [buffer.fileno()])
        subscriber.frame(60).close()


def test_a_publisher_that_sends_no_frame_but_all_else_without_end_hangs_nobody(
    server: Server, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connection, "_MOST_AT_ONCE", 20)
    for _ in range(21):
        server.sock.send(_wire.pack_busy(1, 1))
    with pytest.raises(ConnectionError, match="20 messages at once, and no frame among them"):
        subscriber.frame(60)


def test_a_publisher_that_sends_nothing_hangs_nobody(subscriber: Subscriber) -> None:
    with pytest.raises(TimeoutError):
        subscriber.frame(0.05)
    subscriber.close()


def test_a_publisher_that_reads_nothing_ends_its_connection(
    server: Server, subscriber: Subscriber, allocate: Allocate
) -> None:
    _scm.send(server.sock, (WELCOME,))
    with allocate(4096) as buffer:
        _scm.send(server.sock, (frame(),), [buffer.fileno()])
        subscriber.frame(60).close()

        def flood() -> None:
            sequence = 0
            while True:
                sequence += 1
                with contextlib.suppress(TimeoutError):
                    subscriber.frame(0).close()
                _scm.send(server.sock, (frame(sequence=sequence, new=0),))

        with pytest.raises((ConnectionError, BlockingIOError)):
            flood()


def check(frame: SharedFrame, buffer: dmabuf.Buffer) -> None:
    """Give a frame back, after a look at its memory."""
    with frame, frame.buffers[0].read() as memory:
        assert frame.buffers[0] == buffer
        assert len(memory) == buffer.size


def test_no_packets_do_more_than_end_the_connection(
    path: str, server: Server, allocate: Allocate
) -> None:
    numbers = st.integers(0, 2)
    packets = st.one_of(
        st.tuples(st.binary(min_size=1, max_size=120), numbers),
        st.tuples(
            st.builds(_wire._packed, st.sampled_from(list(_wire.Kind)), st.binary(max_size=80)),
            numbers,
        ),
        st.tuples(
            st.builds(
                lambda slot, generation, used, sequence, new, layout: frame(
                    SharedMemory(slot, generation, used),
                    sequence=sequence,
                    new=new,
                    layout=layout,
                ),
                numbers,
                numbers,
                st.integers(0, 8192),
                numbers,
                st.integers(0, 1),
                st.one_of(st.none(), st.builds(grey, st.integers(0, 200), st.integers(0, 5000))),
            ),
            numbers,
        ),
        st.tuples(st.builds(_wire.pack_retire, numbers, numbers), st.just(0)),
    )

    with allocate(4096) as buffer:

        @examples(80)
        @given(st.lists(packets, max_size=5))
        def fuzz(sent: list[tuple[bytes, int]]) -> None:
            before = descriptors()
            with Subscriber(path, depth=2) as subscriber:
                server.accept()
                with contextlib.suppress(TimeoutError):
                    subscriber.frame(0)
                _scm.send(server.sock, (WELCOME,))
                for packet, count in sent:
                    with contextlib.suppress(OSError):
                        _scm.send(server.sock, (packet,), [buffer.fileno()] * count)
                    with contextlib.suppress(TimeoutError, OSError, EOFError):
                        check(subscriber.frame(0), buffer)
            server.sock.close()
            assert descriptors() <= before

        fuzz()


@pytest.mark.needs("heap")
def test_a_frame_of_read_only_memory_can_be_read_and_not_written(
    server: Server, subscriber: Subscriber
) -> None:
    _scm.send(server.sock, (WELCOME,))
    with dmabuf.Heap("system") as heap:
        buffer = heap.allocate(4096, access=dmabuf.Access.READ)
    with buffer:
        _scm.send(server.sock, (frame(layout=grey()),), [buffer.fileno()])
        with subscriber.frame(60) as held:
            with held.image.read() as planes:
                assert planes[0].shape == (64, 64)
            with pytest.raises(PermissionError), held.buffers[0].write():
                pass


def test_a_subscriber_without_descriptors_left_says_so(
    server: Server, subscriber: Subscriber, allocate: Allocate
) -> None:
    _scm.send(server.sock, (WELCOME,))
    with allocate(4096) as buffer:
        _scm.send(server.sock, (frame(),), [buffer.fileno()])
        with descriptors_left(0), pytest.raises(OSError, match="RLIMIT_NOFILE"):
            subscriber.frame(60)


def published(path: str, allocate: Allocate, tell: Tell, frames: Iterable[int]) -> None:
    """Publish so many frames, each once the one before is given back, and close."""
    with Publisher(path, keep_last=False) as publisher:
        tell(b"ready")
        serve_until(publisher, lambda: bool(publisher.subscribers()))
        for number in frames:
            buffer = allocate(4096)
            with buffer.write() as memory:
                memory[0] = number & 255
            publisher.publish(buffer)
            serve_until(publisher, partial(getattr, buffer, "closed"))


def taken(subscriber: Subscriber) -> int:
    """Take frames until the publisher has closed; ConnectionResetError if it died."""
    count = 0
    for frame in subscriber:
        with frame, frame.buffers[0].read() as memory:
            assert memory[0] == frame.sequence & 255
        count += 1
    return count


def test_a_publisher_that_is_killed_at_any_message_leaves_nothing(
    path: str, allocate: Allocate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def publish(left: int, tell: Tell) -> None:
        messages = itertools.count(1)
        send = _packets.send

        def send_and_die(*arguments: Any) -> None:
            send(*arguments)
            if next(messages) == left:
                os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(_packets, "send", send_and_die)
        published(path, allocate, tell, range(3))

    before = descriptors(), kernel_buffers()
    for _ in range(EACH):
        outcomes = []
        for left in itertools.count(1):
            with Process(partial(publish, left)) as process:
                assert process.hear() == b"ready"
                with Subscriber(path, policy="every") as subscriber:
                    try:
                        assert taken(subscriber) == 3
                        outcomes.append("closed")
                    except ConnectionResetError:
                        outcomes.append("died")
                killed = process.wait() == -signal.SIGKILL
            assert (descriptors(), kernel_buffers()) == before
            if not killed:
                break
        # After WELCOME, each of three frames and each RETIRE; after BYE, and not at all.
        assert outcomes == ["died"] * 7 + ["closed"] * 2


def test_publishers_that_are_killed_at_random_leave_nothing(path: str, allocate: Allocate) -> None:
    def publish(tell: Tell) -> None:
        published(path, allocate, tell, itertools.count())

    before = descriptors(), kernel_buffers()
    for _ in range(ROUNDS):
        with Process(publish) as process:
            assert process.hear() == b"ready"
            with Subscriber(path, policy="queue", depth=2) as subscriber:
                killer = threading.Timer(random.uniform(0, 0.1), process.kill)
                killer.start()
                with pytest.raises(ConnectionResetError):
                    taken(subscriber)
                killer.join()
            assert process.wait() == -signal.SIGKILL
        assert (descriptors(), kernel_buffers()) == before
