"""Messages over Unix sockets: whole or not at all, and nothing that is left."""

import asyncio
import contextlib
import errno
import gc
import itertools
import os
import resource
import signal
import socket
import struct
import threading

import pytest
from helpers import fences, interrupt, sharing
from helpers.process import NOBODY, Child, descriptors_left, in_child
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dmabuf
from dmabuf import _message, share

STREAM, PACKETS, DATAGRAMS = socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM
KINDS = {"stream": STREAM, "packets": PACKETS, "datagrams": DATAGRAMS}
CONNECTED = [STREAM, PACKETS]
HEADER = struct.Struct("<4sBBHQIIII")


@contextlib.contextmanager
def socketpair(kind):
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs:
        theirs.settimeout(30)
        yield ours, theirs


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS))
def pair(request):
    with socketpair(request.param) as pair:
        yield pair


@pytest.fixture(params=CONNECTED, ids=["stream", "packets"])
def connected(request):
    with socketpair(request.param) as pair:
        yield pair


@pytest.fixture
def other(allocate):
    with allocate(8192) as buffer:
        yield buffer


class TestAMessage:
    def test_brings_the_same_memory(self, pair, buffer):
        share.send(pair[0], [buffer])
        with share.receive(pair[1]) as received:
            (ours,) = received.objects
            assert ours == buffer
            assert ours.fileno() != buffer.fileno()
            sharing.mark(ours)
        assert sharing.marked(buffer)

    def test_brings_bytes_as_they_are(self, pair):
        for message in (b"", b"\0", b"x" * 100_000, bytearray(b"abc"), memoryview(b"abc")):
            share.send(pair[0], [], message)
            received = share.receive(pair[1])
            assert received.message == bytes(message)
            assert received.objects == []

    def test_stays_apart_from_the_next_one(self, pair, buffer, other):
        sent = [[buffer], [], [buffer, other], [other], []]
        for index, objects in enumerate(sent):
            share.send(pair[0], objects, bytes([index]) * index)
        for index, objects in enumerate(sent):
            with share.receive(pair[1]) as received:
                assert received.objects == objects
                assert received.message == bytes([index]) * index

    def test_brings_images_with_their_layout(self, pair, buffer, other):
        images = [
            dmabuf.Image(buffer, "NV12", 32, 16, strides=64, offsets=[64, 4096]),
            dmabuf.Image([buffer, other], "NV12", 32, 16),
            dmabuf.Image(other, "XRGB8888", 16, 16, modifier=1 << 56 | 1),
            dmabuf.Image(other, "SRGGB10P", 32, 8),
        ]
        share.send(pair[0], [*images, buffer])
        with share.receive(pair[1]) as received:
            *theirs, last = received.objects
            for image, sent in zip(theirs, images, strict=True):
                assert image.planes == sent.planes
                assert image.format is sent.format
                assert image.modifier == sent.modifier
                assert (image.width, image.height) == (sent.width, sent.height)
            assert theirs[0].buffers[0] is theirs[1].buffers[0] is last

    def test_sends_memory_once_however_often_it_is_named(self, pair, buffer):
        with buffer.dup() as again:
            share.send(pair[0], [buffer, again, dmabuf.Image(buffer, "R8", 64, 64)])
        before = len(os.listdir("/proc/self/fd"))
        with share.receive(pair[1]) as received:
            assert len(os.listdir("/proc/self/fd")) == before + 1
            assert received.objects[0] is received.objects[1]

    def test_brings_fences_which_signal_for_both(self, pair, pending, buffer):
        share.send(pair[0], [pending.fence, buffer, pending.fence])
        with share.receive(pair[1]) as received:
            fence, _, again = received.objects
            assert again is fence
            assert not fence.signaled
            pending.signal()
            assert fence.wait(10)

    def test_is_the_same_from_a_buffer_and_from_a_list(self, pair, buffer):
        buffer.send(pair[0])
        with share.receive(pair[1]) as received:
            assert received.objects == [buffer]
        share.send(pair[0], [buffer])
        with dmabuf.Buffer.receive(pair[1]) as received:
            assert received == buffer
        buffer.send(pair[0])
        with dmabuf.Buffer.receive(pair[1]) as received:
            assert received == buffer

    @pytest.mark.parametrize("objects", [0, 2], ids=["nothing", "two"])
    def test_of_anything_but_one_buffer_is_no_buffer(self, pair, buffer, other, objects):
        share.send(pair[0], [buffer, other][:objects])
        with pytest.raises(share.MessageError):
            dmabuf.Buffer.receive(pair[1])

    def test_names_its_sender_where_the_socket_was_told_to(self, pair):
        share.send(pair[0], [])
        assert share.receive(pair[1]).sender is None
        pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        sender = in_child(lambda: (share.send(pair[0], []), os.getpid())[1])
        assert share.receive(pair[1]).sender == (sender, os.getuid(), os.getgid())

    def test_needs_no_device_at_its_receiver(self, pair, buffer):
        def receive():
            with share.receive(pair[1]) as received:
                return sharing.mark_and_close(received.objects[0])

        share.send(pair[0], [buffer])
        assert in_child(receive, user=NOBODY) == buffer.inode
        assert sharing.marked(buffer)

    def test_closes_what_came_at_the_end_of_its_block(self, pair, buffer):
        share.send(pair[0], [buffer, dmabuf.Image(buffer, "R8", 64, 64)])
        with share.receive(pair[1]) as received:
            ours = received.objects[0]
        assert ours.closed
        received.close()


