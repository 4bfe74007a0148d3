"""Threads that show on one display, and a close amid them: each way that they can meet ends."""

import contextlib

import pytest
from helpers import screen
from helpers.fences import join_threads
from helpers.threads import Thread

from dmabuf import Access
from dmabuf.devices import kms
from dmabuf.devices.drm import Vgem
from dmabuf.devices.kms import _ioctl, _screen

pytestmark = [
    pytest.mark.needs("display", "root", "vgem", "flips that wait"),
    pytest.mark.timeout(60),
]


@pytest.fixture(params=[True, False], ids=["atomic", "legacy"])
def display(request):
    with kms.Display(screen.path(), atomic=request.param) as display:
        yield display


@pytest.fixture
def images(allocate):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(screen.image(allocate)) for _ in range(3)]


@pytest.fixture
def done(display, images):
    """Have a flip to the second image wait; give a function that ends its wait."""
    assert display.show(images[0]).wait(10)
    with Vgem() as vgem, vgem.import_buffer(images[1].buffers[0]) as gem:
        fence = vgem.attach_fence(gem, Access.WRITE)
        display.show(images[1])
        yield fence.signal


class TestAFlipThatWaits:
    def test_is_waited_for_by_several_shows_of_which_each_has_its_turn(self, display, images, done):
        threads = [Thread(lambda: display.show(images[0])).sleep()]
        threads += [Thread(lambda image=image: display.show(image)) for image in images]
        done()
        assert all(thread.end().wait(10) for thread in threads)
        assert all(thread.outcome.timestamp for thread in threads)

    def test_a_show_that_times_out_holds_up_nobody(self, display, images, done):
        waiting = Thread(lambda: display.show(images[0]))
        late = Thread(lambda: display.show(images[2], timeout=0.02))
        assert isinstance(late.end(), TimeoutError)
        done()
        assert waiting.end().wait(10)

    def test_closing_ends_who_waits_to_show(self, display, images, done, monkeypatch):
        monkeypatch.setattr(_screen, "_LONGEST", 0.02)
        threads = [Thread(lambda: display.show(images[0])).sleep()]
        threads += [Thread(lambda image=image: display.show(image)) for image in images]
        display.close()
        assert all("closed Display" in str(thread.end()) for thread in threads)
        assert all(isinstance(thread.outcome, ValueError) for thread in threads)
        done()
        join_threads()  # one restores the screen
        with kms.Display(display.path) as again:
            assert again.show(images[0]).wait(10)

    def test_closing_amid_its_wait_lets_nobody_flip_any_more(self, display, images, done):
        closing = Thread(display.close).sleep()
        with pytest.raises(ValueError, match="closed Display"):
            display.show(images[0], timeout=10)
        done()
        assert closing.end() is None
        assert display.closed

    def test_two_threads_close(self, display, images, done):
        threads = [Thread(display.close).sleep(), Thread(display.close)]
        done()
        assert [thread.end() for thread in threads] == [None, None]
        with kms.Display(display.path) as again:
            assert again.show(images[0]).wait(10)


class TestAnEventThatNeverComes:
    """As where a driver loses it: a time-out or a close ends every wait."""

    @pytest.fixture
    def display(self):
        with kms.Display(screen.path(), atomic=False) as display:
            yield display

    @pytest.fixture
    def lost(self, display, images, monkeypatch):
        """Give a flip without an event."""
        assert display.show(images[0]).wait(10)
        with monkeypatch.context() as context:
            context.setattr(
                _ioctl, "page_flip", lambda fd, crtc, framebuffer, cookie, taken: taken.append(0)
            )
            flip = display.show(images[1])
        monkeypatch.setattr(_screen, "_LONGEST", 0.02)
        yield flip
        display.close()
        join_threads()

    def test_a_time_out_gets_out(self, display, images, lost):
        assert not lost.wait(0.02)
        with pytest.raises(TimeoutError, match="flip before is still pending"):
            display.show(images[0], timeout=0.02)

    def test_closing_gets_everybody_out(self, display, images, lost):
        threads = [Thread(lambda: display.show(images[0])).sleep(), Thread(lost.wait)]
        display.close()
        assert all(isinstance(thread.end(), ValueError) for thread in threads)


class TestAModeThatWaits:
    """Without atomic commits a mode is set at once, for an image that must be ready."""

    def test_holds_up_no_other_thread(self, images):
        with (
            kms.Display(screen.path(), atomic=False) as display,
            Vgem() as vgem,
            vgem.import_buffer(images[1].buffers[0]) as gem,
        ):
            fence = vgem.attach_fence(gem, Access.WRITE)
            waiting = Thread(lambda: display.show(images[1])).sleep()
            assert display.show(images[0], timeout=5).wait(10)
            fence.signal()
            assert waiting.end().wait(10)
