"""Explicit sync by timelines of sync objects, with a compositor that does as the protocol says."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time

import pytest
from helpers import drm, interrupt
from helpers.compositor import Compositor
from helpers.leaks import descriptors

from dmabuf import Access
from dmabuf._fd import Hold
from dmabuf.devices.drm import Device, Syncobj
from dmabuf.image import Image
from dmabuf.interop import wayland

pytestmark = [
    pytest.mark.needs("syncobj", "exporter", "export", "deadline"),
    pytest.mark.timeout(60),
]
LONG = 30


@pytest.fixture
def served(tmp_path):
    """Give a function that returns a compositor with timelines."""
    return lambda **misdeeds: Compositor(tmp_path / "wayland-fake", misdeeds, timelines=True)


@pytest.fixture
def compositor(served):
    with served() as compositor:
        yield compositor


@pytest.fixture
def window(compositor):
    with wayland.Window(16, 16, display=compositor.path) as window:
        yield window


@pytest.fixture
def gpu():
    with Device(drm.node("timeline")) as gpu:
        yield gpu


@pytest.fixture
def images(buffer, other):
    return Image(buffer, "XRGB8888", 16, 16), Image(other, "XRGB8888", 16, 16)


@contextlib.contextmanager
def point(compositor, gpu, index):
    """Give the sync object and the point that the compositor was told as so manieth."""
    while len(compositor.points) <= index:
        time.sleep(0.01)
    timeline, number = compositor.points[index]
    with Syncobj.from_fd(gpu, compositor.timelines[timeline]) as syncobj:
        yield syncobj, number


def test_a_fence_is_the_images_point(compositor, window, gpu, images, pending):
    assert window.explicit_sync
    window.show(images[0], pending.fence)
    assert images[0].buffers[0].is_idle(Access.READ)  # it is nowhere else
    with point(compositor, gpu, 0) as (ready, number):
        assert ready.submitted == number
        assert not ready.wait(number, 0)
        pending.signal()
        assert ready.wait(number, LONG)


def test_without_one_it_is_that_of_the_images_writers(compositor, window, gpu, images, pending):
    images[0].buffers[0].import_fence(pending.fence, Access.WRITE)
    window.show(images[0])
    with point(compositor, gpu, 0) as (ready, number):
        assert not ready.wait(number, 0)
        pending.signal()
        assert ready.wait(number, LONG)


def test_a_flip_is_done_once_the_fence_of_the_release_before_has_signalled(
    compositor, window, gpu, images, pending
):
    assert window.show(images[0]).wait(LONG)
    flip = window.show(images[1])
    assert not flip.wait(0.1)
    with point(compositor, gpu, 1) as (release, number):
        release.import_fence(pending.fence, number)
    assert not flip.wait(0.1)
    assert not flip.done
    pending.signal()
    assert flip.wait(LONG)
    assert flip.done


def test_a_task_waits_for_it_too(compositor, window, gpu, images):
    async def main():
        await window.show(images[0])
        flip = asyncio.ensure_future(wait(window.show(images[1])))
        await asyncio.sleep(0.1)
        assert not flip.done()
        with point(compositor, gpu, 1) as (release, number):
            release.signal(number)
        await asyncio.wait_for(flip, LONG)

    async def wait(flip):
        await flip

    asyncio.run(main())


def test_points_rise_and_buffers_are_used_again(compositor, window, gpu, images):
    for index in range(6):
        flip = window.show(images[index % 2])
        if index:
            with point(compositor, gpu, 2 * index - 1) as (release, number):
                release.signal(number)
        assert flip.wait(LONG)
    assert [number for _, number in compositor.points] == [1] * 4 + [2] * 4 + [3] * 4
    assert len(compositor.timelines) == 4


def test_an_end_of_the_compositor_ends_the_wait(served, images):
    with (
        served() as compositor,
        wayland.Window(16, 16, display=compositor.path) as window,
    ):
        window.show(images[0]).wait(LONG)
        flip = window.show(images[1])
        assert not flip.wait(0.1)
        compositor.sock.shutdown(2)
        with pytest.raises(ConnectionResetError, match="it has closed the connection"):
            flip.wait(LONG)


def test_without_a_device_that_has_them_fences_are_in_the_buffers(served, images, monkeypatch):
    monkeypatch.setattr("dmabuf.interop.wayland.window.find_device", lambda: None)
    with (
        served() as compositor,
        wayland.Window(16, 16, display=compositor.path) as window,
    ):
        assert not window.explicit_sync
        assert window.show(images[0]).wait(LONG)
        assert compositor.points == []


def test_a_window_that_is_forgotten_warns_alone(served, images):
    with served() as compositor:
        window = wayland.Window(16, 16, display=compositor.path)
        window.show(images[0])
        del window  # which is in a cycle
        with pytest.warns(ResourceWarning) as warnings:
            gc.collect()
    assert [str(one.message).split(" with ")[0] for one in warnings] == ["unclosed Window"]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_handler_that_raises_leaves_nothing(served, images):
    gc.collect()
    before = descriptors()
    for moment in interrupt.every_point(Hold.__exit__, step=37):
        with served() as compositor:
            with wayland.Window(16, 16, display=compositor.path) as window:
                moment.interrupts(lambda window=window: window.show(images[0]))
            del window
        compositor.path.unlink()
        gc.collect()
        assert descriptors() == before, moment.where