class TestManyDescriptors:
    def test_arrive_whole_over_connections(self, connected, allocate):
        with contextlib.ExitStack() as stack:
            stack.enter_context(fences.many_descriptors(2000))
            buffers = [stack.enter_context(allocate(4096)) for _ in range(520)]
            sender = threading.Thread(target=share.send, args=(connected[0], buffers, b"all"))
            sender.start()
            with share.receive(connected[1]) as received:
                assert received.objects == buffers
                assert received.message == b"all"
            sender.join()

    def test_are_refused_over_datagrams(self, allocate):
        with contextlib.ExitStack() as stack, socketpair(DATAGRAMS) as (ours, theirs):
            buffers = [stack.enter_context(allocate(4096)) for _ in range(254)]
            with pytest.raises(ValueError, match="at most 253 descriptors, not 254"):
                share.send(ours, buffers)
            share.send(ours, buffers[:253])
            with share.receive(theirs) as received:
                assert received.objects == buffers[:253]

    @pytest.mark.parametrize("free", [0, 1, 5])
    def test_beyond_the_limit_are_emfile_and_leave_nothing(self, pair, buffer, other, free):
        share.send(pair[0], [buffer, other])
        before = len(os.listdir("/proc/self/fd"))
        if free >= 2:
            with descriptors_left(free), share.receive(pair[1]) as received:
                assert received.objects == [buffer, other]
        else:
            with (
                descriptors_left(free),
                pytest.raises(OSError, match=r"RLIMIT_NOFILE.*ulimit -n") as failure,
            ):
                share.receive(pair[1])
            assert failure.value.errno == errno.EMFILE
        assert len(os.listdir("/proc/self/fd")) == before


