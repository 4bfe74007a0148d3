"""Software timelines: fences that the caller signals, and that can end in error."""

import asyncio
import errno
import fcntl
import os
import random
import struct
import threading

import pytest
from helpers.fences import POLL, is_open, many_descriptors, once_asleep
from helpers.process import NOBODY, Child, descriptors_left, in_child

import dmabuf
from dmabuf import Access, FenceStatus
from dmabuf.sw_sync import Timeline

SW_SYNC_GET_DEADLINE = 0xC0105702  # drivers/dma-buf/sw_sync.c: u64 deadline_ns, u32 pad, s32 fence
has_timelines = pytest.mark.needs("sw_sync")


@pytest.fixture
def timeline():
    with Timeline() as timeline:
        yield timeline


@has_timelines
class TestTimeline:
    def test_a_fence_signals_when_its_value_is_reached(self, timeline):
        with timeline.fence(3) as fence:
            for _ in range(2):
                timeline.advance()
                assert not fence.signaled
            timeline.advance()
            assert fence.signaled
            assert fence.error is None

    def test_an_advance_reaches_several_fences(self, timeline):
        fences = [timeline.fence(value) for value in (5, 1, 3, 3, 4)]
        timeline.advance(0)
        assert not any(fence.signaled for fence in fences)
        timeline.advance(3)
        assert [fence.signaled for fence in fences] == [False, True, True, True, False]
        timeline.advance(100)
        assert all(fence.signaled for fence in fences)
        for fence in fences:
            fence.close()

    def test_a_value_that_was_reached_gives_a_signalled_fence(self, timeline):
        with timeline.fence(0) as fence:
            assert fence.signaled
        timeline.advance(5)
        for value, signaled in ((4, True), (5, True), (6, False)):
            with timeline.fence(value) as fence:
                assert fence.signaled is signaled

    def test_a_value_may_be_half_the_range_ahead(self, timeline):
        for start in (0, 2**31 - 1, 1, 2**31 - 1):  # where the last has led
            timeline.advance(start)
        counter = 2**32 - 1
        for ahead, signaled in ((1, False), (2**31 - 1, False), (2**31, True)):
            with timeline.fence((counter + ahead) % 2**32) as fence:
                assert fence.signaled is signaled
        with timeline.fence(0) as fence:  # the counter wraps
            timeline.advance()
            assert fence.signaled

    def test_the_widest_advance_is_one_advance(self, timeline):
        with timeline.fence(2**31 - 1) as fence:
            timeline.advance(2**32 - 1)
            assert fence.signaled

    def test_timelines_are_each_their_own(self, timeline):
        with Timeline() as other, timeline.fence(1) as mine, other.fence(1) as theirs:
            other.advance()
            assert [mine.signaled, theirs.signaled] == [False, True]

    @pytest.mark.parametrize("wrong", [-1, 2**32, 2**64])
    def test_what_is_out_of_range_is_refused(self, timeline, wrong):
        for use in (timeline.fence, timeline.advance):
            with pytest.raises(ValueError, match=str(2**32 - 1)):
                use(wrong)

    @pytest.mark.parametrize("wrong", ["1", None, 1.0, b"1"])
    def test_what_is_no_int_is_refused(self, timeline, wrong):
        for use in (timeline.fence, timeline.advance):
            with pytest.raises(TypeError, match="int"):
                use(wrong)

    def test_a_closed_timeline_can_not_be_used(self, timeline):
        number = timeline.fileno()
        timeline.close()
        timeline.close()
        assert not is_open(number)
        assert repr(timeline) == "<dmabuf.sw_sync.Timeline [closed]>"
        for use in (
            timeline.fileno,
            timeline.detach,
            timeline.advance,
            timeline.__enter__,
            lambda: timeline.fence(1),
        ):
            with pytest.raises(ValueError, match=r"closed Timeline.*\[closed\]"):
                use()

    def test_repr_and_descriptor(self, timeline):
        assert repr(timeline) == f"<dmabuf.sw_sync.Timeline fd={timeline.fileno()}>"
        assert not os.get_inheritable(timeline.fileno())
        with timeline.fence(1) as fence:
            assert not os.get_inheritable(fence.fileno())

    def test_a_collected_timeline_warns_and_closes(self):
        timeline = Timeline()
        number = timeline.fileno()
        with pytest.warns(ResourceWarning, match=f"unclosed Timeline with descriptor {number}"):
            del timeline
        assert not is_open(number)

    def test_what_finds_no_descriptor_loses_none(self, timeline):
        with descriptors_left(0):
            for use in (Timeline, lambda: timeline.fence(1)):
                with pytest.raises(OSError, match="Too many open files") as caught:
                    use()
                assert caught.value.errno == errno.EMFILE

    def test_a_merge_keeps_the_latest_of_each_timeline(self, timeline):
        with Timeline() as other:
            fences = [timeline.fence(value) for value in (2, 7, 4)] + [other.fence(1)]
            with fences[0].merge(*fences[1:]) as merged:
                assert len(merged.info().points) == 2
                other.advance()
                timeline.advance(6)
                assert not merged.signaled
                timeline.advance()
                assert merged.signaled
            for fence in fences:
                fence.close()

    def test_a_thousand_of_one_timeline_merge_to_the_last(self, timeline):
        with many_descriptors(4096):
            fences = [timeline.fence(value) for value in range(1, 1001)]
            random.shuffle(fences)
            with fences[0].merge(*fences[1:], name="frame") as merged:
                for fence in fences:
                    fence.close()
                assert len(merged.info().points) == 1
                assert merged.info().name == "frame"
                timeline.advance(999)
                assert not merged.signaled
                timeline.advance()
                assert merged.signaled

    @pytest.mark.needs("deadline")
    def test_a_deadline_reaches_the_driver_in_nanoseconds(self, timeline):
        with timeline.fence(1) as fence:
            for seconds, earliest in ((12.5, 12_500_000_000), (99, 12_500_000_000), (2, 2 * 10**9)):
                fence.set_deadline(seconds)
                data = bytearray(struct.pack("=QIi", 0, 0, fence.fileno()))
                fcntl.ioctl(timeline.fileno(), SW_SYNC_GET_DEADLINE, data)
                assert struct.unpack("=QIi", data)[0] == earliest


