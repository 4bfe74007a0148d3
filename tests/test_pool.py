"""Buffers that are used again: nobody sees another one's memory, and none is lost."""

import asyncio
import contextlib
import errno
import gc
import itertools
import os
import random
import socket
import threading

import numpy
import pytest
from helpers import cameras, fences, interrupt
from helpers.leaks import descriptors
from helpers.process import descriptors_left, in_child

import dmabuf
from dmabuf import Access, _idle, share

SIZE = 8192


@pytest.fixture
def pool(allocate):
    with dmabuf.Pool(1, SIZE, allocate=allocate) as pool:
        yield pool


@pytest.fixture
def several(allocate):
    with dmabuf.Pool(3, SIZE, allocate=allocate) as pool:
        yield pool


def is_out(pool):
    """Whether a pool of one buffer has it not."""
    with pytest.raises(TimeoutError, match="no buffer was given back in time"):
        pool.acquire(timeout=0)
    return pool.free == 0


def is_back(pool):
    """Whether a pool of one buffer has it, and gives it."""
    return pool.free == 1 and pool.acquire(timeout=0).close() is None


def close_at_exit(pool):
    with pool.acquire():
        assert is_out(pool)


def close(pool):
    buffer = pool.acquire()
    assert is_out(pool)
    buffer.close()
    buffer.close()


def collect(pool):
    buffer = pool.acquire()
    assert is_out(pool)
    buffers = [buffer]
    del buffer
    with pytest.warns(ResourceWarning, match="unclosed Buffer"):
        buffers.clear()


class TestMemoryComesBack:
    @pytest.mark.parametrize("give_back", [close_at_exit, close, collect])
    def test_by_each_kind_of_end(self, pool, give_back):
        give_back(pool)
        assert is_back(pool)

    def test_as_the_same_memory(self, pool):
        with pool.acquire() as first, first.write() as memory:
            memory[:5] = b"hello"
        with pool.acquire() as second, second.read() as memory:
            assert bytes(memory[:5]) == b"hello"
        assert first == second
        assert first is not second
        assert isinstance(second, dmabuf.Buffer)

    def test_once_however_often_it_is_closed(self, several):
        first = several.acquire()
        first.close()
        first.close()
        with contextlib.ExitStack() as stack:
            out = {stack.enter_context(several.acquire(timeout=0)).inode for _ in range(3)}
            assert len(out) == 3
            assert several.free == 0
        assert (several.free, several.count, several.size) == (3, 3, SIZE)

    def test_and_takes_no_descriptor_with_it(self, pool):
        before = descriptors()
        for _ in range(20):
            with pool.acquire() as buffer, buffer.write():
                pass
        assert descriptors() == before


VIEWS = {
    "a memoryview": lambda buffer: buffer.memory,
    "a slice of one": lambda buffer: buffer.memory[100:200],
    "an array": lambda buffer: buffer.array(100),
    "a slice of one of another shape": lambda buffer: buffer.array((16, 16))[3:, ::2].T,
    "an array that an open scope's memory was made into": lambda buffer: in_scope(buffer),
    "an array that is read only": lambda buffer: buffer.array(16, writable=False),
}


def in_scope(buffer):
    with buffer.write() as memory:
        return numpy.frombuffer(memory, "u1")