class TestASocket:
    def test_that_is_none_is_refused(self, buffer):
        for sock in (3, "/run/x", buffer):
            with pytest.raises(TypeError, match="must be a socket"):
                share.send(sock, [buffer])
            with pytest.raises(TypeError, match="must be a socket"):
                share.receive(sock)
        with socket.socket() as internet, pytest.raises(ValueError, match="AF_UNIX"):
            share.send(internet, [buffer])

    def test_that_is_not_connected_stays_usable(self, buffer, tmp_path):
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
            for call in (lambda: share.send(client, [buffer]), lambda: share.receive(client)):
                with pytest.raises(OSError, match=r"not connected|Invalid argument"):
                    call()
            listener.bind(str(tmp_path / "socket"))
            listener.listen()
            client.connect(str(tmp_path / "socket"))
            share.send(client, [buffer])
            with listener.accept()[0] as server, share.receive(server) as received:
                assert received.objects == [buffer]

    def test_whose_peer_has_closed_is_the_end(self, connected):
        connected[0].close()
        for _ in range(2):
            with pytest.raises(EOFError, match="closed the connection"):
                share.receive(connected[1])
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            share.send(connected[1], [])

    def test_times_out_and_goes_on(self, pair, buffer):
        pair[1].settimeout(0.01)
        with pytest.raises(TimeoutError):
            share.receive(pair[1])
        share.send(pair[0], [buffer])
        with share.receive(pair[1]) as received:
            assert received.objects == [buffer]

    def test_that_does_not_block_says_so_and_goes_on(self, pair, buffer):
        pair[1].setblocking(False)
        with pytest.raises(BlockingIOError):
            share.receive(pair[1])
        share.send(pair[0], [buffer])
        with share.receive(pair[1]) as received:
            assert received.objects == [buffer]

    def test_that_is_full_sends_nothing_of_a_message(self, pair):
        pair[0].setblocking(False)
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                share.send(pair[0], [], str(count).encode())
                count += 1
        for index in range(count):
            assert share.receive(pair[1]).message == str(index).encode()

    def test_that_times_out_in_the_middle_is_shut_down(self, connected, buffer):
        connected[0].settimeout(0.05)
        with pytest.raises(TimeoutError):
            share.send(connected[0], [buffer], b"x" * (1 << 24))
        with pytest.raises((ConnectionResetError, share.MessageError)):
            share.receive(connected[1], limit=1 << 25)
        with pytest.raises(BrokenPipeError):
            share.send(connected[0], [])

    @pytest.mark.parametrize("kind", CONNECTED, ids=["stream", "packets"])
    def test_that_never_gets_the_rest_of_a_message_is_shut_down(self, kind):
        with socketpair(kind) as (ours, theirs):
            theirs.settimeout(0.05)
            ours.send(HEADER.pack(b"DMAS", 1, 0, 0, 7, 4, 0, 4, 4) + struct.pack("<I", 0))
            with pytest.raises(TimeoutError):
                share.receive(theirs)
            with pytest.raises(BrokenPipeError):
                ours.send(b"more")


class TestInAnEventLoop:
    def run(self, kind, main):
        async def timed(*sockets):
            await asyncio.wait_for(main(*sockets), 60)

        with socketpair(kind) as (ours, theirs):
            ours.setblocking(False)
            theirs.setblocking(False)
            asyncio.run(timed(ours, theirs))

    @pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
    def test_tasks_take_turns(self, kind, buffer):
        async def main(ours, theirs):
            messages = [bytes([index]) * 100_000 for index in range(8)]
            receives = [asyncio.create_task(share.receive_async(theirs)) for _ in messages]
            await asyncio.gather(*(share.send_async(ours, [buffer], text) for text in messages))
            for receive, message in zip(receives, messages, strict=True):
                with await receive as received:
                    assert received.objects == [buffer]
                    assert received.message == message

        self.run(kind, main)

    @pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
    def test_a_receive_that_is_cancelled_before_a_message_loses_nothing(self, kind, buffer):
        async def main(ours, theirs):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(share.receive_async(theirs), 0.01)
            await share.send_async(ours, [buffer])
            with await share.receive_async(theirs) as received:
                assert received.objects == [buffer]

        self.run(kind, main)

    @pytest.mark.parametrize("kind", CONNECTED, ids=["stream", "packets"])
    def test_a_send_that_is_cancelled_in_the_middle_shuts_the_socket_down(self, kind, buffer):
        async def main(ours, theirs):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(share.send_async(ours, [buffer], b"x" * (1 << 24)), 0.05)
            with pytest.raises(ConnectionResetError):
                await share.receive_async(theirs, limit=1 << 25)

        self.run(kind, main)

    def test_a_blocking_socket_is_refused(self, buffer):
        async def main():
            with socketpair(STREAM) as (ours, _), pytest.raises(ValueError, match="setblocking"):
                await share.send_async(ours, [buffer])

        asyncio.run(main())