@has_timelines
class TestErrors:
    """A timeline that goes away leaves its fences with ENOENT."""

    def test_a_fence_in_error_has_signalled_and_says_so(self, timeline):
        with timeline.fence(1) as fence:
            timeline.close()
            assert fence.status is FenceStatus.ERROR
            assert fence.error == errno.ENOENT
            assert fence.signaled is True
            assert fence.signaled_at > 0
            assert fence.wait() is fence.wait(0) is True
            info = fence.info()
            assert info.status is FenceStatus.ERROR
            [point] = info.points
            assert point.status is FenceStatus.ERROR
            assert point.timestamp_ns > 0
            assert "error ENOENT" in repr(fence)

    def test_a_fence_that_has_signalled_before_has_none(self, timeline):
        with timeline.fence(1) as done, timeline.fence(2) as late:
            timeline.advance()
            timeline.close()
            assert [done.error, late.error] == [None, errno.ENOENT]
            assert done.status is FenceStatus.SIGNALED

    @pytest.mark.parametrize("polled", [False, True])
    def test_a_merged_fence_has_it_too(self, timeline, polled):
        """The kernel tells of it only if somebody has polled before."""
        with Timeline() as other, timeline.fence(1) as bad, other.fence(1) as good:
            with bad & good as merged:
                if polled:
                    assert not merged.wait(0)
                timeline.close()
                assert not merged.signaled  # it waits for all
                assert merged.error is None
                assert merged.status is merged.info().status is FenceStatus.ACTIVE
                other.advance()
                assert merged.signaled
                assert merged.error == errno.ENOENT
                assert merged.status is merged.info().status is FenceStatus.ERROR
                assert "error ENOENT" in repr(merged)
            with bad & good as merged:  # which drops what has signalled, with its error
                assert merged.status is merged.info().status is FenceStatus.SIGNALED

    def test_waiting_ends_as_for_any_fence(self, timeline):
        with timeline.fence(1) as fence, once_asleep(POLL, timeline.close):
            assert fence.wait() is True

    def test_await_returns_none(self, timeline):
        async def main():
            task = asyncio.ensure_future(fence)
            await asyncio.sleep(0)
            timeline.close()
            assert await task is None

        with timeline.fence(1) as fence:
            asyncio.run(main())
            assert fence.error == errno.ENOENT

    def test_a_buffer_is_idle_after_it(self, timeline, buffer):
        with timeline.fence(1) as fence:
            buffer.import_fence(fence, Access.WRITE)
        assert not buffer.is_idle(Access.READ)
        timeline.close()
        assert buffer.is_idle(Access.READ_WRITE)
        with buffer.read_write() as memory:
            memory[0] = 1


