"""What a message leaves where its sender or its receiver fails: nothing."""

import contextlib
import errno
import gc
import os
import pickle
import resource
import socket
import threading
import time
from multiprocessing.reduction import ForkingPickler

import pytest
from helpers import interrupt, sharing
from helpers.leaks import descriptors
from helpers.process import NOBODY, Child, descriptors_left
from helpers.publishing import serve_until
from helpers.sockets import CONNECTED, KINDS, socketpair

import dmabuf
from dmabuf import share
from dmabuf.interop import gstreamer
from dmabuf.share import _claim, _lender

SO_PASSRIGHTS = 83  # include/uapi/asm-generic/socket.h


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
class TestASignalHandlerThatRaises:
    @pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
    def test_leaves_no_descriptor_at_any_point_of_receive(self, kind, buffer):
        picture = dmabuf.Image(buffer, "R8", 16, 16)
        for moment in interrupt.every_point():
            with socketpair(kind) as (ours, theirs):
                share.send(ours, [buffer, picture], b"text")
                before = descriptors()
                received = moment.interrupts(lambda: share.receive(theirs))
                if received is not None:
                    received.close()
                gc.collect()
                assert descriptors() == before, moment.where

    @pytest.mark.parametrize("kind", CONNECTED.values(), ids=list(CONNECTED))
    def test_of_send_leaves_a_whole_message_or_an_end(self, kind, buffer):
        for moment in interrupt.every_point():
            with socketpair(kind) as (ours, theirs):
                moment.interrupts(lambda: share.send(ours, [buffer], b"text"))
                ours.close()
                with contextlib.suppress(EOFError), share.receive(theirs) as received:
                    assert received.objects == [buffer], moment.where
                with buffer.dup() as again:  # no hold is left
                    os.close(again.detach())

    def test_of_a_ticket_leaves_nothing_at_any_point(self, buffer):
        gc.collect()
        before = descriptors()
        for moment in interrupt.every_point():
            ticket = moment.interrupts(lambda: share.Ticket(buffer))
            if ticket is not None:
                ticket.cancel()
            sharing.eventually(lambda: _lender.waiting() == 0)
            gc.collect()
            assert descriptors() == before, moment.where

    @pytest.mark.parametrize("kind", ["buffer", "image"])
    def test_of_redeem_leaves_nothing_at_any_point(self, buffer, other, kind):
        item = buffer if kind == "buffer" else dmabuf.Image([buffer, other], "NV12", 32, 16)
        gc.collect()
        before = descriptors()
        for moment in interrupt.every_point():
            ticket = share.Ticket(item)
            redeemed = moment.interrupts(ticket.redeem)
            if redeemed is not None:
                sharing.close(redeemed)
            ticket.cancel()
            sharing.eventually(lambda: _lender.waiting() == 0)
            gc.collect()
            assert descriptors() == before, moment.where


class TestTooFewDescriptors:
    """Each step is tried with no number left, one, two, and so on, until there are enough."""

    def until_enough(self, step, undo):
        gc.collect()
        before = descriptors()
        for left in range(20):
            made, failed = None, 0
            try:
                with descriptors_left(left):
                    made = step()
            except OSError as error:
                failed = error.errno
            assert failed in (0, errno.EMFILE), left
            if not failed:
                undo(made)
            sharing.eventually(lambda: _lender.waiting() == 0)
            gc.collect()
            assert descriptors() == before, left
            if not failed:
                return left
        raise AssertionError("20 were not enough")

    def test_sending_needs_none(self, pair, buffer):
        assert self.until_enough(lambda: share.send(pair[0], [buffer]), lambda _: None) == 0
        share.receive(pair[1]).close()

    def test_a_ticket_is_made_or_leaves_nothing(self, buffer):
        assert self.until_enough(lambda: share.Ticket(buffer), share.Ticket.cancel) > 0

    def test_what_multiprocessing_pickles_is_shipped_or_leaves_nothing(self, buffer):
        def take_back(pickled):
            sharing.close(pickle.loads(pickled))

        assert self.until_enough(lambda: ForkingPickler.dumps(buffer), take_back) > 0

    def test_a_descriptor_of_a_process_is_taken_or_leaves_nothing(self, buffer):
        def take():
            return share.from_process(os.getpid(), buffer.fileno())

        assert self.until_enough(take, dmabuf.Buffer.close) == 2

    @pytest.mark.parametrize("kind", [share.Publisher, gstreamer.Sink])
    def test_a_publisher_or_sink_is_made_or_leaves_nothing(self, tmp_path, kind):
        path = str(tmp_path / "s")
        assert self.until_enough(lambda: kind(path), kind.close) > 3
        assert not os.path.exists(path)

    @pytest.mark.parametrize(
        ("kind", "server"),
        [(share.Subscriber, share.Publisher), (gstreamer.Source, gstreamer.Sink)],
    )
    def test_a_subscriber_or_source_is_made_or_leaves_nothing(self, tmp_path, kind, server):
        path = str(tmp_path / "s")
        with server(path):
            assert self.until_enough(lambda: kind(path), kind.close) > 1


