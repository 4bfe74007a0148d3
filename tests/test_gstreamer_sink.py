"""A sink's account of who has what: clients that do just what the test tells them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from fractions import Fraction

import pytest
from helpers import cameras, vgem
from helpers.unixfd import RawClient

import dmabuf
from dmabuf.devices.v4l2 import Capture
from dmabuf.interop import gstreamer
from dmabuf.interop.gstreamer._unixfd import Kind, parse_buffer, parse_caps_text

pytestmark = pytest.mark.needs("exporter")


@pytest.fixture
def sink(path) -> Iterator[gstreamer.Sink]:
    with gstreamer.Sink(path, hold_timeout=None) as sink:
        yield sink


@pytest.fixture
def client(sink, path) -> Iterator[RawClient]:
    with RawClient(path) as client:
        sink.service(60)
        yield client


def grey(allocate, width: int = 64) -> dmabuf.Image:
    return dmabuf.Image.allocate("R8", width, 16, allocate=allocate)


def test_what_nobody_gets_is_given_back_at_once(sink, allocate):
    image = grey(allocate)
    assert sink.push(image) == 0
    assert image.buffers[0].closed


def test_an_item_is_given_back_when_every_client_has_released_it(sink, client, path, allocate):
    with RawClient(path) as other:
        sink.service(60)
        image = grey(allocate)
        assert sink.push(image) == 2
        client.release(client.read_buffer())
        assert not sink.wait(0.2)
        assert not image.buffers[0].closed
        other.release(other.read_buffer())
        assert sink.wait(60)
        assert image.buffers[0].closed


def test_a_client_that_comes_late_is_told_the_caps_first(sink, path, allocate):
    sink.push(grey(allocate))
    with RawClient(path) as late:
        sink.service(60)
        kind, payload = late.read()
        assert kind == Kind.CAPS
        assert gstreamer.parse_caps(parse_caps_text(payload)).picture().width == 64


def test_caps_are_told_when_they_change_and_not_before(sink, client, allocate):
    kinds = []
    for width in (64, 64, 32):
        sink.push(grey(allocate, width))
        while True:
            kind, payload = client.read()
            kinds.append(kind)
            if kind == Kind.NEW_BUFFER:
                client.release(parse_buffer(payload).id)
                assert sink.wait(60)
                break
    caps, buffer = Kind.CAPS, Kind.NEW_BUFFER
    assert kinds == [caps, buffer, buffer, caps, buffer]


def test_times_are_those_given_or_the_items_own(path, allocate):
    with gstreamer.Sink(path, frame_rate=Fraction(30000, 1001)) as sink, RawClient(path) as client:
        sink.service(60)
        before = time.monotonic_ns()
        sink.push(grey(allocate))
        sink.push(grey(allocate), pts=5, dts=4, duration=3)
        client.read()
        first, second = (parse_buffer(client.read()[1]) for _ in range(2))
    assert before <= first.pts <= time.monotonic_ns()
    assert (first.dts, first.duration) == (None, 33_366_666)
    assert (second.pts, second.dts, second.duration) == (5, 4, 3)


def test_a_client_holds_so_many_buffers_and_misses_the_others(sink, client, allocate):
    assert [sink.push(grey(allocate)) for _ in range(5)] == [1, 1, 0, 0, 0]
    (about,) = sink.clients()
    assert (about.pid, about.held, about.sent, about.dropped) == (os.getpid(), 2, 2, 3)
    client.release(client.read_buffer())
    sink.service(60)
    assert sink.push(grey(allocate)) == 1


def test_all_of_them_hold_so_many_buffers(path, allocate):
    with gstreamer.Sink(path, in_flight=1, hold_timeout=None) as sink, RawClient(path):
        sink.service(60)
        assert [sink.push(grey(allocate)) for _ in range(2)] == [1, 0]
        assert sink.held == 1


def test_a_client_that_keeps_a_buffer_too_long_is_let_go(path, allocate):
    with gstreamer.Sink(path, hold_timeout=0.2) as sink, RawClient(path) as client:
        sink.service(60)
        image = grey(allocate)
        sink.push(image)
        assert not sink.wait(0.5)  # the newest may be kept: GStreamer's sinks do
        sink.push(grey(allocate))
        assert sink.wait(60)
        assert sink.clients() == []
        assert image.buffers[0].closed
        client.read_buffer()
        client.read_buffer()
        with pytest.raises(EOFError):
            client.read()


def test_a_client_that_released_while_the_sink_was_away_stays(path, allocate):
    with gstreamer.Sink(path, hold_timeout=0.1) as sink, RawClient(path) as client:
        sink.service(60)
        for _ in range(2):  # the first is wanted back since there is a newer one
            sink.push(grey(allocate))
        for _ in range(2):
            client.release(client.read_buffer())
        time.sleep(0.2)
        assert sink.push(grey(allocate)) == 1


def test_a_client_that_dies_gives_everything_back(sink, client, allocate):
    image = grey(allocate)
    sink.push(image)
    client.sock.close()
    assert sink.wait(60)
    assert image.buffers[0].closed


def test_a_client_that_releases_what_it_does_not_hold_is_let_go_alone(sink, client, path, allocate):
    with RawClient(path) as good:
        sink.service(60)
        sink.push(grey(allocate))
        number = client.read_buffer()
        client.release(number)
        client.release(number)
        good.release(good.read_buffer())
        assert sink.wait(60)
        sink.service()
        assert len(sink.clients()) == 1


def test_push_waits_for_those_who_would_miss_it(path, allocate):
    with gstreamer.Sink(path, block=0.2, hold_timeout=None) as sink, RawClient(path) as client:
        sink.service(60)
        for _ in range(2):
            sink.push(grey(allocate))
        number = client.read_buffer()
        assert sink.push(grey(allocate)) == 0  # after a while
        client.release(number)
        assert sink.push(grey(allocate)) == 1


@pytest.mark.needs("vgem")
def test_an_item_is_not_given_back_while_a_device_reads_it(sink, client, allocate):
    image = grey(allocate)
    (buffer,) = image.buffers
    with vgem.Fence(buffer) as fence:
        sink.push(image)
        client.release(client.read_buffer())
        assert not sink.wait(0.2)
        assert not buffer.closed
        fence.signal()
        assert sink.wait(60)
        assert buffer.closed


def test_close_gives_everything_back_and_ends_the_stream(path, allocate):
    image = grey(allocate)
    with gstreamer.Sink(path) as sink, RawClient(path) as client:
        sink.service(60)
        sink.push(image)
        sink.close()
        assert image.buffers[0].closed
        client.read_buffer()
        assert client.read() == (Kind.EOS, b"")
        with allocate(4096) as buffer, pytest.raises(ValueError, match="closed Sink"):
            sink.push(buffer, caps="a/b")


class TestRefused:
    """What raises leaves the item with the caller, and is told nobody."""

    def test_strides_that_gstreamer_ignores(self, sink, allocate):
        with dmabuf.Image.allocate("R8", 64, 16, stride_align=256, allocate=allocate) as image:
            with pytest.raises(ValueError, match="ignore strides"):
                sink.push(image)
            assert not image.buffers[0].closed

    def test_a_buffer_that_is_smaller_than_gstreamer_reads(self, sink, allocate):
        # 4 rows of chroma, and GStreamer's luma has an even number of rows.
        with allocate(4096) as buffer:
            image = dmabuf.Image(buffer, "NV12", 52, 52, offsets=[0, 52 * 52])
            assert sink.push(buffer.dup(), image=image) == 0
            large = dmabuf.Image(buffer, "NV12", 52, 51, offsets=[0, 52 * 51])
            with pytest.raises(ValueError, match="offsets"):
                sink.push(buffer, image=large)
            assert not buffer.closed

    def test_a_format_that_gstreamer_has_not(self, sink, allocate):
        image = dmabuf.Image.allocate("SRGGB8", 64, 16, allocate=allocate)
        with image, pytest.raises(ValueError, match="no name for SRGGB8"):
            sink.push(image)

    def test_bytes_without_caps(self, sink, allocate):
        with allocate(4096) as buffer:
            with pytest.raises(ValueError, match="not an image in a known format"):
                sink.push(buffer)
            for caps in ("no caps", "a/b, x=" + "1" * 5000):
                with pytest.raises(ValueError, match="caps"):
                    sink.push(buffer, caps=caps)
            with pytest.raises(ValueError, match="64 bits"):
                sink.push(buffer, caps="a/b", pts=-1)
            with pytest.raises(TypeError, match="not int"):
                sink.push(3, caps="a/b")

    def test_the_same_item_twice(self, sink, client, allocate):
        image = grey(allocate)
        sink.push(image)
        with pytest.raises(ValueError, match="already pushed"):
            sink.push(image)


@pytest.mark.needs("vivid")
def test_a_camera_never_runs_dry_however_clients_behave(path):
    with (
        cameras.camera() as camera,
        gstreamer.Sink(path, hold_timeout=None) as sink,
        RawClient(path),
        RawClient(path) as good,
    ):
        assert isinstance(camera, Capture)
        sink.service(60)
        got = 0
        with camera.stream(count=6) as frames:
            for _ in range(30):
                if sink.push(frames.frame(60)):
                    got += 1
                while sink.clients()[1].held:
                    good.release(good.read_buffer())
                    sink.service(60)
            assert got == 30
            assert sink.clients()[0].held == 2
