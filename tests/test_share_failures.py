"""What a message leaves where its sender or its receiver fails: nothing."""

import contextlib
import errno
import gc
import itertools
import os
import resource
import signal

import pytest
from helpers import interrupt
from helpers.process import NOBODY, Child
from helpers.sockets import CONNECTED, KINDS, socketpair

import dmabuf
from dmabuf import share


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

    @pytest.mark.parametrize("kind", CONNECTED.values(), ids=list(CONNECTED))
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
