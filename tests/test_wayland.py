"""Windows of weston, which shows them without a screen: its screenshots are compared."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import runpy
import sys
import threading
from pathlib import Path

import numpy
import pytest
from helpers import cameras, interrupt, weston
from helpers.leaks import descriptors, kernel_buffers

import dmabuf
from dmabuf._fd import Hold
from dmabuf.image import FORMATS, Image
from dmabuf.interop import wayland

pytestmark = [pytest.mark.needs("weston", "heap", "export"), pytest.mark.timeout(100)]

WIDTH, HEIGHT = weston.WIDTH, weston.HEIGHT


@pytest.fixture(autouse=True)
def nothing_leaks():
    """Fail a test that leaves a descriptor or a mapping here; a compositor keeps what it shows."""
    before = descriptors(), mappings()
    yield
    gc.collect()
    after = descriptors(), mappings()
    assert after == before, f"descriptors and mappings: {before} before, {after} after"


def mappings() -> int:
    """Return how many mappings of dma-bufs this process has."""
    return Path("/proc/self/maps").read_text().count("/dmabuf:")


@pytest.fixture
def compositor(tmp_path):
    """Give a compositor of the test's own.

    Where one client's window follows another's, weston 14 may crash, in a list of its kiosk shell.
    """
    with weston.weston(tmp_path) as compositor:
        yield compositor
        compositor.require_alive()


@pytest.fixture
def window(compositor):
    with wayland.Window(WIDTH, HEIGHT, "test", display=compositor.socket) as window:
        yield window


@pytest.fixture
def picture(allocate):
    """Give a function that returns an image of smooth colours; they are closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(name: str = "XRGB8888", seed: int = 1, *, allocate=allocate) -> Image:
            made = Image.allocate(name, WIDTH, HEIGHT, stride_align=256, allocate=allocate)
            image = stack.enter_context(made)
            with image.write() as planes:
                for place, plane in enumerate(planes):
                    rows = numpy.arange(plane.shape[0])[:, None]
                    columns = numpy.arange(plane.shape[1])
                    values = 64 + (rows + columns + seed * 40 + place * 16) // 8 % 96
                    plane[:] = values if plane.ndim == 2 else values[..., None]
            return image

        yield make


def off(compositor, image: Image) -> int:
    """Return by how much the screen's middle differs from an image, at the most."""
    top, left = (HEIGHT - image.height) // 2, (WIDTH - image.width) // 2
    seen = compositor.screenshot()[top : top + image.height, left : left + image.width]
    return int(abs(seen.astype(int) - image.to_rgb()).max())


class TestWindow:
    def test_formats_have_their_modifiers(self, window):
        assert {"XRGB8888", "NV12", "YUYV"} <= {format.name for format in window.formats}
        assert dmabuf.image.LINEAR in window.formats[FORMATS["XRGB8888"]]
        assert window.explicit_sync

    @pytest.mark.parametrize("name", ["XRGB8888", "NV12", "YUYV"])
    def test_shows_an_image_as_it_is(self, compositor, window, picture, name):
        image = picture(name)
        flip = window.show(image)
        assert flip.wait(timeout=30)
        assert flip.done
        assert off(compositor, image) <= 1

    @pytest.mark.needs("udmabuf")
    def test_shows_memory_of_udmabuf(self, compositor, window, picture):
        image = picture(allocate=dmabuf.udmabuf.allocate)
        assert window.show(image).wait(timeout=30)
        assert off(compositor, image) == 0

    @pytest.mark.needs("vivid")
    def test_shows_a_cameras_own_memory(self, compositor, window, camera):
        camera.set_format("YUYV", WIDTH, HEIGHT)
        with camera.stream(count=2) as frames, frames.frame(timeout=30) as frame:
            assert window.show(frame.image).wait(timeout=30)
            assert off(compositor, frame.image) <= 1

    def test_a_flip_is_done_once_the_image_before_may_be_written_again(
        self, compositor, window, picture
    ):
        one, two = picture(seed=1), picture(seed=2)
        for image in (one, two, one, two, two):
            assert window.show(image).wait(timeout=30)
        assert off(compositor, two) == 0
        with one.write() as (pixels,):
            pixels[:] = 0
        assert off(compositor, two) == 0

    def test_waits_for_a_fence(self, compositor, window, picture, source):
        one, two = picture(seed=1), picture(seed=2)
        assert window.show(one).wait(timeout=30)
        pending = source.pending()  # vgem's would end by itself before a slow compositor is there
        flip = window.show(two, pending.fence)
        assert not flip.wait(timeout=0.5)
        assert not flip.done
        pending.signal()
        assert flip.wait(timeout=30)
        assert off(compositor, two) == 0
        assert pending.fence.signaled  # it stays the caller's
        pending.fence.close()

    def test_in_asyncio(self, compositor, window, picture):
        one, two = picture(seed=1), picture(seed=2)

        async def show():
            for image in (one, two):
                await window.show(image)

        asyncio.run(asyncio.wait_for(show(), 60))
        assert off(compositor, two) == 0

    def test_threads_wait_for_flips_of_each_other(self, window, picture):
        images = [picture(seed=seed) for seed in range(3)]
        done = []

        def show(image):
            for _ in range(4):
                done.append(window.show(image).wait(timeout=60))

        threads = [threading.Thread(target=show, args=(image,)) for image in images]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert done == [True] * 12

    def test_the_desktop_asks_for_its_own_size(self, compositor):
        with wayland.Window(64, 48, display=compositor.socket) as window:
            assert window.next(timeout=30) == ("resize", WIDTH, HEIGHT)
            assert window.size == (WIDTH, HEIGHT)
            with pytest.raises(TimeoutError, match="no event of <dmabuf"):
                window.next(timeout=0)

    def test_events_come_in_asyncio(self, compositor):
        async def first(window):
            async for event in window:
                return event

        with wayland.Window(64, 48, display=compositor.socket) as window:
            assert asyncio.run(asyncio.wait_for(first(window), 60)).kind == "resize"

    def test_the_memory_lives_while_it_is_shown(self, compositor, window, allocate):
        with Image.allocate("XRGB8888", WIDTH, HEIGHT, allocate=allocate) as image:
            with image.write() as (pixels,):
                pixels[:] = 99
            assert window.show(image).wait(timeout=30)
        assert (compositor.screenshot() == 99).all()


