"""Awaiting buffers, and waiting in event loops other than asyncio's."""

import asyncio

import pytest
from helpers.fences import is_open, join_threads
from helpers.tasks import waiting, watched

import dmabuf
from dmabuf import Access

READ, WRITE, READ_WRITE = Access.READ, Access.WRITE, Access.READ_WRITE
pytestmark = pytest.mark.timeout(60)  # a wait that nobody ends is a hang


class TestBuffer:
    def test_an_idle_buffer_is_ready(self, buffer):
        async def main():
            for access in (READ, WRITE, READ_WRITE):
                assert await buffer.ready(access) is None
            assert watched() == 0

        asyncio.run(main())

    @pytest.mark.needs("vgem")
    @pytest.mark.parametrize("access", [READ, WRITE, READ_WRITE], ids=["READ", "WRITE", "RW"])
    def test_ready_waits_as_an_access_would(self, buffer, device, gem, access):
        async def main():
            for pending in (READ, WRITE):
                fence = device.attach_fence(gem, pending)
                [task] = await waiting(buffer.ready(access))
                if access is READ and pending is READ:
                    await task
                else:
                    await asyncio.sleep(0)
                    assert not task.done()
                fence.signal()
                assert await task is None
            assert watched() == 0

        asyncio.run(main())

    @pytest.mark.needs("vgem")
    def test_readers_and_writers_of_the_programs_own_stay(self, buffer, device, gem):
        async def main():
            loop, called = asyncio.get_running_loop(), []
            fence = device.attach_fence(gem, WRITE)
            loop.add_reader(buffer, called.append, READ)
            loop.add_writer(buffer, called.append, WRITE)
            tasks = await waiting(buffer.ready(READ), buffer.ready(WRITE))
            fence.signal()
            await asyncio.gather(*tasks)
            while set(called) != {READ, WRITE}:
                await asyncio.sleep(0)
            assert loop.remove_reader(buffer)
            assert loop.remove_writer(buffer)
            assert watched() == 0

        asyncio.run(main())

    @pytest.mark.needs("vgem", "export")
    def test_readers_and_writers_wait_side_by_side(self, buffer, device, gem, pending):
        async def main():
            reader = device.attach_fence(gem, READ)
            buffer.import_fence(pending.fence, WRITE)
            tasks = await waiting(
                buffer.ready(READ), buffer.ready(WRITE), buffer.ready(READ), buffer.ready(WRITE)
            )
            assert watched() == 2  # one for each event
            pending.signal()
            await asyncio.gather(tasks[0], tasks[2])
            await asyncio.sleep(0)
            assert [task.done() for task in tasks] == [True, False, True, False]
            assert watched() == 1
            reader.signal()
            await asyncio.gather(*tasks)
            assert watched() == 0

        asyncio.run(main())

    @pytest.mark.needs("vgem")
    def test_closing_ends_every_wait_and_gives_the_number_back(self, buffer, device, gem):
        async def main():
            fence = device.attach_fence(gem, WRITE)
            other = buffer.dup()
            number = other.fileno()
            tasks = await waiting(other.ready(READ), other.ready(WRITE), buffer.ready(READ))
            await asyncio.to_thread(other.close)
            for task in tasks[:2]:
                with pytest.raises(ValueError, match="closed while it was awaited"):
                    await task
            with pytest.raises(ValueError, match="closed"):
                await other.ready(READ)
            assert watched() == 1
            fence.signal()
            await tasks[2]
            return number

        number = asyncio.run(main())
        join_threads()
        assert not is_open(number)

    @pytest.mark.needs("vgem")
    def test_a_time_out_leaves_nothing(self, buffer, device, gem):
        async def main():
            fence = device.attach_fence(gem, READ)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(buffer.ready(WRITE), 0.01)
            assert watched() == 0
            await buffer.ready(READ)
            fence.signal()
            await buffer.ready(WRITE)

        asyncio.run(main())
        number = buffer.detach()
        dmabuf.Buffer(number).close()

    def test_what_is_no_access_and_a_closed_buffer_are_refused(self, buffer):
        async def main():
            with pytest.raises(TypeError, match="access must be"):
                await buffer.ready("read")
            with pytest.raises(ValueError, match="access must be"):
                await buffer.ready(4)
            other = buffer.dup()
            other.close()
            with pytest.raises(ValueError, match=r"closed.*\[closed\]"):
                await other.ready(READ)

        asyncio.run(main())


class TestOtherLibraries:
    """trio and anyio wait for the descriptor, of objects as they are."""

    def test_trio(self, pending):
        import trio
        import trio.testing

        async def main():
            with trio.move_on_after(0) as scope:
                await trio.lowlevel.wait_readable(pending.fence)
            assert scope.cancelled_caught
            with pending.fence.dup() as other:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.lowlevel.wait_readable, pending.fence)
                    nursery.start_soon(trio.lowlevel.wait_readable, other)
                    await trio.testing.wait_all_tasks_blocked()
                    pending.signal()
            assert pending.fence.signaled

        trio.run(main)

    @pytest.mark.needs("vgem")
    def test_trio_on_a_buffer(self, buffer, device, gem):
        import trio
        import trio.testing

        async def main():
            fence = device.attach_fence(gem, READ)
            await trio.lowlevel.wait_readable(buffer)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.lowlevel.wait_writable, buffer)
                await trio.testing.wait_all_tasks_blocked()
                fence.signal()

        trio.run(main)

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_anyio(self, pending, backend):
        import anyio

        async def main():
            with anyio.move_on_after(0.01) as scope:
                await anyio.wait_readable(pending.fence)
            assert scope.cancelled_caught
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.wait_readable, pending.fence)
                await anyio.wait_all_tasks_blocked()
                pending.signal()
            assert pending.fence.signaled

        anyio.run(main, backend=backend)
