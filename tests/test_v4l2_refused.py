"""What a stream refuses before the kernel does, and what it says when a device does not start."""

import errno
import os

import pytest
from helpers import cameras, strace
from helpers.process import Child
from test_v4l2_stream import LONG, allocated

import dmabuf
from dmabuf.devices import v4l2
from dmabuf.devices.v4l2._ioctl import VIDIOC_STREAMON

pytestmark = pytest.mark.needs("vivid")
TWICE = "each buffer at one place only"


class TestTheSameMemoryTwice:
    def test_is_refused_in_one_stream(self, camera, allocate):
        with allocate(camera.format().sizeimage[0]) as buffer, buffer.dup() as duplicate:
            for again in (buffer, duplicate):
                with pytest.raises(ValueError, match=TWICE):
                    camera.stream([buffer, again])

    def test_is_refused_in_one_frame(self, allocate):
        with cameras.camera(multi_planar=True) as camera:
            size = max(camera.set_format("NM12", cameras.WIDTH, cameras.HEIGHT).sizeimage)
            with allocate(size) as buffer, pytest.raises(ValueError, match=TWICE):
                camera.stream([(buffer, buffer)])

    def test_is_refused_in_place_of_a_frames_buffers(self, output, allocate):
        with (
            allocated(allocate, output.format(), 3) as made,
            output.stream(made[:2]) as frames,
        ):
            [first], _, [third] = made
            frames.queue(third)
            with pytest.raises(ValueError, match=TWICE):
                frames.queue(third)
            with frames.frame(LONG) as frame:
                frame.replace(frame.buffers)
            assert first not in {buffer for (buffer,) in frames.buffers}


def test_a_buffer_whose_number_others_have_closed_is_told_as_the_stream_starts(camera, allocate):
    with allocated(allocate, camera.format(), 2) as made:
        [buffer] = made[0]
        number, kept = buffer.fileno(), buffer.dup()
        with open(os.devnull) as file:
            os.dup2(file.fileno(), number, inheritable=False)
        words = f"descriptor {number} .* closed behind its owner's back and it is now /dev/null"
        with pytest.raises(dmabuf.NotADmaBufError, match=words):
            camera.stream(made).__enter__()
        os.dup2(kept.fileno(), number, inheritable=False)
        kept.close()
        with camera.stream(made) as frames:
            frames.frame(LONG).queue()


class TestAFormatThatChanged:
    @pytest.mark.parametrize("name", ["XRGB8888", "R8"])
    @pytest.mark.parametrize("own", [False, True])
    def test_is_told_with_both_formats(self, camera, allocate, own, name):
        with allocated(allocate, camera.format(), 2) as buffers:
            stream = camera.stream(None if own else buffers)
            with v4l2.Capture(camera.device.path) as other:
                other.set_format(name, 640, 360)
                words = "has (XR24|GREY) 640x360 .* now, and the stream is for GREY 320x180 "
                with pytest.raises(dmabuf.RefusedError, match=words):
                    stream.__enter__()
                other.set_format("R8", cameras.WIDTH, cameras.HEIGHT)
        with camera.stream() as frames:
            frames.frame(LONG).queue()

    def test_from_one_buffer_to_one_per_plane_is_told(self):
        with cameras.camera(multi_planar=True) as camera:
            camera.set_format("NM12", cameras.WIDTH, cameras.HEIGHT)
            stream = camera.stream()
            camera.set_format("NV12", cameras.WIDTH, cameras.HEIGHT)
            with pytest.raises(dmabuf.RefusedError, match=r"NV12 .* stream is for NM12 "):
                stream.__enter__()

    def test_and_was_changed_back_is_none(self, camera):
        stream = camera.stream()
        camera.set_format("XRGB8888", 640, 360)
        camera.set_format("R8", cameras.WIDTH, cameras.HEIGHT)
        with stream as frames:
            frames.frame(LONG).queue()


class TestADeviceThatDoesNotStart:
    @pytest.mark.parametrize(
        ("number", "words"),
        [
            (errno.EPIPE, "can't stream: the formats along its media pipeline .*media-ctl -V"),
            (errno.ENOLINK, "can't stream: its media pipeline has no link .*media-ctl -l"),
            (errno.ENOSPC, "can't stream: its bus, USB .*a smaller size, a lower frame rate"),
            (errno.EIO, "can't stream: the device has failed.*dmesg"),
            (errno.ENODEV, "can't stream: the device has gone"),
        ],
    )
    def test_says_what_to_do_and_keeps_nothing(self, camera, number, words):
        def start():
            with pytest.raises(OSError, match=words) as caught:
                camera.stream().__enter__()
            assert caught.value.errno == number
            camera.set_format("R8", cameras.WIDTH, cameras.HEIGHT)  # its buffers are free

        strace.with_failing(VIDIOC_STREAMON, number, start)

    def test_names_the_program_that_has_it(self, camera):
        ready, started = os.pipe()
        end, told = os.pipe()

        def stream():
            os.close(told)
            with v4l2.Capture(camera.device.path) as own, own.stream():
                os.write(started, b"1")
                os.read(end, 1)

        child = Child(stream)
        os.close(started)
        os.read(ready, 1)
        with pytest.raises(OSError, match=rf"end what has it open: .* \({child.pid}\)") as caught:
            camera.stream().__enter__()
        assert caught.value.errno == errno.EBUSY
        for number in (told, end, ready):
            os.close(number)
        child.result()

    def test_names_nobody_where_it_is_busy_in_this_process(self, camera):
        with (
            v4l2.Capture(camera.device.path) as other,
            other.stream(),
            pytest.raises(OSError, match="leave its stream, or end the program that has one"),
        ):
            camera.stream().__enter__()


class TestPooledBuffers:
    def test_do_not_come_back_while_the_device_has_them(self, camera, allocate):
        size = camera.format().sizeimage[0]
        with dmabuf.Pool(2, size, allocate=allocate) as pool:
            buffers = [pool.acquire(), pool.acquire()]
            with camera.stream(buffers) as frames:
                for buffer in buffers:
                    buffer.close()
                assert pool.free == 0
                frame = frames.frame(LONG)
                assert pool.free == 1
                frame.leave()
                frames.stop()
                assert pool.free == 2

    def test_come_back_from_a_stream_that_did_not_start(self, camera, allocate):
        size = camera.format().sizeimage[0]
        with dmabuf.Pool(2, size, allocate=allocate) as pool:
            buffers = [pool.acquire(), pool.acquire()]
            stream = camera.stream(buffers)
            camera.set_format("R8", 640, 360)
            with pytest.raises(dmabuf.RefusedError):
                stream.__enter__()
            for buffer in buffers:
                buffer.close()
            assert pool.free == 2
            assert not stream.running

    def test_go_through_an_output_one_after_the_other(self, output, allocate):
        """Each is closed once it is queued, and comes back once the device is done with it."""
        size = output.format().sizeimage[0]
        with (
            dmabuf.Pool(4, size, allocate=allocate) as pool,
            allocated(allocate, output.format(), 2) as buffers,
            output.stream(buffers) as frames,
        ):
            for _ in range(8):
                with pool.acquire(LONG) as buffer:
                    frames.queue(buffer, LONG)
            assert pool.free >= 2
            frames.stop()
            assert pool.free == 4
