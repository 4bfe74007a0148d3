"""A signal handler that raises at each point of a stream's life: nothing is left or lost.

Streams and frames are left where a `with` block has ended and its exit has not begun, too: what is
collected is stopped, or given back.
"""

import contextlib
import gc

import pytest
from helpers import cameras, interrupt, leaks
from test_v4l2_stream import LONG

from dmabuf.devices import v4l2
from dmabuf.devices.v4l2 import _ioctl

pytestmark = [pytest.mark.needs("vivid"), pytest.mark.filterwarnings("ignore::ResourceWarning")]
COUNT = 3


def each_point(body):
    """Run a body with the handler at each point of it; give where, after each."""
    for moment in interrupt.every_point():
        with (
            contextlib.suppress(interrupt.Interrupted),
            moment.runs(interrupt.raise_interrupted),
        ):
            body()
        yield moment.where


def every_point_leaves_nothing(body, other=None):
    """Fail if a descriptor is left, or buffers, which keep the format from being set."""
    before, failed = leaks.descriptors(), []
    for where in each_point(body):
        if leaks.descriptors() != before:
            gc.collect()
        try:
            assert leaks.descriptors() == before
            if other is not None:
                other.set_format("R8", cameras.WIDTH, cameras.HEIGHT)
        except (AssertionError, OSError) as error:
            failed.append((where, error))
    assert not failed


class TestNothingIsLeft:
    def test_of_a_device_that_is_opened_and_closed(self, camera):
        def body():
            with v4l2.Capture(camera.device.path) as again:
                assert again.device is not camera.device

        every_point_leaves_nothing(body, camera)

    @pytest.mark.parametrize("kind", ["camera", "output"])
    def test_of_a_stream(self, request, kind):
        queue = request.getfixturevalue(kind)

        def body():
            with queue.stream(count=2) as frames, frames.frame(LONG) as frame:
                assert frame.sequence >= 0

        with type(queue)(queue.device.path) as other:
            every_point_leaves_nothing(body, other)

    def test_of_a_stream_whose_device_is_closed(self, camera):
        path = camera.device.path

        def body():
            again = v4l2.Capture(path)
            frames = again.stream(count=2).__enter__()
            again.close()
            frames.stop()

        every_point_leaves_nothing(body, camera)

    @pytest.mark.needs("vim2m")
    def test_of_a_memory_to_memory_device(self):
        path = cameras.find("vim2m")

        def body():
            with (
                v4l2.Device(path) as device,
                device.output.stream(count=2) as sink,
                device.capture.stream(count=2) as source,
            ):
                sink.frame(LONG).queue()
                with source.frame(LONG):
                    pass

        every_point_leaves_nothing(body)


class TestASecondHandlerThatRaises:
    """Amid stopping, which was taken up again after the first."""

    @pytest.fixture
    def frames(self, camera, monkeypatch):
        frames = camera.stream(count=2).__enter__()
        with monkeypatch.context() as patch:
            patch.setattr(_ioctl, "streamoff", lambda *_: interrupt.raise_interrupted())
            with pytest.raises(interrupt.Interrupted):
                frames.stop()
        return [frames]

    def test_leaves_it_to_the_next_stop(self, camera, frames):
        frames[0].stop()
        camera.set_format("R8", cameras.WIDTH, cameras.HEIGHT)

    def test_leaves_it_to_the_finalizer(self, camera, frames):
        frames.clear()
        gc.collect()
        camera.set_format("R8", cameras.WIDTH, cameras.HEIGHT)


class TestEveryBufferCirculates:
    def test_after_a_frames_block(self, camera):
        with camera.stream(count=COUNT) as frames:

            def body():
                with frames.frame(LONG) as frame:
                    assert frame.sequence >= 0

            failed = []
            for where in each_point(body):
                held = [frames.frame(LONG) for _ in range(COUNT)]
                slots = {frame._loan.slot.index for frame in held}
                for frame in held:
                    frame.queue()
                if len(slots) != COUNT or cameras.queued(frames) != COUNT:
                    failed.append((where, slots, cameras.queued(frames)))
            assert not failed