def test_a_publisher_without_descriptors_lets_in_later_who_comes(tmp_path):
    path = str(tmp_path / "s")
    with share.Publisher(path) as publisher, share.Subscriber(path):
        with descriptors_left(0):
            publisher.service()
            assert publisher.subscribers() == []
        serve_until(publisher, lambda: len(publisher.subscribers()) == 1)


def test_a_sink_without_descriptors_lets_in_later_who_comes(tmp_path):
    path = str(tmp_path / "s")
    with gstreamer.Sink(path) as sink, gstreamer.Source(path):
        with descriptors_left(0):
            sink.service()
            assert sink.clients() == []
        while not sink.clients():
            sink.service(60)


def test_a_source_without_descriptors_left_says_so(tmp_path, buffer):
    path = str(tmp_path / "s")
    with gstreamer.Sink(path) as sink, gstreamer.Source(path) as source:
        sink.service(60)
        sink.push(buffer.dup(), caps="application/octet-stream")
        with descriptors_left(0), pytest.raises(OSError, match="RLIMIT_NOFILE"):
            source.frame(60)


@pytest.mark.needs("passrights")
def test_a_receiver_that_takes_no_descriptors_is_explained(pair, buffer):
    pair[1].setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    with pytest.raises(PermissionError, match=r"SO_PASSRIGHTS, Linux 6\.16"):
        share.send(pair[0], [buffer])
    pair[1].setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 1)
    share.send(pair[0], [buffer])
    with share.receive(pair[1]) as received:
        assert received.objects == [buffer]


@pytest.mark.parametrize("call", ["take", "cancel"])
def test_what_a_lender_sends_beside_one_object_is_closed(buffer, other, tmp_path, call):
    def lie():
        client, _ = listener.accept()
        with client:
            client.recv(_claim.REQUEST.size)
            share.send(client, [buffer, other])

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "lender"))
        listener.listen()
        claim = _claim.Claim(bytes(tmp_path / "lender"), bytes(16), os.getpid())
        lender = threading.Thread(target=lie)
        before = descriptors()
        lender.start()
        if call == "take":
            with pytest.raises(share.MessageError, match="sent 2 objects for a claim"):
                _claim.take(claim)
        else:
            _claim.cancel(claim)
        lender.join()
        assert descriptors() == before


def test_a_lender_that_has_no_descriptor_for_who_asks_waits_and_takes_him_later(
    buffer, monkeypatch
):
    tries = []
    accept = _lender._Lender._accept

    def counted(lender):
        tries.append(lender)
        accept(lender)

    monkeypatch.setattr(_lender._Lender, "_accept", counted)
    ticket = share.Ticket(buffer)
    address = _lender._lender.listener.getsockname()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
        next_number = os.dup(0)
        os.close(next_number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_number, hard))
        try:
            asking.connect(address)
            sharing.eventually(lambda: bool(tries))
            time.sleep(0.3)
            assert len(tries) < 100  # it does nothing else meanwhile, if it tries at once
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with ticket.redeem() as other:
            assert other == buffer
    sharing.eventually(lambda: _lender.waiting() == 0)


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
