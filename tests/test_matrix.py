"""Every exporter against every importer: what one side writes, the other reads."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from helpers import cameras, drm, screen
from helpers.features import RELEASE

import dmabuf
from dmabuf.devices import v4l2
from dmabuf.devices.drm import Device, Vgem
from dmabuf.devices.kms import Display

pytestmark = [pytest.mark.needs("vgem", "vivid", "display", "gpu"), pytest.mark.timeout(100)]

Export = Callable[[], dmabuf.Buffer]

WIDTH, HEIGHT = 720, 480  # vivid's HDMI; a picture for the screen is smaller
SIZE = WIDTH * HEIGHT * 4


def from_heap() -> dmabuf.Buffer:
    return dmabuf.allocate(SIZE, heaps=["system"])


def from_cma() -> dmabuf.Buffer:
    return dmabuf.allocate(SIZE, heaps=[next(one for one in dmabuf.heaps() if one.contiguous)])


def from_udmabuf() -> dmabuf.Buffer:
    return dmabuf.udmabuf.allocate(SIZE)


def dumb(device: Device) -> dmabuf.Buffer:
    with device, device.create_dumb(WIDTH, HEIGHT, 32) as made:
        return made.export()


def from_vgem() -> dmabuf.Buffer:
    return dumb(Device(drm.find("vgem")))


def from_display() -> dmabuf.Buffer:
    return dumb(Display())


def from_gpu() -> dmabuf.Buffer:
    return dumb(Device(drm.find("virtio_gpu")))


def from_vivid() -> dmabuf.Buffer:
    with v4l2.Capture(cameras.find("vivid")) as camera:
        camera.set_format("XRGB8888", 1280, 720)
        with camera.stream(count=2) as frames:
            return frames.buffers[0][0].dup()


EXPORTERS = {
    "heap": pytest.param(from_heap, marks=pytest.mark.needs("heap"), id="heap"),
    "cma": pytest.param(from_cma, marks=pytest.mark.needs("CMA heap"), id="cma"),
    "udmabuf": pytest.param(from_udmabuf, marks=pytest.mark.needs("udmabuf"), id="udmabuf"),
    "vgem": pytest.param(from_vgem, id="vgem"),
    "display": pytest.param(from_display, id="display"),
    "gpu": pytest.param(from_gpu, id="gpu"),
    "vivid": pytest.param(from_vivid, id="vivid"),
}
every_exporter = pytest.mark.parametrize("export", EXPORTERS.values())


@contextmanager
def buffers(export: Export, count: int) -> Iterator[list[dmabuf.Buffer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(export()) for _ in range(count)]


def filled(buffer: dmabuf.Buffer) -> bytes:
    """Fill a buffer by the processor, and return with what."""
    data = random.randbytes(SIZE)
    with buffer.write() as memory:
        memory[:SIZE] = data
    return data


@every_exporter
def test_the_processor_reads_it(export):
    with export() as buffer:
        data = filled(buffer)
        with buffer.dup() as other, other.read() as memory:
            assert memory[:SIZE] == data


@every_exporter
def test_vgem_imports_it_and_exports_the_same_memory(export):
    with export() as buffer, Vgem() as device, device.import_buffer(buffer) as gem:
        data = filled(buffer)
        with gem.export() as again, again.read() as memory:
            assert again == buffer
            assert memory[:SIZE] == data


@pytest.mark.needs("screendump")
@every_exporter
def test_the_display_shows_it(export):
    with export() as buffer, Display(screen.path()) as display:
        image = dmabuf.Image(buffer, "XRGB8888", *screen.SIZE)
        picture = screen.paint(image, random.randrange(256))
        assert display.show(image).wait(10)
        assert (screen.pixels() == picture).all()


@every_exporter
def test_a_camera_fills_it(export):
    with buffers(export, 3) as taken, v4l2.Capture(cameras.find("vivid")) as camera:
        camera.set_format("XRGB8888", 640, 360)
        for buffer in taken:
            filled(buffer)
        with camera.stream(taken) as frames, frames.frame() as frame, frame.image.read() as planes:
            colours = set(map(tuple, planes[0][180, ::8, :3].tolist()))
    assert 8 <= len(colours) <= 12  # the bars of its picture, and no noise


@every_exporter
def test_a_video_output_sends_it(export):
    with buffers(export, 2) as given, cameras.loop() as (output, capture):
        for queue in (output, capture):
            queue.set_format("XRGB8888", WIDTH, HEIGHT)
        with output.stream(given) as sent, capture.stream(count=3) as frames:
            data = []
            for _ in given:
                with sent.frame() as frame:
                    data.append(filled(frame.buffers[0]))
            for frame in frames:  # noise, while the output has nothing
                with frame, frame.buffers[0].read() as memory:
                    if memory[:SIZE] in data:
                        break
                sent.frame().queue()  # again


@pytest.mark.parametrize("export", [EXPORTERS[name] for name in EXPORTERS if name != "gpu"])
def test_a_gpu_that_takes_its_own_alone_refuses_it(export):
    with export() as buffer, Device(drm.find("virtio_gpu")) as device:
        with pytest.raises(OSError, match="can't import") as caught:
            device.import_buffer(buffer)
        refusals = [errno.ENODEV] if RELEASE >= (6, 1) else [errno.EINVAL, errno.EIO]
        assert caught.value.errno in refusals


def test_a_gpu_takes_its_own():
    with from_gpu() as buffer, Device(drm.find("virtio_gpu")) as device:
        data = filled(buffer)
        with device.import_buffer(buffer) as gem, gem.export() as again, again.read() as memory:
            assert memory[:SIZE] == data
