"""Awaiting fences: by the event loop's own selector, and gone from it with the last waiter."""

import asyncio
import contextlib
import errno
import gc
import signal
import threading

import pytest
from helpers.fences import EPOLL, interrupt, is_open, many_descriptors, once_asleep
from helpers.interrupt import every_point
from helpers.process import descriptors_left, in_child
from helpers.tasks import waiting, watched

import dmabuf

pytestmark = pytest.mark.timeout(60)  # a wait that nobody ends is a hang


class TestFence:
    def test_await_returns_none_once_it_signals(self, pending):
        async def main():
            [task] = await waiting(pending.fence)
            await asyncio.sleep(0)
            assert not task.done()
            assert watched() == 1
            assert threading.active_count() == 1
            # Nothing is done again and again.
            assert not asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
            pending.signal()
            assert await task is None
            assert watched() == 0

        asyncio.run(main())
        assert pending.fence.signaled

    def test_a_signalled_fence_can_be_awaited_again_and_again(self, pending):
        async def main():
            for _ in range(3):
                await pending.fence
                await asyncio.wait_for(pending.fence, 60)
            assert watched() == 0

        pending.signal()
        asyncio.run(main())

    def test_awaiting_does_not_keep_the_loop_from_anything_else(self, pending):
        async def main():
            [task] = await waiting(pending.fence)
            for _ in range(10):
                await asyncio.sleep(0)
            await asyncio.to_thread(pending.signal)
            await task

        asyncio.run(main())

    def test_a_time_out_leaves_nothing_and_the_fence_usable(self, pending):
        async def main():
            for _ in range(3):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(pending.fence, 0.01)
                assert watched() == 0
            [task] = await waiting(pending.fence)
            pending.signal()
            await task

        asyncio.run(main())

    def test_a_cancellation_drops_the_hold(self, pending):
        async def main():
            with pending.fence.dup() as fence:
                [task] = await waiting(fence)
                with pytest.raises(OSError, match="end its accesses and waits"):
                    fence.detach()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert watched() == 0
                with dmabuf.Fence(fence.detach()) as again:
                    assert not again.signaled

        asyncio.run(main())

    def test_a_task_that_is_cancelled_leaves_the_others_waiting(self, pending):
        async def main():
            tasks = await waiting(*[pending.fence] * 3)
            tasks[1].cancel()
            await asyncio.sleep(0)
            assert tasks[1].cancelled()
            assert watched() == 1
            pending.signal()
            await asyncio.gather(tasks[0], tasks[2])
            assert watched() == 0

        asyncio.run(main())

    def test_many_tasks_share_one_event(self, pending):
        async def main():
            tasks = await waiting(*[pending.fence] * 200)
            assert watched() == 1
            pending.signal()
            assert await asyncio.gather(*tasks) == [None] * 200
            assert watched() == 0

        asyncio.run(main())

    @pytest.mark.timeout(120)
    def test_thousands_of_fences(self, pending, source):
        count = 10_000 if source.driver == "sw_sync" else 2000  # vgem's expire
        with many_descriptors(2 * count + 100):  # each await has one of its own
            fences = [pending.fence.dup() for _ in range(count)]

            async def main():
                tasks = await waiting(*fences)
                assert watched() == count
                pending.signal()
                await asyncio.gather(*tasks)
                assert watched() == 0

            asyncio.run(main())
            for fence in fences:
                fence.close()

    def test_each_wakes_its_own_task(self, source):
        async def main():
            pendings = source.many(8)
            tasks = await waiting(*(one.fence for one in pendings))
            for chosen in (5, 0, 7):
                pendings[chosen].signal()
                await tasks[chosen]
            assert [task.done() for task in tasks] == [n in (5, 0, 7) for n in range(8)]
            assert watched() == 5
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert watched() == 0
            for one in pendings:
                one.fence.close()

        asyncio.run(main())

    def test_gathered_with_what_fails_it_goes_on(self, pending):
        async def fail():
            raise LookupError

        async def main():
            [task] = await waiting(pending.fence)
            with pytest.raises(LookupError):
                await asyncio.gather(task, fail())
            assert not task.done()
            pending.signal()
            await task

        asyncio.run(main())

    def test_a_loop_that_ends_with_it_gives_the_hold_back(self, pending):
        async def main():
            await waiting(pending.fence)  # asyncio.run cancels what is left

        asyncio.run(main())
        number = pending.fence.fileno()
        pending.fence.close()
        assert not is_open(number)


