"""Fences that are made of fences, and deadlines, which they pass on."""

import errno
import math
import os
import random
import time

import pytest
from helpers.fences import VgemSource, many_descriptors
from helpers.process import descriptors_left

import dmabuf
from dmabuf import FenceStatus, _ioctl


class TestMerge:
    def test_signals_when_all_have(self, source):
        pendings = source.many(3)
        first, second, third = (one.fence for one in pendings)
        with first.merge(second, third) as merged, third & first as two, two & second as chained:
            for one in pendings:
                one.fence.close()  # a merged fence stands for itself
            for one in pendings:
                assert not merged.signaled
                assert not chained.signaled
                one.signal()
            assert merged.signaled
            assert chained.signaled
            assert merged.status is chained.status is FenceStatus.SIGNALED

    def test_leaves_what_it_merges_alone(self, source):
        first, second = source.many(2)
        with first.fence, second.fence:
            (first.fence & second.fence).close()
            second.signal()
            assert [first.fence.signaled, second.fence.signaled] == [False, True]

    def test_alone_and_with_itself_it_is_the_same_fence_once(self, pending):
        fence = pending.fence
        for merged in (fence.merge(), fence & fence, fence.merge(*[fence] * 20)):
            with merged:
                assert merged is not fence
                assert merged.fileno() != fence.fileno()
                assert len(merged.info().points) == 1
                assert not merged.signaled

    def test_what_has_signalled_is_dropped(self, source):
        done, active = source.many(2)
        done.signal()
        with done.fence, active.fence:
            for merged in (done.fence & active.fence, active.fence & done.fence):
                with merged:
                    [point] = merged.info().points
                    assert point.status is FenceStatus.ACTIVE
            with done.fence.merge(done.fence) as merged:
                assert merged.signaled
                assert merged.wait(0)
                assert merged.error is None

    def test_the_result_has_the_name_that_was_given(self, pending):
        for name in ("frame 7", "x" * 31, "ü" * 15):
            with pending.fence.merge(pending.fence, name=name) as merged:
                assert merged.info().name == name
                assert f"name={name!r}" in repr(merged)

    def test_the_kernel_names_the_result_otherwise(self, pending, source):
        for name in (None, ""):
            with pending.fence.merge(name=name) as merged:
                assert source.driver in merged.info().name

    @pytest.mark.parametrize("name", ["x" * 32, "ü" * 16, "nul\0", "\0"])
    def test_a_name_that_the_kernel_would_cut_is_refused(self, pending, name):
        with pytest.raises(ValueError, match="31 bytes without a NUL"):
            pending.fence.merge(name=name)

    @pytest.mark.parametrize("name", [b"bytes", 0, 5])
    def test_a_name_that_is_no_str_is_refused(self, pending, name):
        with pytest.raises(TypeError, match="str"):
            pending.fence.merge(name=name)

    def test_only_fences_can_be_merged(self, pending, buffer):
        fence = pending.fence
        for other in (buffer, fence.fileno(), None, "fence", [fence]):
            with pytest.raises(TypeError, match=f"not {type(other).__name__}"):
                fence.merge(fence, other)
            with pytest.raises(TypeError, match="unsupported operand"):
                fence & other
            with pytest.raises(TypeError, match="unsupported operand"):
                other & fence
        assert not fence.signaled

    @pytest.mark.parametrize("place", [0, 1, 4, 8])
    def test_a_closed_fence_among_many_is_refused(self, pending, place):
        fences = [pending.fence.dup() for _ in range(9)]
        fences[place].close()
        with pytest.raises(ValueError, match="closed"):
            fences[0].merge(*fences[1:])
        for fence in fences:
            fence.close()  # and nothing else is open: the fixture counts

    @pytest.mark.parametrize("spare", [0, 1, 2])
    def test_a_merge_that_runs_out_of_descriptors_loses_none(self, pending, spare):
        fences = [pending.fence] * 16
        with descriptors_left(spare), pytest.raises(OSError, match="Too many open") as caught:
            pending.fence.merge(*fences)
        assert caught.value.errno == errno.EMFILE

    def test_many_are_merged_as_a_balanced_tree(self, source, monkeypatch):
        """In a chain each merge would copy all before it."""
        counts, merge = [], _ioctl.sync_merge

        def noted(first: int, name: bytes, second: int, made: list[int]) -> None:
            merge(first, name, second, made)
            counts.append(_ioctl.sync_file_info(made[-1]).num_fences)

        monkeypatch.setattr(_ioctl, "sync_merge", noted)
        pendings = source.many(32)
        pendings[0].fence.merge(*(one.fence for one in pendings[1:])).close()
        assert sorted(counts) == [2] * 16 + [4] * 8 + [8] * 4 + [16] * 2 + [32]
        for one in pendings:
            one.fence.close()

    def test_many_need_few_descriptors(self, source):
        count = 1000 if source.driver == "sw_sync" else 300  # vgem's expire
        with many_descriptors(4096):
            pendings = source.many(count)
            random.shuffle(pendings)
            with descriptors_left(math.ceil(math.log2(count)) + 1):
                merged = pendings[0].fence.merge(*(one.fence for one in pendings[1:]))
            for one in pendings:
                one.fence.close()
            with merged:
                points = merged.info().points
                assert len(points) == count
                assert {point.driver for point in points} == {source.driver}
                for one in pendings[1:]:
                    one.signal()
                assert not merged.signaled
                states = [point.status for point in merged.info().points]
                assert states.count(FenceStatus.ACTIVE) == 1
                pendings[0].signal()
                assert merged.signaled
            source.close()


class TestDeadline:
    @pytest.mark.needs("deadline")
    def test_is_a_hint_and_changes_nothing(self, pending):
        for seconds in (time.monotonic() + 0.01, 0, 0.0, 9e9):
            assert pending.fence.set_deadline(seconds) is None
        assert not pending.fence.signaled
        pending.signal()
        pending.fence.set_deadline(time.monotonic())

    @pytest.mark.parametrize("wrong", [-1, -0.001, math.nan, math.inf, -math.inf, 1e10, 2**64])
    def test_what_is_no_time_is_refused(self, pending, wrong):
        with pytest.raises(ValueError, match=r"time\.monotonic"):
            pending.fence.set_deadline(wrong)

    @pytest.mark.parametrize("wrong", ["1", None, b"1"])
    def test_what_is_no_number_is_refused(self, pending, wrong):
        with pytest.raises(TypeError):
            pending.fence.set_deadline(wrong)

    @pytest.mark.needs("vgem", "export", "no deadline")
    def test_an_older_kernel_is_told_what_it_lacks(self):
        with VgemSource() as source, source.pending().fence as fence:
            with pytest.raises(dmabuf.UnsupportedError, match=r"Linux 6\.6") as caught:
                fence.set_deadline(1.0)
            assert caught.value.errno == errno.ENOTTY
            assert os.uname().release in str(caught.value)
