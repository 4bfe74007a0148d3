"""Streams of V4L2 frames from a camera: on whose buffers, given back how, stopped when."""

import asyncio
import contextlib
import errno
import threading
import time

import pytest
from helpers import cameras, fences, vgem
from helpers.tasks import waiting, watched

import dmabuf
from dmabuf import Access
from dmabuf.devices import v4l2

pytestmark = pytest.mark.needs("vivid")
GIVEN_BACK = "frame that was given back"
OVER = "stream from /dev/video[0-9]+ is over"
LONG = 30  # seconds: no test waits so long, unless what it tests is broken
XRGB = ("XRGB8888", cameras.WIDTH, cameras.HEIGHT)


def from_heap(size):
    with dmabuf.Heap("system") as heap:
        return heap.allocate(size)


EXPORTERS = [
    pytest.param(from_heap, marks=pytest.mark.needs("heap"), id="heap"),
    pytest.param(dmabuf.udmabuf.allocate, marks=pytest.mark.needs("udmabuf"), id="udmabuf"),
    pytest.param(vgem.allocate, marks=pytest.mark.needs("vgem"), id="vgem"),
]


@pytest.fixture
def planar():
    """Give a multi-planar camera."""
    with cameras.camera(multi_planar=True) as camera:
        yield camera


@pytest.fixture
def frames(camera):
    """Give a stream on the camera's own buffers."""
    with camera.stream() as frames:
        yield frames


@contextlib.contextmanager
def allocated(allocate, format, count=4):
    """Give the buffers of frames, closed at the end."""
    with contextlib.ExitStack() as stack:
        yield [
            tuple(stack.enter_context(allocate(size)) for size in format.sizeimage)
            for _ in range(count)
        ]


@contextlib.contextmanager
def streaming(camera, allocate, count=4):
    """Give a stream on buffers of ours, closed after it."""
    with allocated(allocate, camera.format(), count) as buffers, camera.stream(buffers) as frames:
        yield frames


def picture(camera, *format):
    """Return the planes of a frame on the device's own buffers: vivid's are all alike."""
    camera.set_format(*format)
    with camera.stream() as frames, frames.frame(LONG) as frame:
        return cameras.planes(frame.image)