class TestObjects:
    def test_of_another_kind_are_refused_before_anything_is_sent(self, pair, buffer):
        for wrong in (3, None, "buffer", [buffer]):
            with pytest.raises(TypeError, match="only a Buffer, a Fence or an Image"):
                share.send(pair[0], [buffer, wrong])
        pair[1].setblocking(False)
        with pytest.raises(BlockingIOError):
            share.receive(pair[1])

    def test_that_are_closed_are_refused_before_anything_is_sent(self, pair, allocate, buffer):
        closed = allocate(4096)
        closed.close()
        with pytest.raises(ValueError, match="closed"):
            share.send(pair[0], [buffer, closed])
        pair[1].setblocking(False)
        with pytest.raises(BlockingIOError):
            share.receive(pair[1])


def part(body=b"", *, magic=b"DMAS", major=1, descriptors=0, number=7, size=None, totals=None):
    """Return a part as a peer may send it; right unless something is said to be otherwise."""
    size = len(body) if size is None else size
    totals = totals or (descriptors, len(body) - descriptors, 0)
    return HEADER.pack(magic, major, 0, descriptors, number, size, *totals) + body


def table(*objects, count=None):
    return struct.pack("<I", len(objects) if count is None else count) + b"".join(objects)


def named(kind, index):
    return struct.pack("<BI", kind, index)


def image(name=b"R8", width=16, height=16, modifier=0, planes=((0, 0, 16),)):
    packed = b"".join(struct.pack("<IQQ", *plane) for plane in planes)
    size = struct.pack("<IIQB", width, height, modifier, len(planes))
    return bytes([3, len(name)]) + name + size + packed


BUFFER, FENCE = b"\1", b"\2"
ONE = table(named(1, 0))
MALFORMED = {
    "garbage": (b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n" + bytes(32), 0),
    "garbage with a descriptor": (b"GET / HTTP/1.1\r\n" + bytes(32), 1),
    "zeros": (bytes(64), 0),
    "another version": (part(table(), major=2), 0),
    "more bytes than the limit": (part(table(), totals=(0, 4, 1 << 21)), 0),
    "too large a table": (part(table(), totals=(0, 1 << 21, 0)), 0),
    "no bytes": (part(b""), 0),
    "a part beyond the message": (part(table() + b"x", totals=(0, 4, 0)), 0),
    "a missing descriptor": (part(BUFFER + ONE, descriptors=1), 0),
    "a surplus descriptor": (part(BUFFER + ONE, descriptors=1), 2),
    "a descriptor nobody spoke of": (part(table()), 1),
    "an unknown kind of descriptor": (part(b"\7" + ONE, descriptors=1), 1),
    "a buffer said to be a fence": (part(FENCE + table(named(2, 0)), descriptors=1), 1),
    "a buffer named as a fence": (part(BUFFER + table(named(2, 0)), descriptors=1), 1),
    "an index beyond the descriptors": (part(BUFFER + table(named(1, 1)), descriptors=1), 1),
    "a descriptor without an object": (part(BUFFER + table(), descriptors=1), 1),
    "an unknown kind of object": (part(BUFFER + table(named(9, 0)), descriptors=1), 1),
    "fewer objects than it says": (part(table(count=1000)), 0),
    "a table that goes on": (part(table() + b"xx"), 0),
    "an image of an unknown format": (part(BUFFER + table(image(b"nope")), descriptors=1), 1),
    "an image's format that is no text": (part(BUFFER + table(image(b"\xff")), descriptors=1), 1),
    "an image beyond its buffer": (part(BUFFER + table(image(height=9999)), descriptors=1), 1),
    "an image with an absurd offset": (
        part(BUFFER + table(image(planes=((0, 2**64 - 16, 16),))), descriptors=1),
        1,
    ),
    "an image with too small a stride": (
        part(BUFFER + table(image(planes=((0, 0, 1),))), descriptors=1),
        1,
    ),
    "an image without planes": (part(BUFFER + table(image(planes=())), descriptors=1), 1),
    "an image of no size": (part(BUFFER + table(image(width=0)), descriptors=1), 1),
}


def send_raw(sock, data, descriptors):
    packed = struct.pack(f"={len(descriptors)}i", *descriptors)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)] if descriptors else []
    sock.sendmsg([data], rights)


