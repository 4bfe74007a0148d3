"""V4L2 outputs: what is written comes out, byte for byte; and memory-to-memory devices."""

import asyncio
import contextlib
import errno
import threading

import numpy
import pytest
from helpers import cameras, fences
from helpers.tasks import waiting, watched
from test_v4l2_stream import EXPORTERS, GIVEN_BACK, LONG, allocated, streaming

import dmabuf
from dmabuf import Access
from dmabuf.devices import v4l2
from dmabuf.image import Image

pytestmark = pytest.mark.needs("vivid")
SIZE = 720, 480  # of the timings that cameras.loop() sets


@pytest.fixture(params=[False, True], ids=["single", "multi"])
def loop(request):
    """Give an output and the input that it is connected to."""
    with cameras.loop(multi_planar=request.param) as loop:
        yield loop


def noise(seed, shape, dtype):
    """Return what no test picture looks like."""
    return numpy.random.default_rng(seed).integers(0, 256, shape, dtype=dtype)


def fill(image, seed):
    """Write noise into all planes and return its bytes."""
    with image.write() as planes:
        for plane in planes:
            plane[...] = noise(seed, plane.shape, "u1")
    return cameras.planes(image)


@contextlib.contextmanager
def shown(sink, seed):
    """Show the same noise in the block, again and again, and give its bytes."""

    def show_again():
        for frame in sink:
            frame.queue()

    for frame in [sink.frame(LONG) for _ in sink.buffers]:
        with frame:
            expected = fill(frame.image, seed)
    # vivid shows what is queued, and only that: a thread, since it doesn't wait for the camera.
    thread = threading.Thread(target=show_again)
    thread.start()
    try:
        yield expected
    finally:
        sink.stop()
        thread.join()


def arrives(output, camera, stream):
    """Whether what an output shows comes out of the camera, byte for byte, once connected."""
    for attempt in range(6):
        with stream(output) as sink, stream(camera) as source, shown(sink, attempt) as expected:
            for _ in range(12):
                with source.frame(LONG) as frame:
                    if cameras.planes(frame.image) == expected:
                        return True
        cameras.connect(output, camera)
    return False


class TestLoop:
    @pytest.mark.parametrize("allocate", EXPORTERS)
    def test_what_is_written_is_captured(self, loop, allocate):
        """From each exporter's buffers, and into them."""
        for queue in loop:
            queue.set_format("R8", *SIZE)
        output, camera = loop
        assert arrives(output, camera, lambda queue: streaming(queue, allocate))

    @pytest.mark.parametrize("format", ["XRGB8888", "YUYV", "NV12"])
    def test_on_the_devices_own_buffers(self, loop, format):
        for queue in loop:
            queue.set_format(format, *SIZE)
        output, camera = loop
        assert arrives(output, camera, lambda queue: queue.stream(count=2))

    def test_with_a_buffer_a_plane(self, allocate):
        with cameras.loop(multi_planar=True) as loop:
            for queue in loop:
                assert len(queue.set_format("NM16", *SIZE).sizeimage) == 2
            output, camera = loop
            assert arrives(output, camera, lambda queue: streaming(queue, allocate))

    def test_a_camera_is_shown_without_a_copy(self, allocate):
        """The camera's buffers go to the output, and back once that is done with them."""
        with cameras.loop() as (output, _), cameras.camera(multi_planar=True) as camera:
            camera.set_format("R8", cameras.WIDTH, cameras.HEIGHT)
            output.set_format("R8", cameras.WIDTH, cameras.HEIGHT)
            with (
                streaming(camera, allocate, 4) as source,
                output.stream(source.buffers[:2]) as sink,
            ):
                shown = {}
                for frame in source:
                    shown[frame.buffers] = frame
                    done = sink.queue(frame.image, LONG)
                    if done is not None:
                        shown.pop(done).queue()
                    if frame.sequence > 5:
                        break
                assert 0 < len(shown) <= 2
                for frame in shown.values():
                    frame.queue()