class TestBuffers:
    @pytest.mark.parametrize("allocate", EXPORTERS)
    def test_of_every_exporter_are_filled(self, camera, planar, allocate):
        for one in (camera, planar):
            expected = picture(one, *XRGB)
            with allocated(allocate, one.format()) as buffers, one.stream(buffers) as frames:
                assert frames.buffers == buffers
                seen = set()
                while len(seen) < len(buffers):  # each place was filled
                    with frames.frame(LONG) as frame:
                        assert frame.buffers in buffers
                        assert cameras.planes(frame.image) == expected
                        seen.add(frame.buffers)

    @pytest.mark.parametrize("allocate", EXPORTERS)
    def test_one_a_plane_are_filled(self, planar, allocate):
        expected = picture(planar, "NV12", *XRGB[1:])
        made = planar.set_format("NM12", *XRGB[1:])
        assert made.fourcc == "NM12"
        with streaming(planar, allocate) as frames, frames.frame(LONG) as frame:
            assert len(frame.buffers) == 2
            assert frame.image.format.name == "NV12"
            assert frame.image.buffers == frame.buffers
            assert cameras.planes(frame.image) == expected

    @pytest.mark.parametrize("own", [False, True])
    def test_data_begins_where_the_device_says(self, planar, allocate, own):
        """vivid begins a plane of NM16 at byte 128."""
        expected = picture(planar, "NV16", *XRGB[1:])
        planar.set_format("NM16", *XRGB[1:])
        stream = planar.stream() if own else streaming(planar, allocate)
        with stream as frames, frames.frame(LONG) as frame:
            assert [plane.offset for plane in frame.image.planes] == [128, 0]
            assert cameras.planes(frame.image) == expected
            assert frame.bytes_used[0] >= 128 + 320 * 180

    @pytest.mark.parametrize("format", ["YUYV", "YUV420", "RGB565", "RGB888", "R8", "SRGGB10"])
    def test_of_other_formats_are_as_long_as_their_pictures(self, camera, allocate, format):
        expected = picture(camera, format, *XRGB[1:])
        with streaming(camera, allocate) as frames, frames.frame(LONG) as frame:
            assert cameras.planes(frame.image) == expected
            assert frame.bytes_used == (sum(map(len, expected)),)
            with frame.data as data:
                assert data == b"".join(expected)

    def test_data_of_several_buffers_is_refused(self, planar):
        planar.set_format("NM12", *XRGB[1:])
        with (
            planar.stream() as frames,
            frames.frame(LONG) as frame,
            pytest.raises(ValueError, match="this frame has 2 buffers, one per plane"),
        ):
            _ = frame.data

    def test_of_the_device_are_exported(self, camera):
        camera.set_format(*XRGB)
        with camera.stream(count=3) as frames:
            assert len(frames.buffers) == 3
            with frames.frame(LONG) as frame:
                (buffer,) = frame.buffers
                assert buffer.exporter == "videobuf2_vmalloc"
                assert buffer.size >= camera.format().sizeimage[0]
                with buffer.read() as memory:
                    content = bytes(memory[: 320 * 180 * 4])
                copy = buffer.dup()
        assert buffer.closed
        assert len({content[at : at + 4] for at in range(0, 320 * 4, 4)}) >= 8  # the bars' colours
        with copy, copy.read() as memory:
            assert bytes(memory[: len(content)]) == content

    def test_of_a_format_without_a_picture_are_there(self, camera):
        camera.set_format("HSV4", *XRGB[1:])
        with camera.stream() as frames, frames.frame(LONG) as frame:
            assert frame.bytes_used == (320 * 180 * 4,)
            assert len(frame.buffers) == 1
            with pytest.raises(ValueError, match="HSV4 is not in dmabuf's table"):
                frame.image  # noqa: B018

    def test_may_be_replaced_one_by_one(self, camera, allocate):
        camera.set_format(*XRGB)
        with allocated(allocate, camera.format(), 3) as buffers:
            ((spare,),) = [buffers.pop()]
            with camera.stream(buffers) as frames:
                with frames.frame(LONG) as frame:
                    taken = frame.image
                    frame.replace(spare)
                    assert frame.buffers == (spare,)
                    assert frame.image.buffers == (spare,)
                while True:
                    with frames.frame(LONG) as frame:
                        if frame.buffers == (spare,):
                            assert cameras.planes(frame.image) == cameras.planes(taken)
                            break
                        assert frame.image.buffers != taken.buffers

    def test_may_be_images(self, camera, allocate):
        camera.set_format(*XRGB)
        with allocated(allocate, camera.format(), 2) as buffers:
            images = [dmabuf.image.Image(buffer, *XRGB) for (buffer,) in buffers]
            with camera.stream(images) as frames, frames.frame(LONG) as frame:
                assert frame.buffers in buffers