class TestNothingReceivedIsTrusted:
    @pytest.mark.parametrize("name", MALFORMED)
    def test_malformed_messages_are_errors_and_leave_nothing(self, pair, buffer, name):
        data, count = MALFORMED[name]
        before = len(os.listdir("/proc/self/fd"))
        send_raw(pair[0], data, [buffer.fileno()] * count)
        with pytest.raises(share.MessageError):
            share.receive(pair[1])
        assert len(os.listdir("/proc/self/fd")) == before

    def test_a_descriptor_of_something_else_is_an_error(self, pair):
        read, write = os.pipe()
        memfd = os.memfd_create("not a dma-buf")
        for number in (read, memfd):
            with contextlib.suppress(BrokenPipeError):
                send_raw(pair[0], part(BUFFER + ONE, descriptors=1), [number])
                with pytest.raises(share.MessageError, match="descriptor 0 of a message is wrong"):
                    share.receive(pair[1])
        for number in (read, write, memfd):
            os.close(number)

    def test_an_error_ends_a_connection(self, connected):
        connected[0].send(bytes(64))
        with pytest.raises(share.MessageError):
            share.receive(connected[1])
        with pytest.raises(BrokenPipeError):
            share.send(connected[0], [])

    def test_an_error_does_not_end_a_datagram_socket(self, buffer):
        with socketpair(DATAGRAMS) as (ours, theirs):
            ours.send(b"")
            ours.send(bytes(64))
            share.send(ours, [buffer])
            for _ in range(2):
                with pytest.raises(share.MessageError):
                    share.receive(theirs)
            with share.receive(theirs) as received:
                assert received.objects == [buffer]

    @pytest.mark.parametrize("kind", CONNECTED, ids=["stream", "packets"])
    def test_a_peer_that_dies_anywhere_in_a_message_leaves_nothing(self, kind, buffer):
        whole = part(BUFFER + ONE, descriptors=1)
        before = len(os.listdir("/proc/self/fd"))
        ends = range(1, len(whole)) if kind == STREAM else ()
        for end in ends:
            with socketpair(kind) as (ours, theirs):
                send_raw(ours, whole[:end], [buffer.fileno()])
                ours.close()
                with pytest.raises((ConnectionResetError, share.MessageError)):
                    share.receive(theirs)
        for size in (1, 300):
            with socketpair(kind) as (ours, theirs):
                first = HEADER.pack(b"DMAS", 1, 0, 1, 7, 1, size + 1, 4, 0) + BUFFER
                send_raw(ours, first, [buffer.fileno()])
                ours.close()
                with pytest.raises(ConnectionResetError, match="middle of a message"):
                    share.receive(theirs)
        assert len(os.listdir("/proc/self/fd")) == before

    def test_a_batch_broken_off_by_another_is_an_error(self, connected, buffer):
        first = HEADER.pack(b"DMAS", 1, 0, 1, 7, 1, 2, 4, 0) + BUFFER
        other = HEADER.pack(b"DMAS", 1, 0, 1, 8, 1, 2, 4, 0) + BUFFER
        send_raw(connected[0], first, [buffer.fileno()])
        send_raw(connected[0], other, [buffer.fileno()])
        with pytest.raises(share.MessageError, match="broken off"):
            share.receive(connected[1])

    def test_more_descriptors_than_this_process_may_have_are_refused_at_once(self, connected):
        connected[0].send(part(table(), totals=(1 << 31, 4, 0)))
        with pytest.raises(OSError, match="RLIMIT_NOFILE") as failure:
            share.receive(connected[1])
        assert failure.value.errno == errno.EMFILE

    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_whatever_bytes_come_it_is_a_message_or_an_error(self, data, buffer):
        kind = data.draw(st.sampled_from(list(KINDS.values())))
        valid = part(BUFFER + table(named(1, 0), image()), descriptors=1)
        raw = data.draw(
            st.one_of(
                st.binary(max_size=200),
                st.builds(
                    lambda at, new: valid[:at] + new + valid[at + len(new) :],
                    st.integers(0, len(valid)),
                    st.binary(min_size=1, max_size=6),
                ),
                st.builds(lambda body: part(BUFFER + body, descriptors=1), st.binary(max_size=90)),
            )
        )
        count = data.draw(st.integers(0, 2))
        with socketpair(kind) as (ours, theirs):
            theirs.settimeout(0.05 if kind == DATAGRAMS else 30)
            if raw:
                send_raw(ours, raw, [buffer.fileno()] * count)
            ours.close()
            with (
                contextlib.suppress(share.MessageError, OSError, EOFError),
                share.receive(theirs),
            ):
                pass