class TestClosed:
    def test_a_closed_fence_can_not_be_awaited(self, pending):
        async def main():
            fence = pending.fence.dup()
            fence.close()
            with pytest.raises(ValueError, match=r"closed.*\[closed\]"):
                await fence
            with pytest.raises(ValueError, match=r"closed.*\[closed\]"):
                await asyncio.wait_for(fence, 1)
            assert watched() == 0

        asyncio.run(main())

    def test_closing_ends_every_wait_and_gives_the_number_back(self, pending):
        async def main():
            fence = pending.fence.dup()
            number = fence.fileno()
            tasks = await waiting(fence, fence, pending.fence)
            fence.close()
            for task in tasks[:2]:
                with pytest.raises(ValueError, match="closed while it was awaited"):
                    await task
            assert not is_open(number)
            assert watched() == 1
            assert not tasks[2].done()
            pending.signal()
            await tasks[2]

        asyncio.run(main())

    def test_closing_in_another_thread_wakes_the_loop(self, pending):
        async def main():
            fence = pending.fence.dup()
            number = fence.fileno()
            awaited = pytest.raises(ValueError, match="closed while it was awaited")
            with awaited, once_asleep(EPOLL, fence.close):
                await fence
            assert not is_open(number)
            assert watched() == 0

        asyncio.run(main())

    def test_closing_a_fence_that_has_signalled_is_no_error_to_who_was_woken(self, pending):
        async def main():
            fence = pending.fence.dup()
            number = fence.fileno()
            [task] = await waiting(fence)
            pending.signal()
            while watched():
                await asyncio.sleep(0)  # until the loop has seen it
            fence.close()
            assert await task is None
            assert not is_open(number)

        asyncio.run(main())

    def test_a_handler_may_close_it_at_any_point(self, pending):
        async def main():
            for moment in every_point():
                fence = pending.fence.dup()
                number = fence.fileno()
                with contextlib.suppress(ValueError), moment.runs(fence.close):
                    await fence
                fence.close()
                assert not is_open(number), moment.where
                assert watched() == 0, moment.where

        pending.signal()
        asyncio.run(main())

    def test_ctrl_c_gets_out_and_leaves_nothing_held(self, pending):
        async def main():
            await pending.fence

        with (
            pytest.raises(KeyboardInterrupt),
            once_asleep(EPOLL, lambda: interrupt(signal.SIGINT)),
        ):
            asyncio.run(main())
        with dmabuf.Fence(pending.fence.detach()) as again:
            assert not again.signaled

    def test_a_closed_fence_that_is_cancelled_is_cancelled(self, pending):
        async def main():
            fence = pending.fence.dup()
            number = fence.fileno()
            [task] = await waiting(fence)
            task.cancel()
            fence.close()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            assert not is_open(number)
            assert watched() == 0

        asyncio.run(main())

    def test_closing_it_after_its_loop_gives_the_number_back(self, pending):
        fence = pending.fence.dup()
        number = fence.fileno()

        async def main():
            return await waiting(fence)

        loop = asyncio.new_event_loop()
        [task] = loop.run_until_complete(main())
        task._log_destroy_pending = False
        loop.close()
        assert is_open(number)
        fence.close()
        assert not is_open(number)
        del task
        gc.collect()

    def test_a_wait_that_its_loop_forgot_is_collected(self, pending):
        fence = pending.fence.dup()

        async def main():
            return await waiting(fence)

        loop = asyncio.new_event_loop()
        [task] = loop.run_until_complete(main())
        task._log_destroy_pending = False
        loop.close()
        task.get_coro().close()
        with dmabuf.Fence(fence.detach()) as again:  # the hold went with the coroutine
            assert not again.signaled

    def test_a_fence_closed_amid_many_ends_only_its_own(self, pending):
        async def main():
            fences = [pending.fence.dup() for _ in range(20)]
            tasks = await waiting(*fences)
            for fence in fences[::2]:
                fence.close()
            pending.signal()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(result) for result in results] == [ValueError, type(None)] * 10
            for fence in fences:
                fence.close()

        asyncio.run(main())