class TestMemoryStaysOut:
    @pytest.mark.parametrize("name", VIEWS)
    def test_while_there_is_a_view(self, pool, name):
        with pool.acquire() as buffer:
            view = VIEWS[name](buffer)
        assert is_out(pool)
        del view
        gc.collect()
        assert is_back(pool)

    @pytest.mark.parametrize("again", [dmabuf.Buffer.dup, dmabuf.Buffer.from_fd])
    def test_while_there_is_a_duplicate_or_a_view_of_one(self, pool, again):
        with pool.acquire() as buffer:
            duplicate = again(buffer)
        assert is_out(pool)
        view = duplicate.memory
        duplicate.close()
        assert is_out(pool)
        view.release()
        assert is_back(pool)

    def test_while_an_access_is_open(self, pool):
        buffer = pool.acquire()
        buffer.begin_access(Access.WRITE)
        buffer.close()
        assert is_out(pool)
        buffer.end_access(Access.WRITE)
        assert is_back(pool)

    def test_while_a_scope_is_open(self, pool):
        buffer = pool.acquire()
        with buffer.write() as memory:
            buffer.close()
            assert is_out(pool)
            memory[0] = 1
        del memory
        assert is_back(pool)

    def test_while_an_image_has_it(self, pool):
        with dmabuf.Image.allocate("R8", 64, 64, allocate=pool.allocate):
            assert is_out(pool)
        assert is_back(pool)

    @pytest.mark.needs("export")
    def test_until_its_fences_have_signalled(self, pool, pending):
        with pool.acquire() as buffer:
            buffer.import_fence(pending.fence, Access.READ)
        assert pool.free == 1
        with pytest.raises(TimeoutError):
            pool.acquire(timeout=0.01)
        pending.signal()
        assert is_back(pool)

    def test_for_good_once_its_descriptor_was_detached(self, pool):
        buffer = pool.acquire()
        inode, number = buffer.inode, buffer.detach()
        with pool.acquire(timeout=0) as other:
            assert other.inode != inode
        with dmabuf.Buffer(number) as detached, detached.write() as memory:
            memory[:1] = b"x"
        with pool.acquire(timeout=0) as again:
            assert again == other

    def test_where_detach_is_refused_it_comes_back(self, pool):
        with pool.acquire() as buffer, buffer.read(), pytest.raises(OSError, match="in use"):
            buffer.detach()
        with pool.acquire(timeout=0) as again:
            assert again == buffer

    @pytest.mark.needs("heap")
    def test_that_is_read_only_stays_so(self):
        with dmabuf.Heap("system") as heap:

            def allocate(size):
                return heap.allocate(size, access=Access.READ)

            with dmabuf.Pool(1, SIZE, allocate=allocate) as pool:
                for _ in range(2):
                    with pool.acquire() as buffer:
                        view = buffer.memory
                    assert view.readonly
                    assert is_out(pool)
                    del view
                assert is_back(pool)


class TestAClosedPool:
    def test_leaves_what_is_lent_as_it_is(self, allocate):
        with dmabuf.Pool(3, SIZE, allocate=allocate) as pool:
            mapped, unmapped = pool.acquire(), pool.acquire()
            view = mapped.memory
        pool.close()
        view[:2] = b"ab"
        with mapped, unmapped, mapped.read() as memory, unmapped.write() as other:
            assert bytes(memory[:2]) == b"ab"
            other[:] = bytes(SIZE)
        assert view[0] == ord("a")

    def test_lends_nothing(self, pool):
        pool.close()
        for call in (pool.acquire, pool.__enter__, lambda: pool.allocate(1)):
            with pytest.raises(ValueError, match="closed pool"):
                call()
        assert pool.closed
        assert "closed" in repr(pool)

    def test_ends_every_wait(self, pool):
        with (
            pool.acquire(),
            fences.once_asleep(fences.POLL, pool.close),
            pytest.raises(ValueError, match="closed"),
        ):
            pool.acquire()

    def test_is_warned_of_if_nobody_closed_it(self, allocate):
        pools = [dmabuf.Pool(2, SIZE, allocate=allocate)]
        with pytest.warns(ResourceWarning, match="unclosed <dmabuf.Pool") as warned:
            pools.clear()
        assert len(warned) == 1


