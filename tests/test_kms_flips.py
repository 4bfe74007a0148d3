"""Flips: an image comes to the screen when it is ready, and says that it has."""

import asyncio
import contextlib
import errno
import os
import signal
import struct
import threading
import time

import pytest
from helpers import drm, screen
from helpers.fences import EPOLL, POLL, asleep_in, interrupt, is_open, once_asleep, sleeps
from helpers.process import Child
from helpers.tasks import waiting, watched
from helpers.threads import Thread

import dmabuf
from dmabuf import Access, FenceStatus
from dmabuf.devices import kms
from dmabuf.devices.drm import Vgem
from dmabuf.devices.kms import _ioctl

pytestmark = [
    pytest.mark.needs("display", "root", "vgem", "flips that wait"),
    pytest.mark.timeout(60),
]
needs_export = pytest.mark.needs("export")


@pytest.fixture(params=["atomic", "legacy", pytest.param("vkms", marks=pytest.mark.needs("vkms"))])
def display(request):
    path = drm.find("vkms") if request.param == "vkms" else screen.path()
    atomic = request.param != "legacy"
    with kms.Display(path, atomic=atomic) as display:
        assert display.atomic is atomic
        yield display


@pytest.fixture
def shown(display, images):
    """Give a display that shows the first image."""
    assert display.show(images[0]).wait(10)
    return display


@contextlib.contextmanager
def filled(image, access=Access.WRITE):
    """Have a device work on an image; what is given signals that it is done."""
    with Vgem() as vgem, vgem.import_buffer(image.buffers[0]) as gem:
        yield vgem.attach_fence(gem, access).signal


class TestTheClassic:
    """A frame that a device still fills is handed to the display, and nobody waits."""

    @pytest.mark.parametrize("explicit", [False, pytest.param(True, marks=needs_export)])
    def test_it_is_shown_once_the_device_is_done_and_no_python_code_runs_between(
        self, shown, images, allocate, explicit
    ):
        image, process, thread = images[1], os.getpid(), threading.get_native_id()
        screen.paint(image, 1)
        ready, begin = os.pipe()
        with allocate(4096) as job:
            busy = job if explicit else image.buffers[0]

            def device():
                """Fill the frame while the other process sleeps, before the fence signals."""
                with Vgem() as vgem, vgem.import_buffer(busy) as gem:
                    fence = vgem.attach_fence(gem, Access.WRITE)
                    os.write(begin, b"!")
                    while not asleep_in(thread, POLL, process=process):
                        os.sched_yield()
                    image.buffers[0].memory[:] = frame
                    signalled = time.monotonic()
                    fence.signal()
                    return signalled

            with image.read() as (plane,):
                frame = (plane ^ 0x5A).tobytes()
            child = Child(device)
            try:
                assert os.read(ready, 1) == b"!"
                with contextlib.ExitStack() as stack:
                    fence = stack.enter_context(job.export_fence(Access.READ)) if explicit else None
                    flip = shown.show(image, fence)
                assert not flip.done
                assert flip.timestamp is None
                if shown.atomic:
                    assert flip.fence.status is FenceStatus.ACTIVE
                assert flip.wait(30)  # asleep until the event is there
            finally:
                signalled = child.result()
                os.close(ready)
                os.close(begin)
        frame_time = 1 / shown.mode.refresh  # the time is that of the frame's beginning
        assert signalled - frame_time < flip.timestamp < time.monotonic()
        if shown.atomic:
            assert flip.fence.status is FenceStatus.SIGNALED
            assert flip.fence.signaled_at > signalled
        if "DMABUF_VM_SCREENDUMP" in os.environ and shown.path == screen.path():
            assert (screen.pixels() == screen.picture(1) ^ 0x5A).all()

    def test_a_frame_that_is_only_read_is_shown_at_once(self, shown, images):
        with filled(images[1], Access.READ):
            assert shown.show(images[1]).wait(10)
            assert not images[1].buffers[0].is_idle(Access.WRITE)

    def test_the_first_frame_sets_the_mode_when_it_is_ready(self, display, images):
        with filled(images[0]) as done:
            if display.atomic:
                flip = display.show(images[0])
                assert not flip.wait(0.1)
                done()
            else:
                with pytest.raises(TimeoutError, match="sets a mode only for an image that is"):
                    display.show(images[0], timeout=0)
                assert display.mode is None
                with once_asleep(POLL, done):
                    flip = display.show(images[0])
            assert flip.wait(10)

    @needs_export
    def test_a_mode_that_is_not_set_in_time_leaves_the_images_buffers_as_they_were(
        self, images, pending
    ):
        with kms.Display(screen.path(), atomic=False) as display:
            for timeout in (-1, 0, 0.01):
                with pytest.raises(TimeoutError, match="is still being written"):
                    display.show(images[0], pending.fence, timeout=timeout)
            assert images[0].buffers[0].is_idle(Access.WRITE)
            assert display.mode is None
            pending.signal()
            assert display.show(images[0], pending.fence).wait(10)

    @needs_export
    def test_the_fence_that_is_given_counts_alone(self, images, pending):
        """So says IN_FENCE_FD: what the buffers have is not waited for."""
        with kms.Display() as display, filled(images[1]) as done:
            assert display.show(images[0]).wait(10)
            pending.signal()
            assert display.show(images[1], pending.fence).wait(10)
            done()

    @pytest.mark.needs("sw_sync")
    def test_a_fence_with_an_error_is_one_that_is_done(self, shown, images):
        timeline = dmabuf.sw_sync.Timeline()
        with timeline.fence(1) as fence:
            flip = shown.show(images[1], fence)
            assert not flip.done
            timeline.close()
        assert flip.wait(10)