class TestBuffersThatAreRefused:
    def test_too_small(self, camera, planar, allocate):
        camera.set_format(*XRGB)
        planar.set_format("NM12", *XRGB[1:])
        with allocate(4096) as small, allocate(320 * 180) as large:
            for one, frame in ((camera, small), (planar, (large, small))):
                with pytest.raises(dmabuf.RefusedError, match=r"sizeimage.*too small") as caught:
                    one.stream([frame] * 2)
                assert caught.value.errno == errno.EINVAL

    def test_too_few_or_too_many_for_a_frame(self, camera, planar, allocate):
        planar.set_format("NM12", *XRGB[1:])
        with allocate(320 * 180) as one:
            for queue, frame, needed in ((camera, (one, one), 1), (planar, one, 2)):
                with pytest.raises(dmabuf.RefusedError, match=f"has {needed} buffers, not"):
                    queue.stream([frame])

    def test_too_few_for_the_device(self, camera, allocate):
        refused = pytest.raises(dmabuf.RefusedError, match="needs at least 2 buffers, not 1")
        with refused, streaming(camera, allocate, 1):
            pass
        with camera.stream(count=1) as frames:
            assert len(frames.buffers) == 2

    def test_none_or_more_than_v4l2_has(self, camera, buffer):
        camera.set_format("R8", 320, 180)
        for count in (0, 33, -1):
            with pytest.raises(ValueError, match=f"1 to 32 buffers, not {count}"):
                camera.stream(count=count)
        with pytest.raises(ValueError, match="1 to 32 buffers, not 0"):
            camera.stream([])

    def test_what_is_none(self, camera, buffer):
        for wrong in (None, buffer.fileno(), "buffer", (buffer, 1)):
            with pytest.raises(TypeError, match=r"a frame is on a dmabuf.Buffer|not iterable"):
                camera.stream([wrong])
        with pytest.raises(TypeError, match="has no len"):
            camera.stream(buffer)

    def test_a_picture_of_something_else(self, camera, allocate):
        camera.set_format(*XRGB)
        with allocate(2 * camera.format().sizeimage[0]) as large:
            for wrong in (
                dmabuf.image.Image(large, "XBGR8888", 320, 180),
                dmabuf.image.Image(large, "XRGB8888", 320, 100),
                dmabuf.image.Image(large, *XRGB, strides=2048),
                dmabuf.image.Image(large, *XRGB, offsets=[64]),
            ):
                with pytest.raises(dmabuf.RefusedError, match=r"is not what /dev/video. streams"):
                    camera.stream([wrong])

    def test_closed(self, camera, allocate):
        with allocated(allocate, camera.format(), 2) as buffers:
            frames = camera.stream(buffers)
        with pytest.raises(ValueError, match="operation on a closed Buffer"):
            frames.__enter__()
        frames.stop()
        with camera.stream() as frames, frames.frame(LONG):
            pass

    def test_in_the_place_of_the_devices_own(self, frames, allocate):
        refused = pytest.raises(dmabuf.RefusedError, match="has its device's own buffers")
        with allocate(320 * 180) as buffer, frames.frame(LONG) as frame, refused:
            frame.replace(buffer)

    def test_too_small_in_a_stream(self, camera, allocate):
        with (
            allocate(4096) as small,
            streaming(camera, allocate) as frames,
            frames.frame(LONG) as frame,
        ):
            with pytest.raises(dmabuf.RefusedError, match="too small"):
                frame.replace(small)
            assert frame.buffers in frames.buffers


