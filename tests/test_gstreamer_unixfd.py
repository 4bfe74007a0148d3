"""Source and Sink against the real GStreamer, in processes of its own."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Iterator

import pytest
from helpers import cameras
from helpers.pipelines import Pipelines, samples
from helpers.unixfd import RawClient

import dmabuf
from dmabuf.image import ColorEncoding, ColorRange
from dmabuf.image.formats import pixel_format
from dmabuf.interop import gstreamer
from dmabuf.interop.gstreamer._formats import DMA_DRM, NAMES, default_placement

pytestmark = [pytest.mark.needs("unixfd"), pytest.mark.timeout(200)]

SIZES = ((64, 48), (1, 1), (5, 7), (33, 18), (318, 181))
SECONDS = 60.0


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory) -> Pipelines:
    return Pipelines(tmp_path_factory.mktemp("unixfd"))


@pytest.fixture
def sink(path) -> Iterator[gstreamer.Sink]:
    """Give a sink that misses no client out."""
    with gstreamer.Sink(path, block=SECONDS, hold_timeout=None, frame_rate=25) as sink:
        yield sink


def connect(path: str) -> gstreamer.Source:
    """Return a source of the sink at a path, once that is there."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return gstreamer.Source(path)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def wait_for_clients(sink: gstreamer.Sink, count: int) -> None:
    deadline = time.monotonic() + SECONDS
    while len(sink.clients()) < count:
        assert time.monotonic() < deadline, "nobody connects"
        sink.service(1)