class TestWhoWaits:
    def test_is_woken_by_what_comes_back(self, pool):
        with fences.once_asleep(fences.POLL, pool.acquire().close):
            pool.acquire().close()

    def test_is_woken_by_the_end_of_a_view(self, pool):
        buffer = pool.acquire()
        views = [buffer.memory]
        buffer.close()
        with fences.once_asleep(fences.POLL, views.clear):
            pool.acquire().close()

    @pytest.mark.needs("export")
    def test_is_woken_by_a_fence(self, pool, pending):
        with pool.acquire() as buffer:
            buffer.import_fence(pending.fence, Access.WRITE)
        with fences.once_asleep(fences.POLL, pending.signal):
            pool.acquire().close()

    @pytest.mark.needs("export")
    def test_gets_what_another_one_was_waiting_for_and_left(self, several, source):
        """The first one looks at the busy buffer and leaves; the second one must hear of it."""
        pending = source.pending()
        out = [several.acquire() for _ in range(3)]
        got = []
        waiters = [threading.Thread(target=lambda: got.append(several.acquire())) for _ in range(2)]
        for waiter in waiters:
            waiter.start()
        with pending.fence as fence, out[0] as busy:
            busy.import_fence(fence, Access.WRITE)
        out[1].close()
        while not got:
            os.sched_yield()
        pending.signal()
        for waiter in waiters:
            waiter.join()
        for buffer in [*got, *out]:
            buffer.close()
        assert several.free == 3

    @pytest.mark.parametrize("timeout", [0, 0.01, -1])
    def test_gets_a_time_out(self, pool, timeout):
        with pool.acquire(), pytest.raises(TimeoutError) as failure:
            pool.acquire(timeout)
        assert failure.value.errno == errno.ETIMEDOUT
        with pool.acquire(), pytest.raises(ValueError, match="nan"):
            pool.acquire(float("nan"))
        assert is_back(pool)

    def test_can_leave_by_a_signal(self, pool):
        with pool.acquire():
            assert fences.sleeps(pool.acquire, fences.POLL)
        assert is_back(pool)

    def test_of_many_threads_has_a_buffer_alone(self, several):
        lost = []

        def use(mark):
            for _ in range(60):
                with several.acquire() as buffer, buffer.read_write() as memory:
                    memory[:2] = mark
                    if random.random() < 0.2:
                        os.sched_yield()
                    if memory[:2] != mark:
                        lost.append(mark)

        threads = [threading.Thread(target=use, args=(b"%02d" % n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not lost
        assert several.free == 3


class TestInAnEventLoop:
    def test_many_tasks_take_turns(self, several):
        async def use(index):
            with await several.acquire_async() as buffer:
                inodes.append(buffer.inode)
                await asyncio.sleep(0)
                with buffer.write() as memory:
                    memory[0] = index

        async def main():
            await asyncio.wait_for(asyncio.gather(*map(use, range(20))), 60)

        inodes: list[int] = []
        asyncio.run(main())
        assert len(inodes) == 20
        assert len(set(inodes)) == 3
        assert several.free == 3

    @pytest.mark.needs("export")
    def test_a_task_waits_for_a_fence(self, pool, pending):
        async def main():
            task = asyncio.ensure_future(pool.acquire_async())
            done, _ = await asyncio.wait([task], timeout=0.02)
            assert not done
            pending.signal()
            (await asyncio.wait_for(task, 60)).close()

        with pool.acquire() as buffer:
            buffer.import_fence(pending.fence, Access.WRITE)
        asyncio.run(main())

    def test_a_task_that_is_cancelled_takes_nothing(self, pool):
        async def main():
            with pool.acquire() as buffer:
                tasks = [asyncio.ensure_future(pool.acquire_async()) for _ in range(2)]
                await asyncio.sleep(0.01)
                tasks[0].cancel()
                await asyncio.wait([tasks[0]])
                buffer.close()
                (await asyncio.wait_for(tasks[1], 60)).close()

        asyncio.run(main())
        assert is_back(pool)

    def test_closing_the_pool_ends_the_wait(self, pool):
        async def main():
            with pool.acquire():
                task = asyncio.ensure_future(pool.acquire_async())
                await asyncio.sleep(0.01)
                pool.close()
                with pytest.raises(ValueError, match="closed pool"):
                    await asyncio.wait_for(task, 60)

        asyncio.run(main())


class TestRecycledMemory:
    def test_has_what_was_there_before_unless_it_is_wiped(self, allocate):
        for zero in (False, True):
            with dmabuf.Pool(1, SIZE, allocate=allocate, zero=zero) as pool:
                with pool.acquire() as buffer, buffer.write() as memory:
                    memory[:] = b"s" * SIZE
                with pool.acquire() as buffer, buffer.read() as memory:
                    assert bytes(memory) == (bytes(SIZE) if zero else b"s" * SIZE)


class TestSharing:
    @pytest.fixture
    def ends(self):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            yield ours, theirs

    @pytest.mark.parametrize("retire", [False, True])
    def test_what_was_sent_is_lent_again_unless_told_otherwise(self, allocate, ends, retire):
        def through_a_socket(buffer):
            share.send(ends[0], [buffer])
            share.receive(ends[1]).close()

        def alone(buffer):
            buffer.send(ends[0])
            dmabuf.Buffer.receive(ends[1]).close()

        def by_a_ticket(buffer):
            share.Ticket(buffer).redeem().close()

        with dmabuf.Pool(1, SIZE, allocate=allocate, retire_after_share=retire) as pool:
            for send in (through_a_socket, alone, by_a_ticket):
                with pool.acquire() as buffer:
                    send(buffer)
                with pool.acquire(timeout=30) as other:
                    assert (other != buffer) == retire, send.__name__
                with pool.acquire(timeout=0) as again:
                    assert again == other

    def test_what_anybody_else_has_is_retired_too(self, allocate):
        with dmabuf.Pool(1, SIZE, allocate=allocate, retire_after_share=True) as pool:
            with pool.acquire() as buffer, buffer.write():
                number = os.dup(buffer.fileno())
            with pool.acquire() as other, other.write():
                assert other != buffer
            with pool.acquire() as again:
                assert again == other
            os.close(number)

    def test_a_child_can_not_acquire_and_disturbs_nobody(self, several):
        def child():
            for call in (several.acquire, lambda: several.allocate(1)):
                with pytest.raises(ValueError, match="this pool belongs to the parent process"):
                    call()
            buffer.close()
            several.close()
            return descriptors()

        with several.acquire() as buffer:
            before = descriptors()
            assert in_child(child) <= before
            assert several.free == 2
        assert several.free == 3


class TestAsAnAllocator:
    def test_does_not_wait(self, pool):
        with pool.allocate(100, name="frame") as buffer:
            assert buffer.name == "frame"
            with pytest.raises(dmabuf.AllocationError, match="all 1 buffers"):
                pool.allocate(100)

    @pytest.mark.parametrize("size", [0, -1, SIZE + 1])
    def test_refuses_another_size(self, pool, size):
        with pytest.raises(ValueError, match=f"{SIZE} bytes"):
            pool.allocate(size)
        assert is_back(pool)

    def test_gives_back_where_the_name_is_refused(self, pool):
        with pytest.raises(ValueError, match="at most 31"):
            pool.allocate(100, name="n" * 32)
        assert is_back(pool)


@pytest.mark.needs("vivid")
def test_a_camera_streams_into_its_buffers(allocate):
    with contextlib.ExitStack() as stack:
        camera = stack.enter_context(cameras.camera())
        size = camera.format().sizeimage[0]
        pool = stack.enter_context(dmabuf.Pool(3, size, allocate=allocate))
        for _ in range(2):
            with contextlib.ExitStack() as lent:
                buffers = [lent.enter_context(pool.acquire(timeout=0)) for _ in range(3)]
                with camera.stream(buffers) as frames:
                    for frame in itertools.islice(frames, 5):
                        with frame:
                            assert frame.buffers[0] in buffers
            gc.collect()
            assert pool.free == 3


class TestMisuse:
    @pytest.mark.parametrize(
        ("arguments", "options", "error", "word"),
        [
            ((0, SIZE), {}, ValueError, "count"),
            ((1, 0), {}, ValueError, "size"),
            ((1.5, SIZE), {}, TypeError, "float"),
            ((1, "8192"), {}, TypeError, "str"),
            ((1, SIZE), {"allocate": 3}, TypeError, "callable"),
            ((1, SIZE), {"allocate": lambda size: size}, TypeError, r"return a dmabuf\.Buffer"),
        ],
    )
    def test_is_refused(self, arguments, options, error, word):
        with pytest.raises(error, match=word):
            dmabuf.Pool(*arguments, **options)

    def test_an_allocator_that_gives_too_little_is_refused(self, allocate):
        with pytest.raises(ValueError, match="16384 bytes"):
            dmabuf.Pool(2, 16384, allocate=lambda _: allocate(4096))

    def test_an_allocator_that_fails_half_way_leaves_nothing(self, allocate):
        made = []

        def fail_at_the_third(size):
            if len(made) == 2:
                raise dmabuf.AllocationError(errno.ENOMEM, "no more", ())
            made.append(allocate(size))
            return made[-1]

        with pytest.raises(dmabuf.AllocationError, match="no more"):
            dmabuf.Pool(4, SIZE, allocate=fail_at_the_third)
        assert all(buffer.closed for buffer in made)

    def test_a_descriptor_too_many_leaves_the_memory_in_the_pool(self, pool):
        with descriptors_left(0), pytest.raises(OSError, match="Too many open files"):
            pool.acquire()
        assert is_back(pool)
        with descriptors_left(0), pytest.raises(OSError, match="Too many open files") as kept:
            pool.acquire()
        assert is_back(pool), kept

    def test_what_can_not_be_replaced_is_tried_again(self, allocate):
        left = 1

        def limited(size):
            nonlocal left
            if not left:
                raise dmabuf.AllocationError(errno.ENOMEM, "no more", ())
            left -= 1
            return allocate(size)

        with dmabuf.Pool(1, SIZE, allocate=limited) as pool:
            os.close(pool.acquire().detach())
            for _ in range(2):
                with pytest.raises(dmabuf.AllocationError, match="no more"):
                    pool.acquire()
            left = 1
            assert is_back(pool)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # collection does the rest
class TestASignalHandlerThatRaises:
    def test_at_any_point_of_a_loan_loses_no_memory(self, allocate):
        for zero in (False, True):
            with dmabuf.Pool(1, SIZE, allocate=allocate, zero=zero) as pool:
                pool.acquire().close()
                gc.collect()
                before = descriptors()
                for moment in interrupt.every_point():
                    buffer = None
                    with (
                        contextlib.suppress(interrupt.Interrupted),
                        moment.runs(interrupt.raise_interrupted),
                    ):
                        buffer = pool.acquire()
                        buffer.memory[:4] = b"used"
                        buffer.close()
                    if buffer is not None:
                        buffer.close()
                    del buffer
                    gc.collect()
                    assert is_back(pool), moment.where
                    assert descriptors() == before, moment.where

    def test_at_any_point_of_a_replacement_loses_no_memory(self, allocate):
        made = [allocate(SIZE)]
        with dmabuf.Pool(1, SIZE, allocate=lambda _: made.pop()) as pool:
            for moment in interrupt.every_point():
                os.close(pool.acquire().detach())
                gc.collect()
                before = descriptors()
                made.append(allocate(SIZE))
                buffer = None
                with (
                    contextlib.suppress(interrupt.Interrupted),
                    moment.runs(interrupt.raise_interrupted),
                ):
                    buffer = pool.acquire()
                if buffer is not None:
                    buffer.close()
                del buffer
                gc.collect()
                if not made:
                    made.append(allocate(SIZE))  # it was lost: the pool asks for another
                assert is_back(pool), moment.where
                while made:
                    made.pop().close()
                gc.collect()
                assert descriptors() == before, moment.where

    def test_at_any_point_of_making_and_closing_one_leaves_nothing(self, allocate):
        gc.collect()
        before = descriptors()
        for moment in interrupt.every_point():
            made = [allocate(SIZE), allocate(SIZE)]
            pool = None
            with (
                contextlib.suppress(interrupt.Interrupted),
                moment.runs(interrupt.raise_interrupted),
            ):
                pool = dmabuf.Pool(2, SIZE, allocate=lambda _: made.pop())  # noqa: B023
                pool.close()
            if pool is not None:
                pool.close()
            del pool
            for buffer in made:
                buffer.close()
            gc.collect()
            assert descriptors() == before, moment.where

    def test_that_acquires_gets_another_buffer(self, several):
        got = []
        for moment in interrupt.every_point():
            with moment.runs(lambda: got.append(several.acquire(timeout=0))):
                got.append(several.acquire(timeout=0))
            assert len(set(got)) == len(got) == 1 + moment.reached, moment.where
            while got:
                got.pop().close()
            assert several.free == 3, moment.where


class TestCollection:
    def test_of_a_pool_whose_memory_is_out_leaves_that_valid(self, allocate):
        pools = [dmabuf.Pool(1, SIZE, allocate=allocate)]
        buffer = pools[0].acquire()
        with pytest.warns(ResourceWarning, match="unclosed <dmabuf.Pool"):
            pools.clear()
        with buffer, buffer.write() as memory:
            memory[:] = bytes(SIZE)

    def test_what_the_pool_keeps_is_known_to_whoever_looks_for_leaks(self, several):
        with several.acquire() as buffer:
            kept = _idle.descriptors()
            assert len(kept) == 3
            assert buffer.fileno() not in kept


@pytest.mark.parametrize(("count", "size"), [(10**9, 1 << 20), (1 << 70, 4096)])
def test_more_than_the_machine_has_is_refused_before_anything_is_allocated(count, size):
    asked = []
    with pytest.raises(dmabuf.AllocationError, match=r"a pool of \d+ x \d+ bytes: .* available"):
        dmabuf.Pool(count, size, allocate=asked.append)
    assert asked == []