class TestRefusals:
    def test_a_format_that_it_has_not(self, window, buffer):
        image = Image(buffer, "SRGGB8", 16, 16)
        with pytest.raises(dmabuf.RefusedError, match=r"can't show .* it has no SRGGB8, only "):
            window.show(image)

    def test_a_modifier_that_it_has_not(self, window, buffer):
        image = Image(buffer, "XRGB8888", 16, 16, modifier=0x100000000000001)
        with pytest.raises(dmabuf.RefusedError, match="no modifier 0x100000000000001 of XRGB8888"):
            window.show(image)

    def test_what_is_none(self, window, buffer):
        with pytest.raises(TypeError, match=r"image must be a dmabuf\.Image, not Buffer"):
            window.show(buffer)
        with pytest.raises(TypeError, match=r"fence must be a dmabuf\.Fence, not Buffer"):
            window.show(Image(buffer, "XRGB8888", 16, 16), buffer)
        with pytest.raises(ValueError, match="at least one pixel"):
            wayland.Window(0, 1)

    def test_what_is_closed(self, compositor, picture):
        image = picture()
        with wayland.Window(WIDTH, HEIGHT, display=compositor.socket) as window:
            flip = window.show(image)
        for use in (lambda: window.show(image), window.next, window.fileno):
            with pytest.raises(ValueError, match="on a closed Window"):
                use()
        with pytest.raises(ValueError, match="on a closed Window"):
            flip.wait()
        assert repr(window).startswith("<dmabuf.interop.wayland.Window [closed] at /")

    def test_a_child_leaves_the_window_to_its_parent(self, compositor, window, picture):
        image = picture()
        pid = os.fork()
        if not pid:
            status = 1
            with contextlib.suppress(BaseException):
                with pytest.raises(ValueError, match="this is a forked child"):
                    window.show(image)
                window.close()
                status = 0
            os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        assert window.show(image).wait(timeout=30)
        assert off(compositor, image) == 0


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_handler_that_raises_loses_nothing(compositor, allocate):
    with Image.allocate("XRGB8888", 16, 16, allocate=allocate) as image:
        before = descriptors()
        for moment in interrupt.every_point(Hold.__exit__):
            with wayland.Window(16, 16, display=compositor.socket) as window:
                moment.interrupts(lambda window=window: window.show(image))
            gc.collect()
            assert descriptors() == before, moment.where


def test_a_compositor_that_dies_is_an_error_and_nothing_is_lost(tmp_path, picture, source):
    image, other = picture(), picture()
    before = kernel_buffers()
    with (
        weston.weston(tmp_path) as compositor,
        wayland.Window(WIDTH, HEIGHT, display=compositor.socket) as window,
    ):
        assert window.show(image).wait(timeout=30)
        pending = source.pending()
        flip = window.show(other, pending.fence)
        compositor.kill()
        words = f"the connection to the Wayland compositor at {compositor.socket} is over: it"
        for use in (flip.wait, window.next, lambda: window.show(image)):
            with pytest.raises(ConnectionResetError, match=words):
                use()
    pending.signal()
    pending.fence.close()
    assert kernel_buffers() == before
    for one in (image, other):
        with one.write() as (pixels,):
            pixels[:] = 0


@pytest.mark.needs("vivid")
def test_the_example_shows_a_camera(compositor, monkeypatch, capsys):
    example = Path(__file__).parent.parent / "examples" / "camera_in_window.py"
    words = ("--frames", "5", "--camera", cameras.find("vivid"))
    monkeypatch.setattr(sys, "argv", [example.name, *words])
    for name in ("XDG_RUNTIME_DIR", "WAYLAND_DISPLAY"):
        monkeypatch.setenv(name, compositor.environment[name])
    runpy.run_path(str(example), run_name="__main__")
    out = capsys.readouterr().out
    assert "window   320x180, explicit sync True" in out
    assert "frames per second, without a copy" in out
