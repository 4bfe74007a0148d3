"""A compositor that misbehaves: an error that says how, and nothing is lost."""

from __future__ import annotations

import os
import struct
import time

import pytest
from helpers.compositor import Compositor, text

from dmabuf import RefusedError, UnsupportedError
from dmabuf.image import Image
from dmabuf.interop import wayland

pytestmark = [pytest.mark.needs("exporter"), pytest.mark.timeout(60)]


def word(*numbers: int) -> bytes:
    return struct.pack(f"={len(numbers)}I", *numbers)


@pytest.fixture
def served(tmp_path):
    """Give a function that returns a compositor with misdeeds."""
    return lambda **misdeeds: Compositor(tmp_path / "wayland-fake", misdeeds)


@pytest.fixture
def image(buffer) -> Image:
    return Image(buffer, "XRGB8888", 16, 16)


def error(compositor):
    compositor.send(1, 0, word(1, 7) + text("go away"))


def unknown_event(compositor):
    compositor.send(77, 3)


def short_event(compositor):
    compositor.send(1, 0, word(1))


def long_event(compositor):
    compositor.send(1, 1, word(4, 5))


def long_text(compositor):
    compositor.send(1, 0, word(1, 7, 4000) + b"abcd")


def torn_header(compositor):
    compositor.sock.sendall(word(1, 3 << 16))


def half_an_event(compositor):
    compositor.sock.sendall(word(1, 100 << 16))
    compositor.sock.close()


def end(compositor):
    compositor.sock.close()


def deleted(compositor):
    compositor.send(1, 1, word(4444))


def descriptors(compositor):
    read, write = os.pipe()
    for _ in range(5):
        compositor.send_to("xdg_wm_base", 0, word(5), [read] * 20)
    os.close(read)
    os.close(write)


MISDEEDS = {
    "an error": (error, r"it says 'go away' \(error 7 of object 1\)"),
    "an unknown event": (unknown_event, "an event 3 of an object 77"),
    "a short event": (short_event, "shorter than its arguments"),
    "a long event": (long_event, "4 bytes more than it has"),
    "a text beyond its event": (long_text, "shorter than its arguments"),
    "a torn header": (torn_header, "an event of 3 bytes"),
    "half an event": (half_an_event, "it has closed the connection"),
    "an end": (end, "it has closed the connection"),
    "an object deleted that is none": (deleted, "deleted an object 4444"),
    "descriptors that nobody asked for": (descriptors, "descriptors that no event has"),
}


class TestMisdeeds:
    @pytest.mark.parametrize(("misdeed", "words"), MISDEEDS.values(), ids=MISDEEDS)
    def test_end_the_connection_with_the_reason(self, served, image, misdeed, words):
        with (
            served(commit=misdeed) as compositor,
            wayland.Window(16, 16, display=compositor.path) as window,
        ):
            flip = window.show(image)
            for use in (flip.wait, window.next, lambda: window.show(image)):
                with pytest.raises(ConnectionResetError, match=words):
                    use()

    @pytest.mark.parametrize("moment", ["connect", "registry", "formats", "configure"])
    def test_while_a_window_opens_leave_nothing(self, served, moment):
        for misdeed in (end, error):
            with (
                served(**{moment: misdeed}) as compositor,
                pytest.raises(ConnectionResetError, match="is over: it "),
            ):
                wayland.Window(16, 16, display=compositor.path)
            compositor.path.unlink()

    def test_silence_is_a_time_out(self, served, image):
        with (
            served(configure=None) as compositor,
            pytest.raises(TimeoutError, match=r"gave <dmabuf.* no place"),
        ):
            wayland.Window(16, 16, display=compositor.path, timeout=0.2)
        compositor.path.unlink()
        with (
            served(buffer=None) as compositor,
            wayland.Window(16, 16, display=compositor.path) as window,
            pytest.raises(TimeoutError, match=r"did not take .* within 0\.1 s"),
        ):
            window.show(image, timeout=0.1)

    def test_a_buffer_that_is_refused(self, served, image):
        def refuse(compositor):
            compositor.send_to("params", 1)

        with (
            served(buffer=refuse) as compositor,
            wayland.Window(16, 16, display=compositor.path) as window,
        ):
            for _ in range(2):
                with pytest.raises(RefusedError, match=r"can't import <dmabuf.Image XR"):
                    window.show(image)

    def test_a_buffer_that_is_no_new_object(self, served, image):
        def create(compositor):
            compositor.send_to("params", 0, word(3))

        with (
            served(buffer=create) as compositor,
            wayland.Window(16, 16, display=compositor.path) as window,
            pytest.raises(ConnectionResetError, match="made an object 3, which can't be"),
        ):
            window.show(image)

    def test_one_that_takes_no_dma_bufs(self, served):
        def announce(compositor):
            for number, name in ((1, "wl_compositor"), (2, "xdg_wm_base")):
                body = word(number) + text(name) + word(4)
                compositor.send_to("wl_registry", 0, body)

        with (
            served(registry=announce) as compositor,
            pytest.raises(UnsupportedError, match="no zwp_linux_dmabuf_v1 of version 3"),
        ):
            wayland.Window(16, 16, display=compositor.path)


class TestEvents:
    def test_of_its_end_and_its_size(self, served, image):
        def ask(compositor):
            compositor.send_to("xdg_toplevel", 0, word(0, 0, 0))
            compositor.send_to("xdg_toplevel", 0, word(100, 50, 4, 1))
            compositor.send_to("xdg_surface", 0, word(9))
            compositor.send_to("xdg_wm_base", 0, word(42))
            compositor.send_to("xdg_toplevel", 1)
            compositor.tell_frame()

        with (
            served(commit=ask) as compositor,
            wayland.Window(16, 16, display=compositor.path) as window,
        ):
            flip = window.show(image)
            assert next(window) == ("resize", 100, 50)
            assert next(window).kind == "close"
            assert flip.wait(timeout=30)
            assert window.size == (100, 50)
            while not compositor.pongs:
                window.show(image)
                time.sleep(0.01)
            assert compositor.pongs[0] == 42

    def test_nobody_listens(self, tmp_path, monkeypatch):
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        monkeypatch.delenv("WAYLAND_SOCKET", raising=False)
        with pytest.raises(FileNotFoundError, match="XDG_RUNTIME_DIR is not set"):
            wayland.Window(16, 16)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-9")
        with pytest.raises(FileNotFoundError, match=r"compositor answers at .*/wayland-9"):
            wayland.Window(16, 16)
