"""The states of a stream's slots: each change, its misuse, amid signals and among threads."""

import contextlib
import errno
import threading

import pytest
from helpers import cameras, interrupt
from helpers.fences import is_open
from test_v4l2_stream import GIVEN_BACK, LONG, OVER, XRGB, allocated

from dmabuf.devices import v4l2
from dmabuf.devices.v4l2 import _ioctl
from dmabuf.devices.v4l2._ring import Loan, Ring, SlotState
from dmabuf.devices.v4l2._session import SessionState
from dmabuf.devices.v4l2.frame import Frame
from dmabuf.devices.v4l2.info import CAPTURE, OUTPUT

pytestmark = pytest.mark.needs("vivid")
COUNT = 4


@contextlib.contextmanager
def running(queue, buffers=None):
    """Give a ring that runs, on buffers of ours or on the device's own."""
    kinds = CAPTURE if isinstance(queue, v4l2.Capture) else OUTPUT
    ring = Ring(queue.device, kinds[0], queue.format(), buffers, COUNT)
    ring.start()
    try:
        yield ring
    finally:
        ring.session.stop()


def taken(ring):
    """Return the next frame's loan."""
    loan = Loan()
    while not ring.take(loan):
        assert ring.session.wait(LONG)
    return loan


def states(ring):
    """Return how many slots are free, queued, held and refused."""
    return tuple(ring.count(state) for state in SlotState)


def give(ring, loan):
    ring.queue(loan, ring.unused, 0.0)


