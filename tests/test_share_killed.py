"""Senders and receivers that are killed: at each packet, and anywhere. Nothing of them remains."""

import contextlib
import itertools
import os
import random
import signal
import socket
import time

import pytest
from helpers import sharing
from helpers.leaks import descriptors, kernel_buffers
from helpers.publishing import ROUNDS
from helpers.sockets import CONNECTED, SECONDS

from dmabuf import _scm, share

MESSAGE = bytes(300_000)


class Mortal(socket.socket):
    """A socket whose process is killed after so many packets."""

    left = 0

    def sendmsg(self, *arguments):
        return self._survive(super().sendmsg(*arguments))

    def recvmsg(self, *arguments):
        return self._survive(super().recvmsg(*arguments))

    def _survive(self, result):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


def start(work, ours, theirs):
    """Have a child work with one end; return its pid once the other end is this process's alone."""
    child = os.fork()
    if not child:
        try:
            theirs.close()
            work(ours)
        finally:
            os._exit(0)
    ours.close()
    return child


@contextlib.contextmanager
def ends(kind):
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs:
        theirs.settimeout(SECONDS)
        yield ours, theirs


@pytest.fixture(params=list(CONNECTED.values()), ids=list(CONNECTED))
def kind(request):
    return request.param


@pytest.fixture
def one_a_packet(monkeypatch):
    """Have a message of three buffers go in as many packets, and its bytes in more."""
    monkeypatch.setattr(_scm, "MOST", 1)


def is_killed(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


class TestAtEachPacket:
    def test_a_sender_leaves_a_whole_message_or_an_error(self, kind, allocate, one_a_packet):
        def send_three(left):
            def work(sock):
                mortal = Mortal(fileno=sock.detach())
                mortal.left = left
                with contextlib.ExitStack() as stack:
                    buffers = [stack.enter_context(allocate(4096)) for _ in range(3)]
                    share.send(mortal, buffers, MESSAGE)

            return work

        outcomes = []
        before = descriptors(), kernel_buffers()
        for left in itertools.count(1):
            with ends(kind) as (ours, theirs):
                child = start(send_three(left), ours, theirs)
                try:
                    with share.receive(theirs) as received:
                        assert len(received.objects) == 3
                        assert received.message == MESSAGE
                        outcomes.append("whole")
                except ConnectionResetError:
                    outcomes.append("torn")
                killed = is_killed(child)
            sharing.eventually(lambda: (descriptors(), kernel_buffers()) == before)
            if not killed:
                break
        assert outcomes[:2] == ["torn", "torn"]
        assert outcomes[-2:] == ["whole", "whole"]  # killed after the last packet; and not at all
        assert outcomes == sorted(outcomes)

    def test_a_receiver_leaves_nothing(self, kind, allocate, one_a_packet):
        def receive(left):
            def work(sock):
                mortal = Mortal(fileno=sock.detach())
                mortal.left = left
                share.receive(mortal).close()

            return work

        before = descriptors(), kernel_buffers()
        for left in itertools.count(1):
            with ends(kind) as (ours, theirs), contextlib.ExitStack() as stack:
                child = start(receive(left), ours, theirs)
                buffers = [stack.enter_context(allocate(4096)) for _ in range(3)]
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    share.send(theirs, buffers, MESSAGE)
                killed = is_killed(child)
            sharing.eventually(lambda: (descriptors(), kernel_buffers()) == before)
            if not killed:
                break
        assert left > 3

    def test_whoever_redeems_a_ticket_leaves_nothing(self, buffer):
        def redeem(ticket, left):
            def work(_):
                Mortal.left = left
                socket.socket = Mortal
                ticket.redeem().close()

            return work

        before = descriptors(), kernel_buffers()
        for left in itertools.count(1):
            ticket = share.Ticket(buffer)
            with ends(socket.SOCK_STREAM) as (ours, theirs):
                killed = is_killed(start(redeem(ticket, left), ours, theirs))
            ticket.cancel()
            sharing.eventually(lambda: (descriptors(), kernel_buffers()) == before)
            if not killed:
                break
        assert left > 2


class TestAnywhere:
    def test_a_sender_leaves_whole_messages_and_an_end(self, kind, allocate):
        def send_for_ever(sock):
            while True:
                with allocate(4096) as one, allocate(8192) as two:
                    share.send(sock, [one, two], MESSAGE)

        self.kill(kind, send_for_ever, self.receive_all)

    def test_a_receiver_leaves_nothing(self, kind, allocate):
        def receive_for_ever(sock):
            while True:
                share.receive(sock).close()

        def send_all(sock):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                while True:
                    with allocate(4096) as one, allocate(8192) as two:
                        share.send(sock, [one, two], MESSAGE)

        self.kill(kind, receive_for_ever, send_all)

    @staticmethod
    def receive_all(sock):
        with contextlib.suppress(EOFError, ConnectionResetError):
            while True:
                with share.receive(sock) as received:
                    assert [buffer.size for buffer in received.objects] == [4096, 8192]
                    assert received.message == MESSAGE

    def kill(self, kind, work, meanwhile):
        before = descriptors(), kernel_buffers()
        for _ in range(ROUNDS):
            with ends(kind) as (ours, theirs):
                child = start(work, ours, theirs)
                killer = os.fork()
                if not killer:
                    time.sleep(random.random() * 0.1)
                    os.kill(child, signal.SIGKILL)
                    os._exit(0)
                meanwhile(theirs)
                os.waitpid(killer, 0)
                assert is_killed(child)
            sharing.eventually(lambda: (descriptors(), kernel_buffers()) == before)
