"""What is there at once gives the event loop a turn, too: other tasks, time-outs and Ctrl-C.

No step here has to wait, as in a task whose work takes longer than the next thing takes to come.
"""

import asyncio
import os
import socket
from pathlib import Path

import pytest
from helpers import cameras
from helpers.turns import STEPS, has_turns

import dmabuf
from dmabuf import Access, Image, devices, share
from dmabuf.devices import v4l2
from dmabuf.devices.v4l2._ring import SlotState

LONG = 30  # seconds: no test waits so long, unless what it tests is broken


@pytest.mark.needs("vivid")
class TestFrames:
    @pytest.fixture
    def frames(self):
        with cameras.camera() as camera, camera.stream() as frames:
            yield frames

    @staticmethod
    async def take(frames):
        assert frames._ring.session.wait(LONG)  # one is there, as after work that took long
        async with await anext(frames):
            pass

    def test_of_a_camera(self, frames):
        assert has_turns(lambda: self.take(frames))

    def test_of_a_camera_are_ended_by_a_time_out_and_none_is_lost(self, frames):
        async def work():
            while True:
                await self.take(frames)

        async def run():
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(work(), 0.1)

        asyncio.run(run())
        assert frames._ring.count(SlotState.HELD) == 0

    def test_of_an_output(self):
        async def take():
            (await anext(frames)).leave()

        with v4l2.Output(cameras.find("vivid", output=True)) as output:
            output.set_format("R8", cameras.WIDTH, cameras.HEIGHT)
            with output.stream() as frames:
                assert has_turns(take)


def test_an_access(buffer):
    async def access():
        async with buffer.write():
            pass

    assert has_turns(access)


def test_an_access_of_an_image(buffer):
    async def access():
        async with Image(buffer, "R8", 64, 32).write():
            pass

    assert has_turns(access)


@pytest.mark.needs("export")
def test_a_fence_that_has_signalled(buffer):
    async def wait():
        await fence

    with buffer.export_fence(Access.WRITE) as fence:
        assert fence.signaled
        assert has_turns(wait)


def test_a_pool(allocate):
    async def acquire():
        (await pool.acquire_async()).close()

    with dmabuf.Pool(1, 4096, allocate=allocate) as pool:
        assert has_turns(acquire)


@pytest.mark.needs("vgem", "root", "own machine")
def test_events_of_devices(device):
    async def step():
        assert (await anext(watch)).path == device.path

    uevent = Path(f"/sys/class/drm/{os.path.basename(device.path)}/uevent")
    with devices.watch() as watch:
        for _ in range(STEPS):
            uevent.write_text("change")
        assert has_turns(step)


def test_messages_over_a_socket():
    async def send_and_receive():
        await share.send_async(ours, [], b"message")
        assert (await share.receive_async(theirs)).message == b"message"

    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        assert has_turns(send_and_receive)