class TestCapture:
    def test_starting_queues_every_slot(self, camera):
        ring = Ring(camera.device, CAPTURE[0], camera.format(), None, COUNT)
        assert states(ring) == (0, 0, 0, 0)
        assert ring.session.state is SessionState.NEW
        ring.start()
        assert states(ring) == (0, 4, 0, 0)
        ring.session.stop()
        assert ring.session.state is SessionState.OVER

    def test_a_frame_is_held_from_taking_to_queueing(self, camera):
        with running(camera) as ring:
            loan = taken(ring)
            assert states(ring) == (0, 3, 1, 0)
            assert ring.slot(loan).was_queued
            give(ring, loan)
            assert states(ring) == (0, 4, 0, 0)

    def test_frames_that_have_to_be_waited_for_are_not_looked_for_before(self, camera, monkeypatch):
        looks = []
        dqbuf = _ioctl.dqbuf
        monkeypatch.setattr(_ioctl, "dqbuf", lambda *given: looks.append(dqbuf(*given)))
        with camera.stream(count=COUNT) as frames:
            for _ in range(17):
                frames.frame(LONG).queue()
        assert len(looks) <= 18  # the first time only it was not known yet

    def test_slots_that_are_free_are_queued_before_a_frame_is_waited_for(self, camera):
        with camera.stream(count=COUNT) as frames:
            for frame in [frames.frame(LONG) for _ in range(COUNT)]:
                frames._ring.leave(frame._loan)
            frames.frame(LONG).queue()

    def test_a_frame_that_is_left_is_queued_by_the_next_take(self, camera):
        with running(camera) as ring:
            ring.leave(taken(ring))
            assert states(ring) == (1, 3, 0, 0)
            loan = taken(ring)
            assert states(ring) == (0, 3, 1, 0)
            give(ring, loan)

    def test_a_frame_that_is_collected_is_left(self, camera):
        with running(camera) as ring:
            frame = Frame(ring, taken(ring))
            with pytest.warns(ResourceWarning, match="not given back"):
                del frame
            assert states(ring) == (1, 3, 0, 0)

    def test_a_loan_ends_once(self, camera):
        with running(camera) as ring:
            for end in (give, Ring.leave, Ring.collect):
                loan = taken(ring)
                end(ring, loan)
                for use in (ring.slot, lambda loan: give(ring, loan)):
                    with pytest.raises(ValueError, match=GIVEN_BACK):
                        use(loan)
                with pytest.raises(ValueError, match=GIVEN_BACK):
                    ring.replace(loan, ())
                before = states(ring)
                ring.leave(loan)
                ring.collect(loan)
                assert states(ring) == before

    def test_an_old_loan_is_not_the_same_slots_next(self, camera):
        with running(camera) as ring:
            old = taken(ring)
            slot = ring.slot(old)
            give(ring, old)
            while ring.slot(loan := taken(ring)) is not slot:
                give(ring, loan)
            ring.leave(old)
            with pytest.raises(ValueError, match=GIVEN_BACK):
                give(ring, old)
            ring.collect(old)
            assert ring.slot(loan) is slot
            give(ring, loan)

    def test_a_failed_queueing_leaves_the_frame_held(self, camera, allocate):
        with (
            allocated(allocate, camera.format(), COUNT) as buffers,
            running(camera, buffers) as ring,
        ):
            loan = taken(ring)
            kept = ring.slot(loan).buffers
            with allocate(4096) as small:
                ring.replace(loan, (small,))
                with pytest.raises(OSError, match="can't queue a buffer"):
                    give(ring, loan)
                assert states(ring) == (0, 3, 1, 0)
                assert not ring.slot(loan).was_queued
            ring.replace(loan, kept)
            give(ring, loan)
            assert states(ring) == (0, 4, 0, 0)

    def test_what_the_device_refuses_later_is_told_once_and_not_tried_again(self, camera, allocate):
        with (
            allocate(4096) as small,
            allocated(allocate, camera.format(), COUNT) as buffers,
            running(camera, buffers) as ring,
        ):
            loan = taken(ring)
            ring.replace(loan, (small,))
            ring.leave(loan)
            with pytest.raises(OSError, match="can't queue a buffer") as caught:
                ring.take(Loan())
            assert caught.value.errno in (errno.EINVAL, errno.EFAULT)
            assert states(ring) == (0, 3, 0, 1)
            for _ in range(COUNT):
                give(ring, taken(ring))
            assert states(ring) == (0, 3, 0, 1)

    def test_buffers_that_were_closed_are_passed_over(self, camera, allocate):
        with (
            allocated(allocate, camera.format(), COUNT) as buffers,
            running(camera, buffers) as ring,
        ):
            loan = taken(ring)
            ring.slot(loan).buffers[0].close()
            with pytest.raises(ValueError, match="closed Buffer"):
                give(ring, loan)
            assert states(ring) == (0, 3, 1, 0)
            ring.leave(loan)
            for _ in range(COUNT):
                give(ring, taken(ring))
            assert states(ring) == (1, 3, 0, 0)

    def test_stopping_leaves_what_is_held_to_the_caller(self, camera):
        with running(camera) as ring:
            loan = taken(ring)
            ring.session.stop()
            assert ring.slot(loan)
            with pytest.raises(ValueError, match=OVER):
                ring.take(Loan())
            give(ring, loan)
            assert states(ring) == (1, 3, 0, 0)
            with pytest.raises(ValueError, match=GIVEN_BACK):
                give(ring, loan)

    def test_a_ring_is_for_a_single_use(self, camera):
        with running(camera) as ring:
            with pytest.raises(ValueError, match="used only once"):
                ring.start()
            assert ring.session.running
        with pytest.raises(ValueError, match="used only once"):
            ring.start()


