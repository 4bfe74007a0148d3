"""Nothing that a peer sends is trusted: a message, or an error that leaves nothing."""

import contextlib
import errno
import os
import socket
import struct

import pytest
from helpers.examples import examples
from helpers.sockets import CONNECTED, DATAGRAMS, HEADER, KINDS, PACKETS, STREAM, socketpair
from hypothesis import given
from hypothesis import strategies as st

from dmabuf import _message, share


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
        send_raw(pair[0], data, [buffer.fileno()] * count)
        with pytest.raises(share.MessageError):
            share.receive(pair[1])

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

    @pytest.mark.parametrize("kind", [DATAGRAMS, PACKETS])
    def test_a_descriptor_without_bytes_is_no_end(self, kind, buffer):
        with socketpair(kind) as (ours, theirs):
            send_raw(ours, b"", [buffer.fileno()])
            with pytest.raises(share.MessageError):
                share.receive(theirs)

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

    @pytest.mark.parametrize("kind", CONNECTED.values(), ids=list(CONNECTED))
    def test_a_peer_that_dies_anywhere_in_a_message_leaves_nothing(self, kind, buffer):
        whole = part(BUFFER + ONE, descriptors=1)
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

    @examples(80)
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


def test_one_buffer_has_one_form():
    assert _message.ONE_BUFFER == ONE
