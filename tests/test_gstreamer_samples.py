"""Our images in GStreamer's buffers, and its samples as our images: pipelines in this process."""

from __future__ import annotations

import contextlib
import gc
import runpy
import sys
from pathlib import Path

import numpy
import pytest
from helpers import cameras, pipewire
from helpers.features import needs
from helpers.leaks import kernel_buffers

import dmabuf
from dmabuf.image import Image
from dmabuf.interop import gstreamer

pytestmark = [pytest.mark.needs("unixfd", "heap"), pytest.mark.timeout(120)]

WIDTH, HEIGHT = 64, 48


@pytest.fixture(scope="module", autouse=True)
def gst():
    """Give GStreamer, with what it keeps opened before anything is counted."""
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstApp", "1.0")
    from gi.repository import Gst, GstApp  # noqa: F401 (GstApp: pull-sample)

    Gst.init(None)
    with running(Gst, "videotestsrc num-buffers=1 ! appsink name=out sync=false") as pipeline:
        assert pull(pipeline) is not None
    return Gst


@pytest.fixture(scope="module")
@needs("vivid")
def source(gst):
    """Give a camera's element, once GStreamer has opened what it keeps for such."""
    words = f"v4l2src device={cameras.find('vivid')} io-mode=dmabuf"
    words += " ! video/x-raw,format=YUY2,width=320,height=180"
    with running(gst, f"{words} ! appsink name=out sync=false max-buffers=1") as pipeline:
        assert pull(pipeline) is not None
    return words


@contextlib.contextmanager
def running(gst, words: str):
    """Give a pipeline that plays."""
    pipeline = gst.parse_launch(words)
    pipeline.set_state(gst.State.PLAYING)
    try:
        yield pipeline
    finally:
        pipeline.set_state(gst.State.NULL)


def pull(pipeline):
    """Return the next sample of a pipeline's appsink."""
    return pipeline.get_by_name("out").emit("pull-sample")


def through(gst, image: Image, *, after: str = "identity", pts: int | None = None):
    """Return the sample that a pipeline makes of an image."""
    words = f"appsrc name=in format=time ! {after} ! appsink name=out sync=false"
    with running(gst, words) as pipeline:
        source = pipeline.get_by_name("in")
        source.set_property("caps", gst.Caps.from_string(gstreamer.caps(image)))
        pushed = source.emit("push-buffer", gstreamer.buffer(image, pts))
        assert pushed == gst.FlowReturn.OK
        return pull(pipeline)