class TestOutput:
    def test_free_slots_are_lent_and_not_queued(self, output):
        with running(output) as ring:
            assert states(ring) == (4, 0, 0, 0)
            loan = taken(ring)
            assert states(ring) == (3, 0, 1, 0)
            assert not ring.slot(loan).was_queued
            give(ring, loan)
            assert states(ring) == (3, 1, 0, 0)

    def test_frames_that_are_left_or_collected_are_lent_again(self, output):
        with running(output) as ring:
            loan = taken(ring)
            ring.leave(loan)
            assert states(ring) == (4, 0, 0, 0)
            frame = Frame(ring, taken(ring))
            with pytest.warns(ResourceWarning, match="not given back"):
                del frame
            assert states(ring) == (4, 0, 0, 0)

    def test_queueing_times_out_while_all_are_held(self, output, allocate):
        with allocated(allocate, output.format(), 2) as buffers, output.stream(buffers) as frames:
            held = [frames.frame(LONG) for _ in buffers]
            with pytest.raises(TimeoutError, match="all 2 are held") as caught:
                frames.queue(buffers[0], 0.01)
            assert caught.value.errno == errno.ETIMEDOUT
            for frame in held:
                frame.queue()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
class TestAHandlerThatRaises:
    """At each point of a call: the slots stay whole, and the device is given back."""

    def test_amid_taking_loses_no_slot(self, camera):
        number = camera.device.fileno()
        with camera.stream() as frames:
            for moment in interrupt.every_point():
                assert frames._ring.session.wait(LONG)  # one is there
                frame = None
                with (
                    contextlib.suppress(interrupt.Interrupted),
                    moment.runs(interrupt.raise_interrupted),
                ):
                    frame = frames.frame(LONG)
                assert frames._ring.count(SlotState.HELD) == (frame is not None), moment.where
                if frame is not None:
                    frame.queue()
            held = [frames.frame(LONG) for _ in range(COUNT)]
            assert len({frame.buffers for frame in held}) == COUNT
            for frame in held:
                frame.queue()
        camera.close()
        assert not is_open(number)

    def test_amid_a_time_out_loses_no_slot(self, camera):
        with camera.stream() as frames:
            held = [frames.frame(LONG) for _ in range(COUNT)]
            for moment in interrupt.every_point():
                with (
                    contextlib.suppress(interrupt.Interrupted, TimeoutError),
                    moment.runs(interrupt.raise_interrupted),
                ):
                    frames.frame(0)
            for frame in held:
                frame.queue()
            assert cameras.queued(frames) == COUNT
        camera.set_format(*XRGB)  # nobody polls any more

    @pytest.mark.parametrize("leave", [False, True])
    def test_amid_giving_back_loses_no_slot(self, camera, allocate, leave):
        with (
            allocated(allocate, camera.format(), COUNT) as buffers,
            camera.stream(buffers) as frames,
        ):
            for moment in interrupt.every_point():
                frame = frames.frame(LONG)
                with (
                    contextlib.suppress(interrupt.Interrupted),
                    moment.runs(interrupt.raise_interrupted),
                ):
                    if leave:
                        frame.__exit__(None, None, None)
                    else:
                        frame.queue()
                with contextlib.suppress(ValueError):
                    frame.queue()
                ring = frames._ring
                assert ring.count(SlotState.HELD) == 0, moment.where
                assert states(ring)[:2] in ((0, 4), (1, 3)), moment.where
            held = [frames.frame(LONG) for _ in range(COUNT)]
            for frame in held:
                frame.queue()

    def test_amid_stopping_leaves_nothing_running(self, camera):
        for moment in interrupt.every_point():
            frames = camera.stream(count=2).__enter__()
            with (
                contextlib.suppress(interrupt.Interrupted),
                moment.runs(interrupt.raise_interrupted),
            ):
                frames.stop()
            frames.stop()  # where it had not begun
            assert not frames.running
            assert all(buffer.closed for (buffer,) in frames.buffers), moment.where
            camera.set_format("R8", cameras.WIDTH, cameras.HEIGHT)

    def test_amid_starting_leaves_nothing_running(self, camera, allocate):
        with allocated(allocate, camera.format(), 2) as buffers:
            for moment in interrupt.every_point():
                frames = camera.stream(buffers)
                with (
                    contextlib.suppress(interrupt.Interrupted),
                    moment.runs(interrupt.raise_interrupted),
                ):
                    frames.__enter__()
                assert frames.running == (not moment.reached), moment.where
                frames.stop()
                camera.set_format("R8", cameras.WIDTH, cameras.HEIGHT)


