"""`dmabuf.wait_any`: the first of several fences and accesses."""

import contextlib
import os
from decimal import Decimal
from fractions import Fraction

import numpy
import pytest
from helpers import interrupt
from helpers.fences import POLL, once_asleep

import dmabuf
from dmabuf import Access

READ, WRITE = Access.READ, Access.WRITE


pytestmark = pytest.mark.needs("vgem")


@pytest.fixture
def busy(buffer, device, gem):
    """Give a buffer that a writer keeps busy, and what ends that."""
    fence = device.attach_fence(gem, WRITE)
    yield buffer, fence.signal
    with contextlib.suppress(OSError):
        fence.signal()


def test_gives_the_buffer_whose_access_could_begin(busy, allocate):
    buffer, signal = busy
    with allocate(4096) as idle:
        assert dmabuf.wait_any([(buffer, READ), (idle, WRITE)], 10) == (idle, WRITE)
        signal()
        assert dmabuf.wait_any([(buffer, READ), (idle, WRITE)], 10) == (buffer, READ)


def test_gives_nothing_when_the_time_runs_out(busy):
    buffer, _ = busy
    for timeout in (0, 0.01, -1):
        assert dmabuf.wait_any([(buffer, READ), (buffer, WRITE)], timeout) is None


def test_tells_two_accesses_of_one_buffer_apart(buffer, device, gem):
    device.attach_fence(gem, READ)
    assert dmabuf.wait_any([(buffer, WRITE), (buffer, READ)], 10) == (buffer, READ)


def test_sleeps_until_another_thread_signals(busy):
    buffer, signal = busy
    with once_asleep(POLL, signal):
        assert dmabuf.wait_any([(buffer, WRITE)]) == (buffer, WRITE)


@pytest.mark.needs("export")
class TestOfFences:
    def test_gives_the_first_that_signals(self, source, pending):
        with source.pending().fence as other:
            assert dmabuf.wait_any([other, pending.fence], 0) is None
            pending.signal()
            assert dmabuf.wait_any([other, pending.fence], 10) is pending.fence

    def test_gives_the_first_in_order_of_several(self, buffer, pending):
        with buffer.export_fence(READ) as idle, idle.dup() as same:
            assert dmabuf.wait_any([pending.fence, same, idle]) is same

    def test_a_fence_that_is_named_twice_is_one(self, pending):
        pending.signal()
        assert dmabuf.wait_any([pending.fence, pending.fence]) is pending.fence

    def test_takes_fences_and_accesses_together(self, busy):
        buffer, signal = busy
        with buffer.export_fence(WRITE) as fence:
            assert dmabuf.wait_any([fence, (buffer, READ)], 0) is None
            signal()
            assert dmabuf.wait_any([fence, (buffer, READ)], 10) is fence

    def test_a_closed_one_is_refused_and_the_others_are_free_again(self, pending):
        closed = pending.fence.dup()
        closed.close()
        with pending.fence.dup() as other, pytest.raises(ValueError, match="closed Fence"):
            dmabuf.wait_any([other, closed])
        with pending.fence.dup() as other:
            with contextlib.suppress(ValueError):
                dmabuf.wait_any([other, closed])
            os.close(other.detach())  # EBUSY if anything held it

    def test_a_handler_that_raises_leaves_no_hold(self, pending):
        pending.signal()
        for moment in interrupt.every_point():
            with pending.fence.dup() as fence:
                with (
                    contextlib.suppress(interrupt.Interrupted),
                    moment.runs(interrupt.raise_interrupted),
                ):
                    dmabuf.wait_any([fence, pending.fence])
                os.close(fence.detach())


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ([], ValueError, "no fence to wait for"),
        ([1], TypeError, "not int"),
        ([None], TypeError, "not NoneType"),
        (None, TypeError, "iterable"),
    ],
)
def test_what_is_no_fence_is_refused(wrong, error, words):
    with pytest.raises(error, match=words):
        dmabuf.wait_any(wrong)


def test_an_access_that_is_none_is_refused(buffer):
    for access, error in ((0, ValueError), (4, ValueError), ("READ", TypeError)):
        with pytest.raises(error, match="access must be"):
            dmabuf.wait_any([(buffer, access)])
    for wrong, words in (
        ([(buffer,)], r"not \(Buffer\)"),
        ([(buffer, READ, 1)], r"not \(Buffer, Access, int\)"),
        ([(READ, buffer)], r"not \(Access, Buffer\)"),
        ([buffer], r"not Buffer: say for which access, as in \[\(buffer, Access.READ\)\]"),
        ((buffer, READ), "not Buffer: say for which access"),
        (buffer, r"wait_any takes several: \[Buffer"),
    ):
        with pytest.raises(TypeError, match=words):
            dmabuf.wait_any(wrong)


def test_a_time_that_is_none_is_refused(buffer):
    with pytest.raises(ValueError, match="nan"):
        dmabuf.wait_any([(buffer, READ)], float("nan"))
    for wrong in ("1", [], 1j):
        with pytest.raises(TypeError, match="timeout must be a number of seconds or None, not"):
            dmabuf.wait_any([(buffer, READ)], wrong)


def test_a_time_is_a_number_of_any_kind(busy):
    buffer, _ = busy
    for timeout in (numpy.float32(0.01), numpy.int8(0), Fraction(1, 100), Decimal("0.01"), True):
        assert not buffer.wait(READ, timeout)
