"""A signal handler that raises at any point of a call on a display: nothing is lost, it goes on."""

import contextlib
import gc
import time

import pytest
from helpers import drm, interrupt, screen
from helpers.fences import join_threads
from helpers.leaks import descriptors

from dmabuf import _ioctl as core_ioctl
from dmabuf._fd import Hold
from dmabuf.devices import kms
from dmabuf.devices.kms import _commit, _ioctl, _pipeline, outputs

pytestmark = [
    pytest.mark.needs("display", "root", "flips that wait"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # what is lost on its way is collected
    pytest.mark.timeout(240),
]
GAPS = (Hold.__exit__,)
ASKING = (
    *(core_ioctl.call, _ioctl.get_properties, _ioctl._property_name, _ioctl.get_connector),
    *(_ioctl.get_plane, outputs._read_connector, outputs._decode_mode, outputs._read_formats),
    *(outputs.format_name, _ioctl.formats_by_modifier, _pipeline._choose_crtc),
    *(_ioctl.mode_info, _ioctl.mode_name, _commit._property_ids),
    *(outputs.read_planes, _pipeline.choose_pipeline),  # a generator that is left is not seen
)
"""What makes nothing, and has hundreds of points."""


@contextlib.contextmanager
def interrupted(moment):
    """Have a handler raise in the block."""
    with contextlib.suppress(interrupt.Interrupted), moment.runs(interrupt.raise_interrupted):
        yield


@pytest.fixture(params=[True, False], ids=["atomic", "legacy"])
def atomic(request):
    return request.param


@pytest.fixture
def display(atomic):
    with kms.Display(screen.path(), atomic=atomic) as display:
        yield display


def left(display):
    """Return what a display has: framebuffers, buffers' handles, descriptors."""
    gc.collect()
    return drm.framebuffers(display), drm.claimed(display), descriptors()


def require_left(display, wanted, moment):
    """Wait until a display has what it is to have.

    The framebuffer of a flip before goes with that flip's state, which a worker of the kernel's
    lets go of a moment after the flip is done.
    """
    end = time.monotonic() + 10
    while left(display) != wanted and time.monotonic() < end:
        time.sleep(0.01)
    assert left(display) == wanted, moment.where


def next_blob(display):
    """Return the id of a new blob: the lowest that is free among all objects of the device."""
    made = []
    _ioctl.create_blob(display.fileno(), b"blob", made)
    _ioctl.destroy_blob(display.fileno(), made[0], [])
    return made[0]


class TestShow:
    def test_a_flip_amid_which_a_handler_raises_is_followed_by_others(self, display, images):
        for image in (*images, *images):
            assert display.show(image).wait(10)
        before = left(display)
        for moment in interrupt.every_point(*GAPS):
            with interrupted(moment):
                display.show(images[0])
            for image in (images[1], images[0]):
                flip = display.show(image, timeout=10)
                assert flip.wait(10), moment.where
            assert flip.timestamp, moment.where
            del flip
            assert display.show(images[1]).wait(10)
            require_left(display, before, moment)

    def test_a_mode_amid_whose_setting_a_handler_raises_is_set_again(self, display, images):
        modes = [mode for mode in display.connector.modes if mode.size == screen.SIZE]
        other = modes[0]._replace(name="again")  # another one, for all that is known here
        assert display.show(images[0], mode=other).wait(10)
        assert display.show(images[1], mode=modes[0]).wait(10)
        before, blob = left(display), next_blob(display)
        for moment in interrupt.every_point(*GAPS):
            with interrupted(moment):
                display.show(images[0], mode=other, timeout=10)
            flip = display.show(images[1], mode=modes[0], timeout=10)
            assert flip.wait(10), moment.where
            del flip
            require_left(display, before, moment)
        assert next_blob(display) < blob + 10  # the screen's state keeps some for a while

    def test_a_new_framebuffer_is_kept_or_given_back(self, display, images, allocate):
        assert display.show(images[0]).wait(10)
        before = left(display)
        for moment in interrupt.every_point(*GAPS, core_ioctl.call):
            with screen.image(allocate) as image, interrupted(moment):
                display.show(image)
            for image in (images[0], images[0]):
                assert display.show(image, timeout=10).wait(10), moment.where
            require_left(display, before, moment)

    def test_removal_of_a_framebuffer_is_done_later(self, display, images, allocate):
        assert display.show(images[0]).wait(10)
        before = left(display)
        for moment in interrupt.every_point(*GAPS):
            with screen.image(allocate) as image:
                assert display.show(image).wait(10)
            assert display.show(images[0]).wait(10)
            with interrupted(moment):
                display._framebuffers.forget(display, but=display._shown)
            assert display.show(images[0], timeout=10).wait(10), moment.where
            require_left(display, before, moment)


class TestFlip:
    @pytest.mark.parametrize(
        "look",
        [
            lambda flip: flip.wait(),
            lambda flip: flip.wait(10),
            lambda flip: flip.done,
            lambda flip: flip.timestamp,
        ],
        ids=["wait", "wait with a time-out", "done", "timestamp"],
    )
    def test_an_event_that_is_read_is_not_lost(self, display, images, look):
        assert display.show(images[0]).wait(10)
        for moment in interrupt.every_point(*GAPS):
            flip = display.show(images[1], timeout=10)
            with interrupted(moment):
                look(flip)
            assert flip.wait(10), moment.where
            assert display._events._expected == {} or display.atomic, moment.where
            display.show(images[0], timeout=10)
            assert flip.timestamp, moment.where


class TestOpeningAndClosing:
    def test_opening_leaves_no_descriptor_and_no_master(self, atomic):
        path = screen.path()
        before = descriptors()
        for moment in interrupt.every_point(*GAPS, *ASKING):
            display = None
            with interrupted(moment):
                display = kms.Display(path, atomic=atomic)
            assert (display is None) == moment.reached, moment.where
            if display is not None:
                display.close()
                del display
            gc.collect()
            assert descriptors() == before, moment.where

    def test_closing_closes(self, atomic, images):
        path = screen.path()
        before = descriptors()
        for moment in interrupt.every_point(*GAPS, *ASKING):
            display = kms.Display(path, atomic=atomic)
            display.show(images[0])
            with interrupted(moment):
                display.close()
            display.close()
            with pytest.raises(ValueError, match="closed Display"):
                display.show(images[0])
            join_threads()  # one restores the screen where the flip was pending
            gc.collect()
            assert descriptors() == before, moment.where
            for image in images:
                assert not image.buffers[0]._watchers, moment.where
