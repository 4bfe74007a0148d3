"""`async with buffer.read()`: the wait is the event loop's, then the bracket is as without it."""

import asyncio
import contextlib
import os

import pytest
from helpers import interrupt
from helpers.strace import sequences
from helpers.tasks import waiting, watched

import dmabuf
from dmabuf import Access

pytestmark = pytest.mark.needs("vgem")
SCOPES = {
    Access.READ: dmabuf.Buffer.read,
    Access.WRITE: dmabuf.Buffer.write,
    Access.READ_WRITE: dmabuf.Buffer.read_write,
}


async def entered(scope):
    async with scope as memory:
        return bytes(memory[:1])


@pytest.mark.parametrize("access", SCOPES)
def test_the_loop_runs_while_a_scope_waits_and_the_scope_begins_after_the_fence(
    buffer, device, gem, access
):
    async def main():
        fence = device.attach_fence(gem, Access.WRITE)
        (task,) = await waiting(entered(SCOPES[access](buffer)))
        assert watched() == 1
        assert not task.done()
        fence.signal()
        assert await asyncio.wait_for(task, 10) == b"\0"
        assert watched() == 0

    asyncio.run(main())


def test_it_gives_the_memory_and_takes_it_back(buffer):
    async def main():
        async with buffer.write() as memory:
            memory[:5] = b"hello"
        async with buffer.read() as seen:
            assert bytes(seen[:5]) == b"hello"
            assert seen.readonly
        with pytest.raises(ValueError, match="released"):
            seen[0]

    asyncio.run(main())


def test_each_has_its_own_start_and_end_also_when_the_body_raises(buffer):
    def body():
        async def main():
            with contextlib.suppress(KeyError):
                async with buffer.read(), buffer.read_write():
                    raise KeyError

        asyncio.run(main())

    ((*calls,),) = [[call for call in calls if call.what != "close"] for calls in sequences(body)]
    number = buffer.fileno()
    of_buffer = [(call.what, call.flags & 3) for call in calls if call.descriptor == number]
    assert of_buffer == [("START", 1), ("START", 3), ("END", 3), ("END", 1)]


def test_a_cancelled_wait_begins_nothing(buffer, device, gem):
    async def main():
        fence = device.attach_fence(gem, Access.WRITE)
        (task,) = await waiting(entered(buffer.read()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert watched() == 0
        fence.signal()

    asyncio.run(main())
    os.close(buffer.detach())  # EBUSY if anything held it


def test_closing_the_buffer_ends_the_wait(buffer, device, gem):
    async def main():
        fence = device.attach_fence(gem, Access.WRITE)
        with buffer.dup() as other:
            (task,) = await waiting(entered(other.read()))
            other.close()
            with pytest.raises(ValueError, match="closed while it was awaited"):
                await task
        fence.signal()

    asyncio.run(main())


def test_a_scope_is_for_a_single_use(buffer):
    async def main():
        scope = buffer.read()
        async with scope:
            with pytest.raises(ValueError, match="only once"):
                async with scope:
                    pass
        with pytest.raises(ValueError, match="only once"), scope:
            pass

    asyncio.run(main())


def test_ten_readers_wait_in_one_loop_without_a_thread(buffer, device, gem):
    async def main():
        fence = device.attach_fence(gem, Access.WRITE)
        tasks = await waiting(*[entered(buffer.read()) for _ in range(10)])
        assert watched() == 1
        fence.signal()
        assert await asyncio.wait_for(asyncio.gather(*tasks), 10) == [b"\0"] * 10

    asyncio.run(main())


def test_a_handler_that_raises_on_the_way_out_leaves_no_access_open(buffer):
    for moment in interrupt.every_point():
        with buffer.dup() as other:
            scope = other.read()
            asyncio.run(scope.__aenter__())
            leaving = scope.__aexit__(None, None, None)
            with (
                contextlib.suppress(interrupt.Interrupted, StopIteration),
                moment.runs(interrupt.raise_interrupted),
            ):
                leaving.send(None)
            leaving.close()
            del leaving, scope
            os.close(other.detach())  # EBUSY if the access was still open