def picture(number: int, allocate, name: str = "NV12", width: int = 64, height: int = 48, **colors):
    """Return an image that owns its buffer, with contents of its own."""
    about = {"stride_align": 4, "allocate": allocate, **colors}
    image = dmabuf.Image.allocate(name, width, height, **about)
    with image.buffers[0].write() as memory:
        memory[:] = bytes((number * 31 + at * 7) % 256 for at in range(256)) * (len(memory) // 256)
    return image


def hash_of(image: dmabuf.Image) -> str:
    size = default_placement(image.format, image.width, image.height).size
    with image.buffers[0].read() as memory:
        return hashlib.sha256(memory[:size]).hexdigest()


class TestFormats:
    def test_numbers_and_placements_are_gstreamers(self, pipelines):
        found = pipelines.formats(["DMA_DRM", *(name for name, _ in NAMES.values())])
        assert found["DMA_DRM"] == [DMA_DRM, []]
        for ours, (name, number) in NAMES.items():
            placed = [default_placement(pixel_format(ours), *size) for size in SIZES]
            wanted = [[list(each.strides), list(each.offsets), each.size] for each in placed]
            assert found[name] == [number, wanted], ours


class TestSource:
    def test_plain_memory_is_copied_out(self, pipelines, path):
        words = "videotestsrc num-buffers=4 pattern=colors ! video/x-raw,format=BGRx,width=64"
        words += ",height=48,framerate=25/1"
        target = f"{path}.raw"
        with pipelines.launch(*f"{words} ! filesink location={target}".split()) as process:
            assert process.wait(SECONDS) == 0
        with open(target, "rb") as file:
            wanted = file.read()
        words += f" ! unixfdsink wait-for-connection=true socket-path={path}"
        with pipelines.launch(*words.split()) as process, connect(path) as source:
            got, stamps = b"", []
            for frame in source:
                with frame:
                    assert not frame.in_dma_bufs
                    assert frame.duration == 40_000_000
                    assert frame.caps.picture()[:4] == (pixel_format("XRGB8888"), 64, 48, 0)
                    with pytest.raises(ValueError, match="plain memory"):
                        _ = frame.image
                    got += frame.copy()
                    stamps.append(frame.pts)
            assert got == wanted
            assert process.wait(SECONDS) == 0
        steps = [after - before for before, after in itertools.pairwise(stamps)]
        assert steps == [40_000_000] * 3
        with pytest.raises(ValueError, match="closed Source"):
            source.frame()

    @pytest.mark.needs("vivid")
    def test_a_cameras_frames_are_images_on_its_buffers(self, pipelines, path):
        with cameras.camera() as camera:
            camera.set_format("YUYV", 320, 180)
            with camera.stream(count=3) as frames, frames.frame(SECONDS) as first:
                wanted = cameras.planes(first.image)
                colors = first.image.color_encoding, first.image.color_range
        words = f"v4l2src device={cameras.find('vivid')} io-mode=dmabuf num-buffers=12"
        words += " ! video/x-raw,format=YUY2,width=320,height=180"
        words += f" ! unixfdsink socket-path={path}"
        inodes = set()
        with pipelines.launch(*words.split()) as process, connect(path) as source:
            for frame in source:
                with frame:
                    assert frame.in_dma_bufs
                    assert abs(time.monotonic_ns() - frame.pts) < SECONDS * 1e9
                    (buffer,) = frame.buffers
                    assert buffer.exporter.startswith("videobuf2")
                    inodes.add(buffer.inode)
                    assert cameras.planes(frame.image) == wanted
                    assert (frame.image.color_encoding, frame.image.color_range) == colors
                assert buffer.closed
            assert process.wait(SECONDS) == 0
        assert 1 < len(inodes) < 12  # they came back and were filled again

    def test_a_pipeline_that_is_killed_is_an_error_and_no_end(self, pipelines, path):
        words = "videotestsrc is-live=true ! video/x-raw,width=64,height=48"
        words += f" ! unixfdsink wait-for-connection=true socket-path={path}"
        with pipelines.launch(*words.split()) as process, connect(path) as source:
            with source.frame(SECONDS) as frame:
                process.kill()
                process.wait()
                assert len(frame.copy()) > 0
            with pytest.raises(ConnectionError, match="without an end of stream"):
                list(map(gstreamer.PipelineFrame.close, source))


@pytest.mark.needs("exporter")
class TestSink:
    def test_pixels_inodes_and_times_arrive(self, pipelines, sink, path, allocate):
        wanted = []
        with pipelines.peer("samples", path) as process:
            wait_for_clients(sink, 1)
            start = time.monotonic_ns() + 10**9  # GStreamer has no times before its pipeline's
            for number in range(6):
                image, stamp = picture(number, allocate), start + number * 40_000_000
                wanted.append((image.buffers[0].inode, hash_of(image), stamp))
                assert sink.push(image, pts=stamp) == 1
            sink.end()
            found = samples(process)
            assert sink.wait(SECONDS)
        assert [(each["inode"], each["hash"]) for each in found] == [one[:2] for one in wanted]
        assert {each["duration"] for each in found} == {40_000_000}
        steps = [each["pts"] - found[0]["pts"] for each in found]
        assert steps == [one[2] - wanted[0][2] for one in wanted]

    def test_caps_may_change(self, pipelines, sink, path, allocate):
        shapes = [("NV12", 64, 48), ("XRGB8888", 32, 16), ("YUYV", 33, 18), ("NV12", 64, 48)]
        with pipelines.peer("samples", path) as process:
            wait_for_clients(sink, 1)
            for number, shape in enumerate(shapes):
                sink.push(picture(number, allocate, *shape))
            sink.end()
            found = [gstreamer.parse_caps(each["caps"]).picture() for each in samples(process)]
            assert sink.wait(SECONDS)
        assert [(each.format.name, each.width, each.height) for each in found] == shapes

    def test_importers_are_told_fourcc_and_strides(self, pipelines, path, allocate):
        with (
            gstreamer.Sink(path, drm=True, block=SECONDS) as sink,
            pipelines.peer("samples", path) as process,
        ):
            wait_for_clients(sink, 1)
            for _ in range(3):
                sink.push(
                    dmabuf.Image.allocate("NV12", 60, 48, stride_align=128, allocate=allocate)
                )
            sink.end()
            found = samples(process)
            assert sink.wait(SECONDS)
        caps = gstreamer.parse_caps(found[0]["caps"])
        assert caps.features == ("memory:DMABuf",)
        assert caps.fields["drm-format"] == "NV12"
        assert found[-1]["strides"] == [128, 128]
        assert found[-1]["offsets"] == [0, 128 * 48]

    def test_what_is_no_picture_goes_with_caps_of_its_own(self, pipelines, sink, path, allocate):
        with pipelines.peer("samples", path) as process:
            wait_for_clients(sink, 1)
            buffer = allocate(4096)
            with buffer.write() as memory:
                memory[:] = b"\x42" * 4096
            sink.push(buffer, caps="application/x-test, rate=(int)7")
            sink.end()
            (found,) = samples(process)
            assert sink.wait(SECONDS)
        assert gstreamer.parse_caps(found["caps"]).fields["rate"] == "7"
        assert found["hash"] == hashlib.sha256(b"\x42" * 4096).hexdigest()

    @pytest.mark.needs("vivid")
    def test_a_cameras_buffers_go_on_circulating(self, pipelines, sink, path):
        with cameras.camera() as camera, pipelines.peer("samples", path) as process:
            camera.set_format("YUYV", 320, 180)
            wait_for_clients(sink, 1)
            with camera.stream(count=6) as frames:
                inodes = {buffers[0].inode for buffers in frames.buffers}
                for _ in range(20):
                    sink.push(frames.frame(SECONDS))
                sink.end()
                found = samples(process)
                assert sink.wait(SECONDS)
        assert len(found) == 20
        assert {each["inode"] for each in found} <= inodes
        assert len({each["hash"] for each in found}) == 1

    def test_bad_clients_stop_no_pipeline(self, pipelines, path, allocate):
        with (
            gstreamer.Sink(path, block=SECONDS, in_flight=8, hold_timeout=5.0) as sink,
            pipelines.peer("samples", path) as good,
            pipelines.peer("stall", path) as stalled,
            RawClient(path),
            RawClient(path) as liar,
            RawClient(path) as half,
        ):
            wait_for_clients(sink, 5)
            liar.sock.sendall(b"\xff" * 64)
            half.sock.sendall(b"\1\0\0")
            half.sock.close()
            for number in range(12):
                sink.push(picture(number, allocate))
                if number == 6:
                    stalled.kill()
            assert [client.pid for client in sink.clients()] == [good.pid]
            sink.end()
            assert len(samples(good)) == 12
            assert sink.wait(SECONDS)


@pytest.mark.needs("exporter")
def test_from_a_sink_of_ours_to_a_source_of_ours(sink, path, allocate):
    with gstreamer.Source(path) as source:
        sink.service(SECONDS)
        image = picture(1, allocate, color_encoding="bt709", color_range="full")
        inode, wanted = image.buffers[0].inode, hash_of(image)
        sink.push(image)
        with source.frame(SECONDS) as frame:
            assert frame.buffers[0].inode == inode
            assert hash_of(frame.image) == wanted
            assert frame.image.color_encoding is ColorEncoding.BT709
            assert frame.image.color_range is ColorRange.FULL
            assert json.dumps(dict(frame.caps.fields))
        assert sink.wait(SECONDS)
        sink.end()
        with pytest.raises(EOFError):
            source.frame(SECONDS)