@has_timelines
class TestProducersAndConsumers:
    def test_threads_hand_frames_over(self, buffer):
        """Two timelines, one for what is written and one for what is read."""
        frames = 40
        seen = []
        with Timeline() as written, Timeline() as read:

            def consume() -> None:
                for frame in range(1, frames + 1):
                    with written.fence(frame) as ready:
                        ready.wait()
                    seen.append(buffer.memory[0])
                    read.advance()

            consumer = threading.Thread(target=consume)
            consumer.start()
            for frame in range(1, frames + 1):
                with read.fence(frame - 1) as free:
                    free.wait()
                buffer.memory[0] = frame
                written.advance()
            consumer.join()
        assert seen == list(range(1, frames + 1))

    def test_processes_hand_frames_over(self, buffer):
        frames = 40
        with Timeline() as written, Timeline() as read:

            def consume() -> None:
                for frame in range(1, frames + 1):
                    with written.fence(frame) as ready:
                        assert ready.wait(30)
                    assert buffer.memory[0] == frame
                    read.advance()

            consumer = Child(consume)
            for frame in range(1, frames + 1):
                with read.fence(frame - 1) as free:
                    assert free.wait(30), "the consumer is gone"
                buffer.memory[0] = frame
                written.advance()
            consumer.result()

    def test_many_producers_are_awaited_as_one(self):
        """Each thread signals its timeline step by step; a merged fence a step waits for all."""
        producers, steps = 6, 20
        timelines = [Timeline() for _ in range(producers)]
        done = []

        def produce(timeline) -> None:
            for step in range(1, steps + 1):
                with timeline.fence(step) as mine:
                    timeline.advance()
                    done.append((step, mine.signaled))

        merged = []
        for step in range(1, steps + 1):
            fences = [timeline.fence(step) for timeline in timelines]
            merged.append(fences[0].merge(*fences[1:]))
            for fence in fences:
                fence.close()
        threads = [threading.Thread(target=produce, args=(timeline,)) for timeline in timelines]
        for thread in threads:
            thread.start()
        for fence in merged:
            fence.wait()
            fence.close()
        for thread in threads:
            thread.join()
        assert sorted(done) == [(step, True) for step in range(1, steps + 1) for _ in timelines]
        for timeline in timelines:
            timeline.close()

    def test_a_timeline_lives_as_long_as_its_last_process(self, timeline):
        with timeline.fence(1) as fence:
            in_child(timeline.close)
            assert not fence.signaled
            in_child(timeline.advance)
            assert fence.signaled
            assert fence.error is None


@has_timelines
def test_random_merges_behave_as_the_model():
    from helpers.examples import examples
    from hypothesis import given
    from hypothesis import strategies as st

    steps = st.lists(
        st.one_of(
            st.tuples(st.just("fence"), st.integers(0, 3), st.integers(0, 8)),
            st.tuples(st.just("advance"), st.integers(0, 3), st.integers(0, 4)),
            st.tuples(st.just("merge"), st.lists(st.integers(0, 30), min_size=1, max_size=6)),
            st.tuples(st.just("close"), st.integers(0, 30)),
        ),
        max_size=16,
    )

    @examples(20)
    @given(steps)
    def holds(steps) -> None:
        timelines, counters = [Timeline() for _ in range(4)], [0] * 4
        fences: list[tuple[dmabuf.Fence, dict[int, int]]] = []  # with what it waits for

        def waits(needs) -> dict[int, int]:
            return {line: value for line, value in needs.items() if value > counters[line]}

        try:
            for what, *arguments in steps:
                if what == "fence":
                    line, value = arguments
                    fences.append((timelines[line].fence(value), {line: value}))
                elif what == "advance":
                    line, count = arguments
                    timelines[line].advance(count)
                    counters[line] += count
                elif what == "merge" and fences:
                    chosen = [fences[index % len(fences)] for index in arguments[0]]
                    needs: dict[int, int] = {}
                    for _, others in chosen:
                        for line, value in waits(others).items():
                            needs[line] = max(value, needs.get(line, 0))
                    merged = chosen[0][0].merge(*(fence for fence, _ in chosen[1:]))
                    fences.append((merged, needs))
                    assert len(merged.info().points) == max(len(needs), 1)
                elif what == "close" and fences:
                    fences.pop(arguments[0] % len(fences))[0].close()
                for fence, needs in fences:
                    assert fence.signaled is (not waits(needs))
                    assert fence.wait(0) is fence.signaled
        finally:
            for fence, _ in fences:
                fence.close()
            for timeline in timelines:
                timeline.close()

    holds()


@pytest.mark.needs("no sw_sync", "root")
def test_a_stock_kernel_is_told_what_it_lacks():
    with pytest.raises(dmabuf.UnsupportedError, match="CONFIG_SW_SYNC") as caught:
        Timeline()
    assert caught.value.errno == errno.ENOENT
    assert "debugfs" in str(caught.value)


@pytest.mark.needs("root", "own machine")
def test_without_permission_it_says_who_has_it():
    with pytest.raises(PermissionError, match="run as root") as caught:
        in_child(Timeline, user=NOBODY)
    assert caught.value.errno == errno.EACCES