class TestReadersOfTheProgram:
    """A loop has one reader a number: the program's own, which an await leaves alone."""

    def test_one_that_was_there_before_stays(self, pending):
        async def main():
            loop, called = asyncio.get_running_loop(), []
            loop.add_reader(pending.fence, called.append, "the program's")
            [task] = await waiting(pending.fence)
            pending.signal()
            await task
            while not called:
                await asyncio.sleep(0)
            await pending.fence
            assert loop.remove_reader(pending.fence)
            assert watched() == 0

        asyncio.run(main())

    def test_one_that_comes_and_goes_meanwhile_does_not_end_the_wait(self, pending):
        async def main():
            loop = asyncio.get_running_loop()
            [task] = await waiting(pending.fence)
            loop.add_reader(pending.fence, lambda: loop.remove_reader(pending.fence))
            assert loop.remove_reader(pending.fence)
            pending.signal()
            await asyncio.wait_for(task, 30)
            assert watched() == 0

        asyncio.run(main())

    def test_without_a_descriptor_left_an_await_says_so(self, pending):
        async def main():
            await asyncio.sleep(0)
            words = r"no descriptor is left to await <dmabuf.Fence.*ulimit -n"
            with descriptors_left(0), pytest.raises(OSError, match=words) as caught:
                await pending.fence
            assert caught.value.errno == errno.EMFILE
            assert watched() == 0
            [task] = await waiting(pending.fence)
            pending.signal()
            await task

        asyncio.run(main())


class TestLoopsAndProcesses:
    def test_two_loops_in_two_threads_wait_for_one_fence(self, pending):
        barrier = threading.Barrier(3)
        results = []

        async def main():
            [task] = await waiting(pending.fence)
            await asyncio.to_thread(barrier.wait)
            results.append(await task)

        threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
        for thread in threads:
            thread.start()
        barrier.wait()
        pending.signal()
        for thread in threads:
            thread.join()
        assert results == [None, None]

    def test_closing_ends_the_waits_of_all_loops(self, pending):
        fence = pending.fence.dup()
        number = fence.fileno()
        barrier = threading.Barrier(3)
        errors = []

        async def main():
            [task] = await waiting(fence)
            await asyncio.to_thread(barrier.wait)
            try:
                await task
            except ValueError as error:
                errors.append(str(error))

        threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
        for thread in threads:
            thread.start()
        barrier.wait()
        fence.close()
        for thread in threads:
            thread.join()
        assert len(errors) == 2
        assert not is_open(number)

    def test_a_child_that_closes_it_does_not_end_its_parents_wait(self, pending):
        """Both have the same epoll: a child that unregisters does so for its parent."""

        async def main():
            [task] = await waiting(pending.fence)
            number = pending.fence.fileno()

            def close() -> bool:
                pending.fence.close()
                return is_open(number)

            assert in_child(close) is False
            assert not task.done()
            pending.signal()
            await task
            assert watched() == 0

        asyncio.run(main())

    def test_a_child_waits_in_a_loop_of_its_own(self, pending):
        async def child_main():
            pending.signal()
            await asyncio.wait_for(pending.fence, 30)

        def child() -> None:
            asyncio.events._set_running_loop(None)
            asyncio.run(child_main())

        async def main():
            [task] = await waiting(pending.fence)
            in_child(child)
            await task

        asyncio.run(main())