class TestFrames:
    def test_come_in_order_with_their_times(self, frames):
        sequences, times = [], []
        for frame in frames:
            with frame:
                sequences.append(frame.sequence)
                times.append(frame.timestamp)
                assert frame.bytes_used == (320 * 180,)
                assert (frame.flags, frame.damaged) == (v4l2.FrameFlag(0), False)
                assert str(frame.sequence) in repr(frame)
            if len(sequences) == 4:
                break
        assert sorted(sequences) == sequences  # Linux 7.3's vivid has two frames 0
        assert sequences[0] == 0 < sequences[-1]
        assert sorted(times) == times
        assert abs(times[0] - time.monotonic()) < LONG

    def test_can_not_be_used_once_given_back(self, frames):
        with frames.frame(LONG) as frame:
            pass
        for use in (
            lambda: frame.image,
            lambda: frame.buffers,
            frame.queue,
            frame.__enter__,
            lambda: frame.replace(None),
            lambda: asyncio.run(frame.__aenter__()),
        ):
            with pytest.raises(ValueError, match=GIVEN_BACK):
                use()
        assert frame.sequence == 0
        assert "[given back]" in repr(frame)

    def test_are_given_back_once(self, frames):
        with frames.frame(LONG) as frame:
            frame.queue()
            with pytest.raises(ValueError, match=GIVEN_BACK):
                frame.queue()
        assert cameras.queued(frames) == 4

    def test_are_given_back_from_any_thread_in_any_order(self, frames):
        taken = [frames.frame(LONG) for _ in range(4)]
        threads = [threading.Thread(target=frame.queue) for frame in reversed(taken)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with frames.frame(LONG) as frame:
            assert frame.sequence > taken[-1].sequence

    def test_are_given_back_by_an_exception(self, frames):
        for _ in range(6):
            with pytest.raises(KeyError), frames.frame(LONG):
                raise KeyError
        assert cameras.queued(frames) == 4

    def test_are_waited_for_while_all_are_out(self, frames):
        taken = [frames.frame(LONG) for _ in range(4)]
        with pytest.raises(
            TimeoutError,
            match=r"no frame from /dev/video. within 0.01 s: all 4 are held",
        ) as caught:
            frames.frame(0.01)
        assert caught.value.errno == errno.ETIMEDOUT
        with fences.once_asleep(fences.POLL, taken.pop(0).queue), frames.frame(LONG):
            pass
        for frame in taken:
            frame.queue()

    def test_of_a_camera_take_no_time_or_length(self, frames):
        with frames.frame(LONG) as frame:
            with pytest.raises(AttributeError, match="timestamp"):
                frame.timestamp = 1.0
            with pytest.raises(AttributeError, match="bytes_used"):
                frame.bytes_used = (1,)

    def test_that_are_collected_warn_and_are_given_back(self, frames):
        for _ in range(5):
            frame = frames.frame(LONG)
            with pytest.warns(ResourceWarning, match=r"not given back; use `with frame`"):
                del frame

    def test_stay_readable_after_the_stream(self, camera, allocate):
        with allocated(allocate, camera.format(), 2) as buffers:
            with camera.stream(buffers) as frames:
                frame = frames.frame(LONG)
            assert len(cameras.planes(frame.image)[0]) == 320 * 180
            frame.queue()  # and may be given back all the same
            with pytest.raises(ValueError, match=GIVEN_BACK):
                frame.queue()

    def test_outlive_their_device(self, camera, allocate):
        with streaming(camera, allocate) as frames:
            frame = frames.frame(LONG)
            camera.close()
            assert not frames.running
            with frame:
                assert len(cameras.planes(frame.image)[0]) == 320 * 180
            with pytest.raises(ValueError, match=OVER):
                frames.frame()
            assert list(frames) == []


class TestStreams:
    def test_are_entered_once(self, camera):
        frames = camera.stream()
        assert "[new]" in repr(frames)
        for use in (frames.frame, frames.__next__):
            with pytest.raises(ValueError, match="has not begun"):
                use()
        assert not frames.running
        with frames:
            assert frames.running
            assert frames.format == camera.format()
            with pytest.raises(ValueError, match="used only once"):
                frames.__enter__()
            assert frames.running
        assert "[over]" in repr(frames)
        for use, error in ((frames.frame, OVER), (frames.__enter__, "used only once")):
            with pytest.raises(ValueError, match=error):
                use()
        assert list(frames) == []
        frames.stop()

    def test_touch_nothing_before_they_are_entered(self, camera):
        camera.stream()
        camera.set_format(*XRGB)

    def test_begin_again_with_another_format(self, camera, allocate):
        for format in (XRGB, ("NV12", 640, 360), ("R8", 320, 180)):
            assert picture(camera, *format) == picture(camera, *format)

    def test_keep_their_device_from_others_and_from_changes(self, camera, frames):
        path = camera.device.path
        with v4l2.Capture(path) as other:
            for change in (
                lambda: camera.set_format(*XRGB),
                lambda: other.set_format(*XRGB),
                camera.stream().__enter__,
                other.stream().__enter__,
            ):
                with pytest.raises(OSError, match=f"{path}: can't .*in use") as caught:
                    change()
                assert caught.value.errno == errno.EBUSY
        with frames.frame(LONG):
            pass

    def test_end_for_threads_that_wait(self, frames):
        taken = [frames.frame(LONG) for _ in range(4)]
        ends = []
        with fences.once_asleep(fences.POLL, frames.stop):
            ends += frames
        assert ends == []
        for frame in taken:
            frame.queue()

    def test_end_for_a_signal_handler_that_stops_them(self, camera, frames):
        taken = [frames.frame(LONG) for _ in range(4)]
        with fences.handled(frames.stop), fences.once_asleep(fences.POLL, fences.interrupt):
            assert list(frames) == []
        for frame in taken:
            frame.queue()
        with camera.stream() as again, again.frame(LONG):
            pass

    def test_let_several_threads_take_frames(self, frames):
        taken, errors = [], []

        def take():
            try:
                for frame in frames:
                    with frame:
                        taken.append(frame.sequence)
                    if len(taken) > 12:
                        frames.stop()
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=take) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(taken) > 12

    def test_that_are_collected_warn_and_stop(self, camera):
        frames = camera.stream().__enter__()
        with pytest.warns(ResourceWarning, match=r"unstopped .*Stream /dev/video. \[running\]"):
            del frames
        camera.set_format(*XRGB)

    def test_leave_nothing_behind_when_they_fail_to_start(self, camera, allocate):
        """The last buffer is closed: the ones before are queued by then."""
        with allocated(allocate, camera.format(), 3) as buffers:
            frames = camera.stream(buffers)
            buffers[-1][0].close()
            with pytest.raises(ValueError, match="closed Buffer"):
                frames.__enter__()
            camera.set_format(*XRGB)

    def test_go_on_after_a_buffer_could_not_be_given_back(self, camera, allocate):
        with streaming(camera, allocate, 3) as frames:
            frame = frames.frame(LONG)
            frame.buffers[0].close()
            with pytest.raises(ValueError, match="closed Buffer"):
                frame.queue()
            with allocate(camera.format().sizeimage[0]) as instead, frame:
                frame.replace(instead)
                frame.queue()
                for _ in range(4):
                    with frames.frame(LONG):
                        pass
                frames.stop()

    def test_end_with_their_device_in_any_order(self, camera):
        frames = camera.stream().__enter__()
        frame = frames.frame(LONG)
        camera.close()
        frames.stop()
        frame.queue()
        assert not frames.running