class TestOutput:
    def test_frames_come_empty_and_are_queued_on_leaving(self, output):
        with output.stream(count=3) as frames:
            assert cameras.queued(frames) == 0
            taken = [frames.frame() for _ in range(3)]
            assert not any(frame.was_queued for frame in taken)
            assert taken[0].bytes_used == output.format().sizeimage
            assert {(frame.sequence, frame.flags) for frame in taken} == {(0, v4l2.FrameFlag(0))}
            with pytest.raises(TimeoutError, match=r"no frame from /dev/video. within 0.01 s"):
                frames.frame(0.01)
            for frame in taken:
                with frame:
                    fill(frame.image, 4)
            with frames.frame(LONG) as frame:
                assert frame.was_queued
                assert not frame.damaged

    def test_a_frame_left_by_an_exception_is_not_shown(self, output):
        with output.stream(count=2) as frames:
            for _ in range(4):
                with pytest.raises(KeyError), frames.frame(LONG) as frame:
                    raise KeyError
                with pytest.raises(ValueError, match=GIVEN_BACK):
                    frame.queue()
            assert cameras.queued(frames) == 0

    def test_a_collected_frame_warns_and_is_not_shown(self, output):
        with output.stream(count=2) as frames:
            for _ in range(4):
                frame = frames.frame()
                with pytest.warns(ResourceWarning, match="not given back"):
                    del frame
            assert cameras.queued(frames) == 0

    def test_bytes_used_are_checked(self, output):
        with output.stream() as frames, frames.frame() as frame:
            size = output.format().sizeimage[0]
            for wrong in ((), (0,), (-1,), (size + 1,), (1, 1)):
                with pytest.raises(ValueError, match="bytes_used of a frame must be from 1 to"):
                    frame.bytes_used = wrong
            with pytest.raises(TypeError):
                frame.bytes_used = 1
            frame.bytes_used = (size - 1,)
            assert frame.bytes_used == (size - 1,)
            with pytest.raises(OSError, match="can't queue a buffer: VIDIOC_QBUF") as caught:
                frame.queue()  # vivid takes whole pictures only
            assert caught.value.errno == errno.EINVAL
            frame.bytes_used = (size,)

    def test_images_are_queued(self, output, allocate):
        with (
            allocated(allocate, output.format(), 3) as buffers,
            output.stream(buffers[:2]) as frames,
        ):
            images = [Image(b, "R8", cameras.WIDTH, cameras.HEIGHT) for (b,) in buffers]
            assert frames.queue(images[2]) is None
            assert frames.queue(images[0]) is None
            assert frames.queue(images[1], LONG) == buffers[2]
            with pytest.raises(KeyError), frames.frame(LONG):
                raise KeyError  # what the device is done with is told all the same
            assert frames.queue(buffers[2], LONG) == buffers[0]

    def test_what_does_not_fit_is_not_queued(self, output, allocate):
        with allocate(4096) as small, streaming(output, allocate) as frames:
            with pytest.raises(dmabuf.RefusedError, match="too small"):
                frames.queue(small)
            with pytest.raises(TypeError, match="Buffer"):
                frames.queue("picture")
            assert cameras.queued(frames) == 0
        with output.stream() as frames, allocate(output.format().sizeimage[0]) as buffer:
            with pytest.raises(dmabuf.RefusedError, match="device's own buffers") as caught:
                frames.queue(buffer)
            assert caught.value.errno == errno.EINVAL

    @pytest.mark.needs("vgem")
    def test_writers_are_waited_for_and_readers_are_not(self, output, allocate, device):
        with streaming(output, allocate) as frames:
            for access in (Access.READ, Access.WRITE):
                frame = frames.frame()
                with device.import_buffer(frame.buffers[0]) as gem:
                    fence = device.attach_fence(gem, access)
                if access is Access.WRITE:
                    with fences.once_asleep(fences.POLL, fence.signal):
                        frame.queue()
                else:
                    frame.queue()
                    fence.signal()

    def test_frames_are_awaited(self, output):
        async def main():
            async with output.stream(count=2) as frames:
                count = 0
                async for frame in frames:
                    async with frame:
                        count += 1
                    if count == 5:
                        break
                with pytest.raises(KeyError):
                    async with await anext(frames):
                        raise KeyError
            assert watched() == 0

        asyncio.run(main())

    @pytest.mark.needs("own machine", "root")
    def test_unplugging_ends_it(self, output, allocate):
        with streaming(output, allocate, 2) as frames:
            taken = [frames.frame() for _ in range(2)]
            for frame in taken:
                frame.queue()
            with cameras.unplugged():
                with pytest.raises(OSError, match="the device has gone") as caught:
                    list(frames)
                assert caught.value.errno == errno.ENODEV
                frames.stop()