class TestFlip:
    def test_says_when_it_was_and_which_frame(self, shown, images):
        flips = []
        for image in images * 2:
            before = time.monotonic()
            flip = shown.show(image)
            assert flip.wait(10)
            assert flip.wait(0)
            assert flip.done
            assert before < flip.timestamp + 1 / 20
            assert flip.timestamp < time.monotonic()
            assert f"timestamp={flip.timestamp:.6f}" in repr(flip)
            flips.append(flip)
        times = [flip.timestamp for flip in flips]
        frames = [flip.sequence for flip in flips]
        assert times == sorted(times)
        assert frames == [None] * 4 or (0 not in frames and frames == sorted(frames))

    def test_has_no_sequence_where_the_driver_counts_no_frames(self):
        """Such a driver reports frame 0, whatever is shown."""
        events = [
            struct.pack("=IIQIIII", _ioctl.FLIP_COMPLETE, 32, cookie, 1, 500_000, sequence, 0)
            for cookie, sequence in ((7, 0), (8, 3))
        ]
        assert list(_ioctl.flip_events(b"".join(events))) == [(7, None, 1.5), (8, 3, 1.5)]

    def test_knows_nothing_before(self, shown, images):
        with filled(images[1]) as done:
            flip = shown.show(images[1])
            assert (flip.done, flip.sequence, flip.timestamp) == (False, None, None)
            assert shown.path in repr(flip)
            for timeout in (0, -1, 0.01):
                assert not flip.wait(timeout)
            done()
            assert flip.wait(10)

    def test_waiting_sleeps_and_a_signal_gets_out(self, shown, images):
        with filled(images[1]) as done:
            flip = shown.show(images[1])
            assert sleeps(flip.wait, POLL)
            with once_asleep(POLL, done):
                assert flip.wait()
            assert flip.wait()

    def test_the_next_show_waits_for_it(self, shown, images):
        with filled(images[1]) as done:
            pending = shown.show(images[1])
            for timeout in (0, 0.01):
                with pytest.raises(TimeoutError, match="flip before is still pending") as caught:
                    shown.show(images[0], timeout=timeout)
                assert shown.path in str(caught.value)
            assert sleeps(lambda: shown.show(images[0]), POLL)
            with once_asleep(POLL, done):
                flip = shown.show(images[0])
            assert pending.done
            assert flip.wait(10)

    def test_shows_in_a_row_need_no_wait(self, shown, images):
        flips = [shown.show(image, timeout=10) for image in images * 4]
        assert all(flip.done for flip in flips[:-1])
        assert flips[-1].wait(10)
        assert all(flip.timestamp for flip in flips)

    def test_the_fence_is_closed_with_the_flip_or_before(self, images):
        with kms.Display() as display:
            flip = display.show(images[0])
            fence, number = flip.fence, flip.fence.fileno()
            assert isinstance(fence, dmabuf.Fence)
            assert flip.fence is fence
            assert fence.wait(10)
            display.show(images[1])
            del flip
            assert is_open(number)
            del fence
            assert not is_open(number)
            with filled(images[0]) as done:
                flip = display.show(images[0])
                with flip.fence:
                    assert not flip.done
                assert not flip.done
                assert not flip.wait(0.01)
                with once_asleep(POLL, done):
                    assert flip.wait()
            assert display.show(images[1]).wait(10)

    @needs_export
    def test_the_fence_holds_back_who_fills_the_frame_before(self, images):
        """The display is done with a frame when the next has replaced it."""
        with kms.Display() as display, filled(images[1]) as done:
            before = images[0].buffers[0]
            assert display.show(images[0]).wait(10)
            before.import_fence(display.show(images[1]).fence, Access.READ)
            assert not before.is_idle(Access.WRITE)
            done()
            assert before.wait(Access.WRITE, 10)

    def test_without_atomic_there_is_no_fence(self, images):
        with kms.Display(atomic=False) as display:
            flip = display.show(images[0])
            with pytest.raises(dmabuf.UnsupportedError, match="not atomic; use wait") as caught:
                flip.fence  # noqa: B018
            assert caught.value.errno == errno.EOPNOTSUPP
            assert flip.wait(10)

    def test_it_outlives_its_display(self, display, images):
        flip = display.show(images[0])
        display.close()
        assert flip.done is display.atomic or flip.timestamp is not None
        assert display.path in repr(flip)

    def test_closing_the_display_waits_for_it(self, shown, images):
        with filled(images[1]) as done:
            flip = shown.show(images[1])
            timer = threading.Timer(0.05, done)
            timer.start()
            shown.close()
            timer.join()
            assert flip.timestamp is not None

    def test_threads_wait_for_one_flip(self, shown, images):
        results = []
        with filled(images[1]) as done:
            flip = shown.show(images[1])
            threads = [
                threading.Thread(target=lambda: results.append(flip.wait(30))) for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            while not any(asleep_in(thread.native_id, POLL) for thread in threads):
                os.sched_yield()
            done()
            assert flip.wait(30)
            for thread in threads:
                thread.join()
        assert results == [True] * 4

    def test_threads_show_by_turns(self, shown, images):
        def show(image):
            return [shown.show(image, timeout=30) for _ in range(5)]

        threads = [Thread(lambda image=image: show(image)) for image in images]
        flips = [flip for thread in threads for flip in thread.end()]
        assert all(flip.wait(10) for flip in flips)
        assert all(flip.timestamp for flip in flips)


class TestAwait:
    def test_returns_none_once_it_is_done_and_the_loop_goes_on(self, shown, images):
        async def main():
            flip = shown.show(images[1])
            tasks = await waiting(flip, flip, flip)
            for _ in range(10):
                await asyncio.sleep(0)
            assert not any(task.done() for task in tasks)
            assert watched() == 1
            done()
            assert await asyncio.gather(*tasks) == [None] * 3
            assert watched() == 0
            assert await flip is None
            assert flip.timestamp is not None

        with filled(images[1]) as done:
            asyncio.run(main())

    def test_no_thread_is_needed(self, shown, images):
        async def main():
            for image in images * 3:
                await shown.show(image)
            assert threading.active_count() == 1

        asyncio.run(main())

    def test_a_time_out_and_a_cancellation_leave_nothing(self, shown, images):
        async def main():
            flip = shown.show(images[1])
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(flip, 0.01)
            [task] = await waiting(flip)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert watched() == 0
            done()
            await flip

        with filled(images[1]) as done:
            asyncio.run(main())

    def test_ctrl_c_gets_out(self, shown, images):
        async def main():
            await shown.show(images[1])

        with filled(images[1]) as done:
            out = once_asleep(EPOLL, lambda: interrupt(signal.SIGINT))
            with pytest.raises(KeyboardInterrupt), out:
                asyncio.run(main())
            done()

    def test_whoever_reads_the_event_wakes_those_who_wait(self, images):
        """The next show, or a thread, may find it before the loop does."""

        async def main(display):
            flip = display.show(images[1])
            [task] = await waiting(flip)
            done()
            display.show(images[0])  # reads the event, amid the loop's turn
            await asyncio.wait_for(task, 10)

        with kms.Display(atomic=False) as display:
            assert display.show(images[0]).wait(10)
            with filled(images[1]) as done:
                asyncio.run(main(display))

    def test_closing_the_display_ends_the_wait_for_an_event(self, images):
        async def main(display):
            flip = display.show(images[1])
            [task] = await waiting(flip)
            done()
            display.close()
            with contextlib.suppress(ValueError):  # or it was done just before
                await task
            assert watched() == 0

        with kms.Display(atomic=False) as display:
            assert display.show(images[0]).wait(10)
            with filled(images[1]) as done:
                asyncio.run(main(display))