class TestASignalHandlerThatRaises:
    @pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
    def test_leaves_no_descriptor_at_any_point_of_receive(self, kind, buffer):
        picture = dmabuf.Image(buffer, "R8", 16, 16)
        for moment in interrupt.every_point():
            with socketpair(kind) as (ours, theirs):
                share.send(ours, [buffer, picture], b"text")
                before = len(os.listdir("/proc/self/fd"))
                received = None
                with (
                    contextlib.suppress(interrupt.Interrupted),
                    moment.runs(interrupt.raise_interrupted),
                ):
                    received = share.receive(theirs)
                if received is not None:
                    received.close()
                gc.collect()
                assert len(os.listdir("/proc/self/fd")) == before, moment.where

    @pytest.mark.parametrize("kind", CONNECTED, ids=["stream", "packets"])
    def test_of_send_leaves_a_whole_message_or_an_end(self, kind, buffer):
        for moment in interrupt.every_point():
            with socketpair(kind) as (ours, theirs):
                with (
                    contextlib.suppress(interrupt.Interrupted),
                    moment.runs(interrupt.raise_interrupted),
                ):
                    share.send(ours, [buffer], b"text")
                ours.close()
                with contextlib.suppress(EOFError), share.receive(theirs) as received:
                    assert received.objects == [buffer], moment.where
                with buffer.dup() as again:  # no hold is left
                    os.close(again.detach())


class TestAPeerThatIsKilled:
    def test_leaves_a_whole_message_an_end_or_an_error(self, connected, buffer):
        def send_for_ever():
            connected[1].close()
            with buffer.dup() as again, contextlib.suppress(BrokenPipeError):
                while True:
                    share.send(connected[0], [again], b"x" * 300_000)

        before = len(os.listdir("/proc/self/fd"))
        child = os.fork()
        if not child:
            try:
                send_for_ever()
            finally:
                os._exit(0)
        connected[0].close()
        for count in itertools.count():
            try:
                received = share.receive(connected[1])
            except (EOFError, ConnectionResetError):
                break
            with received:
                assert received.objects == [buffer]
                assert len(received.message) == 300_000
            if count == 5:
                os.kill(child, signal.SIGKILL)
        assert count > 5
        os.waitpid(child, 0)
        assert len(os.listdir("/proc/self/fd")) == before - 1


@pytest.mark.needs("root")
def test_too_many_descriptors_under_way_are_explained(buffer, pair):
    def fill():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        pair[0].setblocking(False)
        for _ in range(300):
            share.send(pair[0], [buffer])

    child = Child(fill, user=NOBODY)
    with pytest.raises(OSError, match=r"RLIMIT_NOFILE.*ulimit -n") as failure:
        child.result()
    assert failure.value.errno == errno.ETOOMANYREFS


def test_one_buffer_has_one_form():
    assert _message.ONE_BUFFER == ONE
