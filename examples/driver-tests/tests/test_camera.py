"""What a camera's driver must do; vivid, the kernel's test camera, stands for yours."""

import os

import pytest


@pytest.mark.parametrize("code", ["YUYV", "NV12", "RGB3"])
def test_each_format_gives_whole_frames(dmabuf_camera, code):
    format = dmabuf_camera.set_format(code, 320, 180)
    with dmabuf_camera.stream(count=3) as frames:
        for number in range(5):
            with frames.frame(timeout=10) as frame:
                assert frame.sequence >= number
                assert not frame.damaged
                assert frame.bytes_used == format.sizeimage


def test_frames_arrive_in_memory_of_a_heap(dmabuf_camera, dmabuf_buffer):
    (size,) = dmabuf_camera.format().sizeimage
    buffers = [dmabuf_buffer(size) for _ in range(3)]
    with (
        dmabuf_camera.stream(buffers) as frames,
        frames.frame(timeout=10) as frame,
        frame.buffers[0].read() as memory,
    ):
        assert any(memory[:4096])


def test_a_reader_that_dies_does_not_stop_the_camera(dmabuf_camera):
    with dmabuf_camera.stream(count=3) as frames:
        with frames.frame(timeout=10):
            if not (child := os.fork()):
                os._exit(0)
            os.waitpid(child, 0)
        for _ in range(4):
            with frames.frame(timeout=10):
                pass
