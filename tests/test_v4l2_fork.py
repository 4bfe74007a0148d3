"""A stream belongs to the process that began it: its forked children leave it alone."""

import contextlib
import gc
import threading
import warnings

import pytest
from helpers import cameras
from helpers.process import in_child
from test_v4l2_stream import LONG, allocated

from dmabuf.devices import v4l2
from dmabuf.devices.v4l2._ring import SlotState

pytestmark = pytest.mark.needs("vivid")
PARENTS = "stream from /dev/video[0-9]+ is its parent's, and this is a forked child"
forks_with_threads = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


@pytest.fixture(params=[False, True], ids=["single", "multi"])
def camera(request):
    """Give a camera of each kind."""
    with cameras.camera(multi_planar=request.param) as camera:
        yield camera


def goes_on(frames):
    """Whether a stream goes on with all of its buffers."""
    held = [frames.frame(LONG) for _ in frames.buffers]
    for frame in held:
        frame.queue()
    return cameras.queued(frames) == len(frames.buffers)


def leave(stack, frames):
    stack.close()
    assert not frames.running


def stop(stack, frames):
    frames.stop()
    frames.stop()
    assert all(buffer.closed for (buffer,) in frames.buffers)


@pytest.mark.parametrize("end", [leave, stop])
def test_a_child_ends_no_stream_of_its_parent(camera, end):
    with contextlib.ExitStack() as stack:
        frames = stack.enter_context(camera.stream())
        frame = stack.enter_context(frames.frame(LONG))
        in_child(lambda: end(stack, frames))
        frame.queue()
        assert goes_on(frames)


def test_a_child_drops_a_stream_without_ending_it(camera):
    kept = [camera.stream().__enter__()]

    def drop():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            kept.clear()
            gc.collect()
        assert not caught

    in_child(drop)
    assert goes_on(kept[0])
    kept[0].stop()


def test_a_child_that_leaves_a_stream_of_its_parents_buffers_leaves_it_running(camera, allocate):
    with allocated(allocate, camera.format()) as buffers, contextlib.ExitStack() as stack:
        frames = stack.enter_context(camera.stream(buffers))
        in_child(stack.close)
        assert goes_on(frames)


def test_a_child_that_leaves_an_output_leaves_it_running():
    with v4l2.Output(cameras.find("vivid", output=True)) as output:
        with contextlib.ExitStack() as stack:
            frames = stack.enter_context(output.stream())
            stack.enter_context(frames.frame(LONG))
            in_child(stack.close)
            assert frames.running
            frames.frame(LONG).queue()
        output.set_format("R8", cameras.WIDTH, cameras.HEIGHT)  # its buffers are free


def test_a_child_reads_what_was_held_and_takes_nothing(camera):
    with camera.stream() as frames, frames.frame(LONG) as frame:
        expected = cameras.planes(frame.image)

        def read():
            with frame:
                assert cameras.planes(frame.image) == expected
            for take in (frames.frame, lambda: next(frames), frames.__enter__):
                with pytest.raises(ValueError, match=PARENTS):
                    take()

        in_child(read)
        assert frames._ring.count(SlotState.HELD) == 1
        frame.queue()
        assert goes_on(frames)


def test_a_child_streams_from_what_its_parent_has_opened(camera):
    stream = camera.stream()

    def take():
        with stream as frames, frames.frame(LONG):
            pass

    in_child(take)
    with stream as frames:
        assert goes_on(frames)


@forks_with_threads
def test_a_child_is_not_held_up_by_threads_that_it_has_not(camera):
    """One waits for a frame, one has the stream's lock."""
    with camera.stream(count=2) as frames:
        held = [frames.frame(LONG) for _ in frames.buffers]
        locked, go_on = threading.Event(), threading.Event()

        def wait():
            with contextlib.suppress(ValueError):
                frames.frame().queue()

        def lock():
            with frames._ring.session.lock:
                locked.set()
                go_on.wait()

        threads = [threading.Thread(target=wait), threading.Thread(target=lock)]
        threads[0].start()
        while not frames._ring.session._waits._in_threads:
            pass
        threads[1].start()
        locked.wait()

        def leave():
            for frame in held:
                frame.leave()
            frames.stop()

        try:
            in_child(leave)
        finally:
            go_on.set()
        assert frames.running
        assert threads[0].is_alive()
        frames.stop()
        for thread in threads:
            thread.join()
