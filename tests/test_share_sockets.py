"""Messages over Unix sockets: whole or not at all, and nothing that is left."""

import contextlib
import errno
import os
import socket
import struct
import threading

import pytest
from helpers import fences, sharing
from helpers.leaks import descriptors
from helpers.process import NOBODY, descriptors_left, in_child, in_pid_namespace, without_nodes
from helpers.sockets import CONNECTED, DATAGRAMS, HEADER, socketpair

import dmabuf
from dmabuf import share


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
        before = descriptors()
        with share.receive(pair[1]) as received:
            assert descriptors() == before + 1
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

    @pytest.mark.needs("root")
    def test_needs_neither_nodes_nor_rights_at_its_receiver(self, pair, buffer):
        def receive():
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            assert not os.listdir("/dev")
            with share.receive(pair[1]) as received:
                return sharing.mark_and_close(received.objects[0])

        share.send(pair[0], [buffer])
        assert without_nodes("/dev", receive) == buffer.inode
        assert sharing.marked(buffer)

    @pytest.mark.needs("root")
    def test_goes_into_another_pid_name_space_and_back(self, pair, buffer):
        def answer():
            with share.receive(pair[1]) as received:
                sharing.mark(received.objects[0])
                share.send(pair[1], received.objects)
                return received.sender

        pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        pair[0].settimeout(30)
        share.send(pair[0], [buffer])
        assert in_pid_namespace(answer) is None  # it has no number for this process
        with share.receive(pair[0]) as received:
            assert received.objects == [buffer]
            assert received.sender.pid > 1
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

    @pytest.mark.parametrize("kind", CONNECTED.values(), ids=list(CONNECTED))
    def test_that_never_gets_the_rest_of_a_message_is_shut_down(self, kind):
        with socketpair(kind) as (ours, theirs):
            theirs.settimeout(0.05)
            ours.send(HEADER.pack(b"DMAS", 1, 0, 0, 7, 4, 0, 4, 4) + struct.pack("<I", 0))
            with pytest.raises(TimeoutError):
                share.receive(theirs)
            with pytest.raises(BrokenPipeError):
                ours.send(b"more")


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
