"""Messages over Unix sockets in an event loop."""

import asyncio

import pytest
from helpers.sockets import CONNECTED, KINDS, STREAM, socketpair

from dmabuf import share


class TestInAnEventLoop:
    def run(self, kind, main):
        async def timed(*sockets):
            await asyncio.wait_for(main(*sockets), 60)

        with socketpair(kind) as (ours, theirs):
            ours.setblocking(False)
            theirs.setblocking(False)
            asyncio.run(timed(ours, theirs))

    @pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
    def test_tasks_take_turns(self, kind, buffer):
        async def main(ours, theirs):
            messages = [bytes([index]) * 100_000 for index in range(8)]
            receives = [asyncio.create_task(share.receive_async(theirs)) for _ in messages]
            await asyncio.gather(*(share.send_async(ours, [buffer], text) for text in messages))
            for receive, message in zip(receives, messages, strict=True):
                with await receive as received:
                    assert received.objects == [buffer]
                    assert received.message == message

        self.run(kind, main)

    @pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
    def test_a_receive_that_is_cancelled_before_a_message_loses_nothing(self, kind, buffer):
        async def main(ours, theirs):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(share.receive_async(theirs), 0.01)
            await share.send_async(ours, [buffer])
            with await share.receive_async(theirs) as received:
                assert received.objects == [buffer]

        self.run(kind, main)

    @pytest.mark.parametrize("kind", CONNECTED.values(), ids=list(CONNECTED))
    def test_a_send_that_is_cancelled_in_the_middle_shuts_the_socket_down(self, kind, buffer):
        async def main(ours, theirs):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(share.send_async(ours, [buffer], b"x" * (1 << 24)), 0.05)
            with pytest.raises(ConnectionResetError):
                await share.receive_async(theirs, limit=1 << 25)

        self.run(kind, main)

    def test_a_blocking_socket_is_refused(self, buffer):
        async def main():
            with socketpair(STREAM) as (ours, _), pytest.raises(ValueError, match="setblocking"):
                await share.send_async(ours, [buffer])

        asyncio.run(main())