class TestAHandlerThatTakes:
    def test_amid_giving_back_gets_a_frame_of_its_own(self, camera):
        with camera.stream() as frames:
            for moment in interrupt.every_point():
                frame, others = frames.frame(LONG), []

                def take(others=others):
                    others.append(frames.frame(LONG))

                with moment.runs(take):
                    frame.queue()
                assert frames._ring.count(SlotState.HELD) == len(others), moment.where
                for other in others:
                    other.queue()
                assert cameras.queued(frames) == COUNT, moment.where


class TestAHandlerThatStops:
    def test_amid_taking_ends_the_stream(self, camera):
        for moment in interrupt.every_point():
            frames = camera.stream(count=2).__enter__()
            assert frames._ring.session.wait(LONG)
            frame = None
            with contextlib.suppress(ValueError), moment.runs(frames.stop):
                frame = frames.frame(LONG)
            assert frames.running == (not moment.reached), moment.where
            frames.stop()
            if frame is not None:
                frame.queue()
            camera.set_format("R8", cameras.WIDTH, cameras.HEIGHT)


class TestThreads:
    def test_one_of_several_gives_a_frame_back(self, camera):
        with camera.stream() as frames:
            for _ in range(8):
                frame, start, told = frames.frame(LONG), threading.Barrier(3), []

                def give_back(frame=frame, start=start, told=told):
                    start.wait()
                    try:
                        frame.queue()
                        told.append("given")
                    except ValueError as error:
                        told.append(str(error))

                threads = [threading.Thread(target=give_back) for _ in range(3)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert sorted(told)[0] == "given"
                assert [GIVEN_BACK in text for text in sorted(told)[1:]] == [True, True]
                assert cameras.queued(frames) == COUNT

    def test_many_take_and_give_until_another_stops(self, camera):
        for _ in range(4):
            errors, count, enough = [], [], threading.Event()
            with camera.stream() as frames:

                def work(frames=frames, errors=errors, count=count, enough=enough):
                    try:
                        for frame in frames:
                            with frame:
                                count.append(frame.sequence)
                            if len(count) > 8:
                                enough.set()
                    except Exception as error:
                        errors.append(error)
                        enough.set()

                threads = [threading.Thread(target=work) for _ in range(3)]
                for thread in threads:
                    thread.start()
                enough.wait()
                frames.stop()
                for thread in threads:
                    thread.join()
                assert errors == []
                assert frames._ring.count(SlotState.HELD) == 0
            camera.set_format("R8", cameras.WIDTH, cameras.HEIGHT)  # its buffers are free

    @pytest.mark.parametrize("ends", [("stop",), ("close",), ("close", "stop"), ("stop", "close")])
    @pytest.mark.parametrize("takers", ["take", "wait", "hold"])
    def test_an_end_reaches_all_others(self, camera, takers, ends):
        """Who takes and gives back, waits while all are held, or holds one until it is over."""
        path, number = camera.device.path, camera.device.fileno()
        frames = camera.stream(count=3).__enter__()
        held = [frames.frame(LONG) for _ in range(3)] if takers == "wait" else []
        errors, busy, over = [], threading.Semaphore(0), threading.Event()

        def work():
            try:
                busy.release()
                for frame in frames:
                    busy.release()
                    with frame:
                        if takers == "hold":
                            over.wait(LONG)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(3 if takers == "wait" else 6):
            assert busy.acquire(timeout=LONG)
        for end in ends:
            camera.close() if end == "close" else frames.stop()
        over.set()
        for thread in threads:
            thread.join(LONG)
        assert not any(thread.is_alive() for thread in threads)
        assert errors == []
        for frame in held:
            frame.queue()
        frames.stop()
        camera.close()
        assert not is_open(number)
        with v4l2.Capture(path) as again, again.stream() as others:
            others.frame(LONG).queue()
