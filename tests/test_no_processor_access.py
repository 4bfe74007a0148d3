"""Buffers that the processor can't map, as a PCI device's memory is: each call says so in words."""

import asyncio
import errno
import socket

import numpy
import pytest
from helpers import vfio

import dmabuf
from dmabuf import Access
from dmabuf.devices import drm
from dmabuf.image import Image

pytestmark = pytest.mark.needs("vfio")
WORDS = "can't be mapped: its exporter gives the processor no access to this memory"


@pytest.fixture
def buffer():
    with vfio.memory() as buffer:
        yield buffer


@pytest.fixture
def image(buffer):
    return Image(buffer, "XRGB8888", 64, 48)


def enter(scope):
    with scope:
        pass


async def enter_async(scope):
    async with scope:
        pass


@pytest.mark.parametrize(
    "use",
    [
        lambda buffer: enter(buffer.read()),
        lambda buffer: enter(buffer.write()),
        lambda buffer: enter(buffer.read_write()),
        lambda buffer: enter(buffer.access(Access.READ)),
        lambda buffer: asyncio.run(enter_async(buffer.read())),
        lambda buffer: buffer.memory,
        lambda buffer: buffer.array((16,)),
    ],
    ids=["read", "write", "read_write", "access", "async read", "memory", "array"],
)
def test_each_use_of_a_buffer_by_the_processor_says_so(buffer, use):
    with pytest.raises(OSError, match=WORDS) as caught:
        use(buffer)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    "use",
    [
        lambda image, path: enter(image.read()),
        lambda image, path: enter(image.write()),
        lambda image, path: image.to_rgb(),
        lambda image, path: image.save(path),
        lambda image, path: numpy.asarray(image.to_rgb()),
    ],
    ids=["read", "write", "to_rgb", "save", "numpy"],
)
def test_each_use_of_an_image_by_the_processor_says_so(image, tmp_path, use):
    path = tmp_path / "picture.png"
    with pytest.raises(OSError, match=WORDS):
        use(image, path)
    assert not path.exists()


def test_what_needs_no_mapping_works(buffer):
    assert buffer.size == vfio.SIZE
    assert buffer.is_idle(Access.READ_WRITE)
    with buffer.dup() as duplicate, buffer.export_fence(Access.READ_WRITE) as fence:
        assert duplicate == buffer
        assert fence.signaled
    ours, theirs = socket.socketpair()
    with ours, theirs:
        buffer.send(ours)
        with dmabuf.Buffer.receive(theirs) as received:
            assert received == buffer
            with pytest.raises(OSError, match=WORDS):
                _ = received.memory


@pytest.mark.needs("vgem")
def test_a_device_that_can_not_have_it_says_so(buffer):
    with drm.Vgem() as vgem, pytest.raises(OSError, match="import") as caught:
        vgem.import_buffer(buffer)
    assert caught.value.errno == errno.EOPNOTSUPP


@pytest.mark.needs("vivid")
def test_a_camera_that_can_not_have_it_says_so(buffer, camera, allocate):
    with (
        allocate(camera.format().sizeimage[0]) as other,
        pytest.raises(OSError, match="can't reach this memory") as caught,
        camera.stream([buffer, other]),
    ):
        pass
    assert caught.value.errno == errno.EFAULT