@pytest.mark.needs("vim2m")
class TestMemoryToMemory:
    @pytest.fixture
    def device(self):
        with v4l2.Device(cameras.find("vim2m")) as device:
            device.set_control("Transaction Time (msec)", 1)
            for queue in (device.output, device.capture):
                queue.set_format("RGB565", 64, 48)
            yield device
            device.set_control("Horizontal Flip", 0)

    @contextlib.contextmanager
    def streams(self, device, allocate=None, count=2):
        with contextlib.ExitStack() as stack:
            if allocate is None:
                yield tuple(
                    stack.enter_context(queue.stream(count=count))
                    for queue in (device.output, device.capture)
                )
            else:
                yield tuple(
                    stack.enter_context(streaming(queue, allocate, count))
                    for queue in (device.output, device.capture)
                )

    @pytest.mark.parametrize("allocate", [*EXPORTERS, pytest.param(None, id="own")])
    def test_what_goes_in_comes_out(self, device, allocate):
        with self.streams(device, allocate) as (sink, source):
            for turn in range(5):
                with sink.frame(LONG) as frame:
                    expected = fill(frame.image, turn)
                    frame.timestamp = 100 + turn
                with source.frame(LONG) as frame:
                    assert cameras.planes(frame.image) == expected
                    assert frame.timestamp == 100 + turn

    def test_what_comes_out_is_the_devices_work(self, device):
        device.set_control("Horizontal Flip", 1)
        with self.streams(device) as (sink, source):
            with sink.frame(LONG) as frame, frame.image.write() as (plane,):
                picture = plane[...] = noise(7, plane.shape, "u2")
            with source.frame(LONG) as frame, frame.image.read() as (plane,):
                assert numpy.array_equal(plane, picture[:, ::-1])

    def test_in_asyncio(self, device):
        async def produce(sink):
            async for frame in sink:
                async with frame:
                    fill(frame.image, 8)

        async def main():
            with self.streams(device) as (sink, source):
                (producer,) = await waiting(produce(sink))
                count = 0
                async for frame in source:
                    async with frame:
                        count += 1
                    if count == 6:
                        break
                sink.stop()
                await producer
            assert watched() == 0

        asyncio.run(main())

    def test_stopping_one_queue_ends_its_waits(self, device):
        """The poll of such a device would sleep on: the other queue goes on."""
        with self.streams(device) as (_, source):
            with fences.once_asleep(fences.POLL, source.stop):
                assert list(source) == []
            with pytest.raises(ValueError, match="is over"):
                source.frame()

    def test_a_wait_for_nothing_is_refused(self, device):
        with self.streams(device) as (sink, source):
            for _ in range(2):
                sink.frame().queue()
            taken = [source.frame(LONG) for _ in range(2)]
            taken += [sink.frame(LONG) for _ in range(2)]
            for frames in (sink, source):
                with pytest.raises(ValueError, match="holds none of the stream's 2 buffers"):
                    frames.frame(LONG)
            for frame in taken:
                frame.queue()

    def test_threads_fill_and_take(self, device, allocate):
        results = []

        def take(source):
            for frame in source:
                with frame:
                    results.append(frame.timestamp)
                if len(results) == 8:
                    return

        with self.streams(device, allocate) as (sink, source):
            thread = threading.Thread(target=take, args=(source,))
            thread.start()
            for turn in range(8):
                with sink.frame(LONG) as frame:
                    frame.timestamp = turn
            thread.join()
        assert results == list(range(8))