class TestFences:
    @pytest.mark.needs("vgem")
    @pytest.mark.parametrize("access", [Access.READ, Access.WRITE])
    def test_are_waited_for_at_the_start(self, camera, allocate, device, access):
        with allocated(allocate, camera.format(), 2) as buffers:
            with device.import_buffer(buffers[1][0]) as gem:
                fence = device.attach_fence(gem, access)
            stream = camera.stream(buffers)
            with fences.once_asleep(fences.POLL, fence.signal), stream, stream.frame(LONG):
                pass

    @pytest.mark.needs("vgem")
    def test_are_waited_for_when_a_frame_is_given_back(self, camera, allocate, device):
        with streaming(camera, allocate) as frames, frames.frame(LONG) as frame:
            with device.import_buffer(frame.buffers[0]) as gem:
                fence = device.attach_fence(gem, Access.READ)
            with fences.once_asleep(fences.POLL, fence.signal):
                frame.queue()

    @pytest.mark.needs("vgem")
    def test_are_awaited_in_asyncio(self, camera, allocate, device):
        async def main():
            with allocated(allocate, camera.format(), 2) as buffers:
                with device.import_buffer(buffers[0][0]) as gem:
                    fence = device.attach_fence(gem, Access.WRITE)
                frames = camera.stream(buffers)
                (task,) = await waiting(frames.__aenter__())
                assert not task.done()
                fence.signal()
                async with contextlib.AsyncExitStack() as stack:
                    stack.push_async_exit(await task)
                    frame = await anext(frames)
                    with device.import_buffer(frame.buffers[0]) as gem:
                        fence = device.attach_fence(gem, Access.READ)
                    (task,) = await waiting(frame.__aexit__(None, None, None))
                    assert not task.done()
                    fence.signal()
                    await task

        asyncio.run(main())