@pytest.fixture
def picture(allocate):
    """Give a function that returns an image with noise; they are closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(name: str, **about) -> Image:
            about = {"stride_align": 128, "allocate": allocate, **about}
            image = stack.enter_context(Image.allocate(name, WIDTH, HEIGHT, **about))
            with image.buffers[0].write() as memory:
                memory[:] = numpy.random.default_rng(7).bytes(len(memory))
            return image

        yield make


class TestBuffer:
    @pytest.mark.parametrize("name", ["XRGB8888", "NV12", "YUV420", "YUYV", "R8"])
    def test_comes_out_of_a_pipeline_as_the_same_memory(self, gst, picture, name):
        image = picture(name)
        sample = through(gst, image, pts=1234)
        assert sample.get_buffer().pts == 1234
        with gstreamer.image(sample) as back:
            assert back.owns_buffers
            assert back.buffers == image.buffers
            assert (back.format, back.width, back.height) == (image.format, WIDTH, HEIGHT)
            for one, other in zip(back.planes, image.planes, strict=True):
                assert (one.offset, one.stride) == (other.offset, other.stride)
            assert (back.to_rgb() == image.to_rgb()).all()

    def test_of_two_buffers_comes_back_as_two(self, gst, buffer, other):
        image = Image([buffer, other], "NV12", WIDTH, HEIGHT, offsets=(64, 128))
        with gstreamer.image(through(gst, image)) as back:
            assert back.buffers == (buffer, other)
            assert [plane.offset for plane in back.planes] == [64, 128]

    def test_rows_are_where_the_image_says(self, gst, picture):
        """GStreamer converts them, and so must find them."""
        image = picture("XRGB8888")
        after = "videoconvert ! video/x-raw,format=RGB"
        whole = through(gst, image, after=after).get_buffer()
        data = whole.extract_dup(0, whole.get_size())
        assert (numpy.frombuffer(data, "u1").reshape(HEIGHT, WIDTH, 3) == image.to_rgb()).all()

    def test_keeps_the_memory_and_gives_it_back(self, gst, allocate):
        before = kernel_buffers()
        with Image.allocate("R8", WIDTH, HEIGHT, allocate=allocate) as image:
            made = gstreamer.buffer(image)
        assert kernel_buffers() == before + 1
        del made
        gc.collect()
        assert kernel_buffers() == before

    def test_what_is_no_image_or_closed_or_unknown_is_refused(self, picture, buffer):
        with pytest.raises(TypeError, match=r"image must be a dmabuf\.Image, not Buffer"):
            gstreamer.buffer(buffer)
        with pytest.raises(ValueError, match="GStreamer has no name for NV42"):
            gstreamer.buffer(Image(buffer, "NV42", 16, 16))
        image = picture("R8")
        image.close()
        with pytest.raises(ValueError, match="on a closed Image"):
            gstreamer.buffer(image)


class TestImage:
    def test_of_a_camera_outlives_its_pipeline(self, gst, source):
        before = kernel_buffers()
        with running(gst, f"{source} ! appsink name=out sync=false max-buffers=1") as pipeline:
            image = gstreamer.image(pull(pipeline))
        del pipeline
        gc.collect()
        assert image.buffers[0].exporter.startswith("videobuf2")
        assert (image.format.name, image.width, image.height) == ("YUYV", 320, 180)
        bars = image.to_rgb()[170, 20::40] > 128
        assert bars.tolist()[:2] == [[True] * 3, [True, True, False]]
        image.close()
        gc.collect()
        assert kernel_buffers() == before

    @pytest.mark.needs("pipewire")
    def test_of_pipewires_camera_is_the_cameras_memory(self, gst, source, tmp_path):
        words = "pipewiresrc always-copy=false stream-properties=p,node.name=taker"
        words += " ! video/x-raw,format=YUY2,width=320,height=180,framerate=60/1"
        words += " ! appsink name=out sync=false max-buffers=1"
        with (
            pipewire.pipewire(tmp_path, cameras.find("vivid"), "taker"),
            running(gst, words) as pipeline,
        ):
            image = gstreamer.image(pull(pipeline))
        del pipeline
        with image:  # which outlives the pipeline, and PipeWire itself
            assert image.buffers[0].exporter.startswith("videobuf2")
            assert (image.format.name, image.width, image.height) == ("YUYV", 320, 180)
            bars = image.to_rgb()[170, 20::40] > 128
            assert bars.tolist()[:2] == [[True] * 3, [True, True, False]]

    def test_of_plain_memory_is_refused(self, gst):
        with running(gst, "videotestsrc num-buffers=1 ! appsink name=out sync=false") as pipeline:
            sample = pull(pipeline)
        with pytest.raises(ValueError, match="the sample is in plain memory, not in dma-bufs"):
            gstreamer.image(sample)

    def test_of_what_is_no_sample_is_refused(self):
        with pytest.raises(TypeError, match=r"must be a Gst\.Sample, not NoneType, which an ended"):
            gstreamer.image(None)


def test_without_pygobject_it_is_named(monkeypatch, buffer):
    monkeypatch.setitem(sys.modules, "gi", None)
    with pytest.raises(ImportError, match="need PyGObject and GStreamer in this Python"):
        gstreamer.buffer(Image(buffer, "R8", 16, 16))
    assert isinstance(buffer, dmabuf.Buffer)


def test_the_example_encodes_a_camera(gst, source, monkeypatch, capsys, tmp_path):
    picture = tmp_path / "last.jpg"
    example = Path(__file__).parent.parent / "examples" / "camera_into_pipeline.py"
    words = ("--frames", "3", "--camera", cameras.find("vivid"), str(picture))
    monkeypatch.setattr(sys, "argv", [example.name, *words])
    runpy.run_path(str(example), run_name="__main__")
    assert "vivid, YUYV" in capsys.readouterr().out
    decoded = f"filesrc location={picture} ! jpegdec ! videoconvert ! video/x-raw,format=RGB"
    with running(gst, f"{decoded} ! appsink name=out sync=false") as pipeline:
        whole = pull(pipeline).get_buffer()
    seen = numpy.frombuffer(whole.extract_dup(0, whole.get_size()), "u1").reshape(360, 640, 3)
    assert (seen[340, [40, 120, 600]] > 128).tolist() == [
        *([True, True, True], [True, True, False], [False, False, False]),
    ]
