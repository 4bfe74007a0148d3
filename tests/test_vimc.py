"""vimc, a camera whose pictures come through a media pipeline: sensor, debayer, scaler, node."""

import contextlib
import errno
import subprocess

import pytest
from helpers import cameras
from test_examples_egl import BARS
from test_v4l2_stream import LONG, from_heap

from dmabuf.devices import v4l2

pytestmark = [pytest.mark.needs("vimc", "heap"), pytest.mark.timeout(60)]
SIZE = WIDTH, HEIGHT = 640, 480


def node(name):
    """Return the path of one of its nodes, which all have the same card."""
    names = {path.name: (path / "name").read_text() for path in cameras.SYSFS.glob("video*")}
    return next(f"/dev/{node}" for node, found in names.items() if found == f"{name}\n")


def set_up(scaled):
    """Tell each pad what it gives, the scaler to which size; the node of the sensor is one, too."""
    with v4l2.Capture(node("Raw Capture 0")) as raw:
        raw.set_format("SBGGR8", *SIZE)
    bayer, rgb = "SBGGR8_1X8/640x480", "RGB888_1X24/640x480"
    pads = {'"Sensor A":0': bayer, '"Debayer A":0': bayer, '"Scaler":0': rgb}
    pads['"Scaler":1'] = "RGB888_1X24/{}x{}".format(*scaled)
    for pad, format in pads.items():
        words = "media-ctl", "-d", "platform:vimc", "-V", f"{pad}[fmt:{format}]"
        subprocess.run(words, check=True)


@pytest.fixture
def camera():
    """Give the node behind the scaler."""
    with v4l2.Capture(node("RGB/YUV Capture")) as camera:
        camera.set_format("BGR888", *SIZE)
        yield camera


def test_pictures_come_through_the_pipeline_into_heap_buffers(camera):
    set_up(SIZE)
    format = camera.format()
    with contextlib.ExitStack() as stack:
        buffers = [stack.enter_context(from_heap(format.sizeimage[0])) for _ in range(3)]
        frames = stack.enter_context(camera.stream(buffers))
        with frames.frame(LONG) as frame:
            middles = [WIDTH * bar // 16 for bar in range(1, 16, 2)]
            seen = frame.image.to_rgb()[HEIGHT - 20, middles]
    assert (seen > 128).tolist() == BARS


def test_a_pipeline_that_does_not_fit_together_is_told_with_what_sets_it(camera):
    set_up((320, 240))
    with pytest.raises(BrokenPipeError, match="along its media pipeline don't fit") as caught:
        camera.stream(count=2).__enter__()
    assert caught.value.errno == errno.EPIPE