class TestAsyncio:
    def test_frames_are_awaited(self, camera):
        async def main():
            sequences = []
            async with camera.stream() as frames:
                async for frame in frames:
                    async with frame:
                        sequences.append(frame.sequence)
                    if len(sequences) == 4:
                        break
            assert watched() == 0
            return sequences

        sequences = asyncio.run(main())
        assert sorted(sequences) == sequences

    def test_other_tasks_run_meanwhile(self, frames):
        async def main():
            taken = [await anext(frames) for _ in range(4)]
            (task,) = await waiting(anext(frames))
            await asyncio.sleep(0)
            assert not task.done()
            assert watched() == 1
            taken.pop().queue()
            async with await task:
                pass
            for frame in taken:
                frame.queue()

        asyncio.run(main())

    def test_stopping_ends_iterations(self, camera, frames):
        async def consume():
            return [frame async for frame in frames]

        async def main():
            taken = [await anext(frames) for _ in range(4)]
            tasks = await waiting(consume(), consume())
            frames.stop()
            camera.set_format(*XRGB)  # at once: nobody polls the queue any more
            assert await asyncio.gather(*tasks) == [[], []]
            assert watched() == 0
            for frame in taken:
                frame.queue()

        asyncio.run(main())

    def test_stopping_from_another_thread_ends_iterations(self, camera, frames):
        async def main():
            taken = [await anext(frames) for _ in range(4)]
            (task,) = await waiting(anext(frames, None))
            await asyncio.to_thread(frames.stop)
            assert await task is None
            assert watched() == 0
            for frame in taken:
                frame.queue()
            async with camera.stream() as again, await anext(again):
                pass

        asyncio.run(main())

    def test_a_wait_can_be_cancelled(self, frames):
        async def main():
            taken = [await anext(frames) for _ in range(4)]
            (task,) = await waiting(anext(frames))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert watched() == 0
            for frame in taken:
                frame.queue()
            async with await anext(frames):
                pass

        asyncio.run(main())


@pytest.mark.needs("own machine", "root")
class TestUnplugged:
    GONE = "/dev/video[0-9]+: can't {}: the device has gone"

    @pytest.mark.parametrize("multi_planar", [False, True])
    def test_frames_end_with_a_clear_error(self, allocate, multi_planar):
        with (
            cameras.camera(multi_planar=multi_planar) as camera,
            allocated(allocate, camera.format(), 3) as buffers,
        ):
            with camera.stream(buffers) as frames:
                taken = frames.frame(LONG)
                with cameras.unplugged():
                    with pytest.raises(OSError, match=self.GONE.format("take a frame")) as caught:
                        frames.frame(LONG)
                    assert caught.value.errno == errno.ENODEV
                    with pytest.raises(OSError, match=self.GONE.format("queue a buffer")):
                        taken.queue()
                    with pytest.raises(OSError, match=self.GONE.format("read its format")):
                        camera.format()
                    frames.stop()
            taken.queue()

    def test_a_thread_that_waits_is_woken(self, frames):
        taken = [frames.frame(LONG) for _ in range(4)]
        with contextlib.ExitStack() as stack:

            def unplug():
                stack.enter_context(cameras.unplugged())

            with (
                pytest.raises(OSError, match=self.GONE.format("take a frame")),
                fences.once_asleep(fences.POLL, unplug),
            ):
                frames.frame(LONG)
            frames.stop()
        for frame in taken:
            frame.queue()

    def test_an_await_is_woken(self, frames):
        async def main():
            taken = [await anext(frames) for _ in range(4)]
            (task,) = await waiting(anext(frames))
            await asyncio.sleep(0.01)  # in the selector
            with cameras.unplugged():
                with pytest.raises(OSError, match=self.GONE.format("take a frame")):
                    await task
                assert watched() == 0
                frames.stop()
            for frame in taken:
                frame.queue()

        asyncio.run(main())

    def test_its_exported_buffers_stay_valid(self, planar):
        planar.set_format("NM12", *XRGB[1:])
        with planar.stream() as frames:
            frame = frames.frame(LONG)
            with cameras.unplugged():
                luma, chroma = cameras.planes(frame.image)
                assert len(set(luma)) > 4
                assert len(set(chroma)) > 4
                with pytest.raises(OSError, match=self.GONE.format("queue a buffer")), frame:
                    pass
                for _ in range(2):
                    with pytest.raises(OSError, match="the device has gone"):
                        next(frames)


def test_a_frame_that_is_left_goes_back_without_a_wait(camera: v4l2.Capture) -> None:
    with camera.stream(count=2) as frames:
        for _ in range(6):
            frame = frames.frame(60)
            frame.leave()
            with pytest.raises(ValueError, match="given back"):
                frame.leave()
