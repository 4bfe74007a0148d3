"""Waiting for fences in a thread: it ends when it should, and a signal handler gets out."""

import contextlib
import errno
import math
import os
import signal
import socket
import threading
import time

import pytest
from helpers.fences import (
    POLL,
    Stop,
    VgemSource,
    handled,
    interrupt,
    is_open,
    once_asleep,
    sleeps,
    stop,
)
from helpers.interrupt import Interrupted, every_point, raise_interrupted
from helpers.process import Child, in_child

import dmabuf
from dmabuf import FenceStatus, _wait


class TestWait:
    @pytest.mark.parametrize("timeout", [0, 0.0, -1, -math.inf, 0.001])
    def test_runs_out(self, pending, timeout):
        assert pending.fence.wait(timeout) is False
        assert not pending.fence.signaled

    @pytest.mark.parametrize("timeout", [None, 0, -1, 0.001, 1e12, math.inf])
    def test_is_over_once_it_has_signalled(self, pending, timeout):
        pending.signal()
        for _ in range(2):
            assert pending.fence.wait(timeout) is True

    @pytest.mark.parametrize("timeout", [None, 60, 1e12, 1e300, math.inf])
    def test_sleeps_until_it_signals(self, pending, timeout):
        with once_asleep(POLL, pending.signal):
            assert pending.fence.wait(timeout) is True

    def test_a_wait_that_is_longer_than_a_poll_goes_on(self, pending, monkeypatch):
        """poll(2) takes 24 days at the most."""
        monkeypatch.setattr(_wait, "_LONGEST", 0.002)
        sleeps = []

        def signal_later() -> bool | None:
            sleeps.append(pending.fence.wait(0.003))  # two polls
            return True if len(sleeps) < 3 else pending.signal()

        with once_asleep(POLL, signal_later):
            assert pending.fence.wait(3600) is True
        assert sleeps == [False] * 3

    def test_sleeps_until_all_that_were_merged_have_signalled(self, source):
        pendings = source.many(3)
        with pendings[0].fence.merge(*(one.fence for one in pendings)) as merged:
            left = list(pendings)

            def signal_next() -> bool | None:
                left.pop().signal()
                return True if left else None

            with once_asleep(POLL, signal_next):
                assert merged.wait()
            assert not left
        for one in pendings:
            one.fence.close()

    def test_a_time_that_is_no_number_is_refused(self, pending):
        with pytest.raises(ValueError, match="nan"):
            pending.fence.wait(math.nan)
        for wrong in ("1", b"1", [1]):
            with pytest.raises(TypeError):
                pending.fence.wait(wrong)

    def test_a_handler_that_raises_gets_out(self, pending):
        with pending.fence.dup() as fence:
            for timeout in (None, 1e12):
                assert sleeps(lambda timeout=timeout: fence.wait(timeout), POLL)
            os.close(fence.detach())  # nothing holds it any more

    def test_a_handler_that_returns_does_not_end_it(self, pending):
        calls = []

        def handler() -> None:
            calls.append(pending.fence.signaled)
            if len(calls) == 3:
                pending.signal()

        def again() -> bool | None:
            if len(calls) < 3:
                interrupt()
                return True
            return None

        with handled(handler), once_asleep(POLL, again):
            assert pending.fence.wait() is True
        assert calls[:3] == [False, False, False]

    def test_a_handler_that_raises_at_any_point_leaves_nothing_open(self, pending):
        for moment in every_point():
            fence = pending.fence.dup()
            number = fence.fileno()
            with contextlib.suppress(Interrupted), moment.runs(raise_interrupted):
                fence.wait(0)
            fence.close()
            assert not is_open(number), moment.where

    def test_a_handler_may_close_it_at_any_point(self, pending):
        for moment in every_point():
            fence = pending.fence.dup()
            number = fence.fileno()
            with contextlib.suppress(ValueError), moment.runs(fence.close):
                assert fence.wait(0) is False
            fence.close()
            assert not is_open(number), moment.where

    def test_ctrl_c_gets_out(self, pending):
        with (
            pytest.raises(KeyboardInterrupt),
            once_asleep(POLL, lambda: interrupt(signal.SIGINT)),
        ):
            pending.fence.wait()
        assert not pending.fence.signaled

    @pytest.mark.parametrize("timeout", [None, 0, 60])
    def test_a_descriptor_that_others_have_closed_is_no_signal(self, pending, timeout):
        with pending.fence.dup() as fence:
            number = fence.fileno()
            os.close(number)
            try:
                with pytest.raises(OSError, match=f"descriptor {number}") as caught:
                    fence.wait(timeout)
            finally:
                os.dup2(pending.fence.fileno(), number)
        assert caught.value.errno == errno.EBADF

    def test_many_threads_wait_for_one_fence(self, pending):
        results = []
        threads = [
            threading.Thread(target=lambda: results.append(pending.fence.wait())) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        with once_asleep(POLL, pending.signal):
            assert pending.fence.wait()
        for thread in threads:
            thread.join()
        assert results == [True] * 8

    def test_fences_can_be_waited_for_with_select(self, source):
        import select

        first, second = source.many(2)
        with first.fence, second.fence:
            assert select.select([first.fence, second.fence], [], [], 0) == ([], [], [])
            second.signal()
            assert select.select([first.fence, second.fence], [], []) == ([second.fence], [], [])


class TestCloseWhileItWaits:
    def test_the_wait_ends_as_it_would_have(self, pending):
        fence = pending.fence.dup()
        number = fence.fileno()

        def close_and_signal() -> None:
            fence.close()
            assert fence.closed
            assert is_open(number)  # nobody can reuse it under the wait
            with pytest.raises(ValueError, match="closed"):
                fence.wait(0)
            pending.signal()

        with once_asleep(POLL, close_and_signal):
            assert fence.wait() is True
        assert not is_open(number)

    def test_a_handler_that_raises_gives_the_number_back(self, pending):
        fence = pending.fence.dup()
        number = fence.fileno()

        def close_and_interrupt() -> None:
            fence.close()
            assert is_open(number)
            interrupt()

        with (
            handled(stop),
            pytest.raises(Stop),
            once_asleep(POLL, close_and_interrupt),
        ):
            fence.wait()
        assert not is_open(number)

    def test_a_fence_that_is_waited_for_is_not_given_away(self, pending):
        fence = pending.fence

        def detach_and_signal() -> None:
            with pytest.raises(OSError, match="end its accesses and waits") as caught:
                fence.detach()
            assert caught.value.errno == errno.EBUSY
            assert not fence.closed
            pending.signal()

        with once_asleep(POLL, detach_and_signal):
            assert fence.wait()
        number = fence.detach()
        assert is_open(number)
        os.close(number)


class TestProcesses:
    def test_parent_and_child_wait_for_the_same_fence(self, pending):
        def wait() -> None:
            assert pending.fence.wait()
            pending.fence.close()

        children = [Child(wait) for _ in range(3)]
        pending.signal()
        assert pending.fence.wait()
        for child in children:
            child.result()
        assert not pending.fence.closed

    def test_a_child_that_closes_its_copy_leaves_the_parents(self, pending):
        in_child(pending.fence.close)
        assert not pending.fence.closed
        with once_asleep(POLL, pending.signal):
            assert pending.fence.wait()

    def test_a_child_signals_what_its_parent_waits_for(self, pending):
        receive, send = socket.socketpair()
        with receive, send:

            def body() -> None:
                receive.recv(1)
                pending.signal()

            child = Child(body)
            with once_asleep(POLL, lambda: send.send(b"x") and None):
                assert pending.fence.wait()
            child.result()

    def test_a_fence_received_over_a_socket_outlives_its_sender(self, source):
        left, right = socket.socketpair()
        with left, right:
            pending = source.pending()
            with pending.fence:
                socket.send_fds(left, [b"fence"], [pending.fence.fileno()])
            _, [number], _, _ = socket.recv_fds(right, 5, 1)
            with dmabuf.Fence(number) as received, once_asleep(POLL, pending.signal):
                assert received.wait()


@pytest.mark.needs("vgem", "export")
def test_a_fence_that_nobody_signals_expires_without_an_error(allocate):
    """vgem's, after 10 s, as its driver says; the one test that waits for it."""
    with VgemSource() as source, allocate(4096) as other:
        pending = source.pending()
        other.import_fence(pending.fence, dmabuf.Access.WRITE)
        started = time.monotonic()
        with pending.fence as fence:
            assert not other.is_idle(dmabuf.Access.READ)
            other.begin_access(dmabuf.Access.READ)  # which waits as wait() does
            other.end_access(dmabuf.Access.READ)
            assert fence.wait()
            assert fence.status is FenceStatus.SIGNALED
            assert fence.error is None
            assert fence.signaled_at > started
            assert other.is_idle(dmabuf.Access.READ_WRITE)
            with pytest.raises(
                TimeoutError, match="vgem signals each fence by itself after 10 s"
            ) as caught:
                pending.signal()
            assert caught.value.errno == errno.ETIMEDOUT
