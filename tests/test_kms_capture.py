"""What a display shows, captured by its writeback connector: from a buffer, to the screen, back."""

import contextlib
import gc

import pytest
from helpers import drm, interrupt, screen
from helpers.leaks import descriptors

import dmabuf
from dmabuf import Access
from dmabuf._fd import Hold
from dmabuf.devices import kms
from dmabuf.devices.drm import Vgem
from dmabuf.devices.kms import _ioctl

pytestmark = [pytest.mark.needs("vkms", "root", "vgem", "heap"), pytest.mark.timeout(60)]


@pytest.fixture
def vkms():
    """Give the display without hardware, which has a writeback connector."""
    with kms.Display(drm.find("vkms")) as display:
        yield display


@pytest.fixture
def target(allocate):
    """Give an image to capture into."""
    with screen.image(allocate) as image:
        screen.paint(image, 99)
        yield image


class TestCapture:
    def test_has_the_pixels_of_what_is_shown(self, vkms, images, target):
        for seed, image in enumerate((*images, *images)):
            painted = screen.paint(image, seed)
            vkms.show(image, timeout=10)
            assert (screen.captured(vkms, target) == painted).all()

    def test_is_again_what_is_shown_when_it_is_drawn_into(self, vkms, images, target):
        assert vkms.show(images[0]).wait(10)
        for seed in (5, 6):
            painted = screen.paint(images[0], seed)
            assert (screen.captured(vkms, target) == painted).all()

    def test_gives_a_fence_that_others_wait_for(self, vkms, images, target):
        painted = screen.paint(images[0], 3)
        vkms.show(images[0])
        with vkms.capture(target) as fence:
            target.buffers[0].import_fence(fence, Access.WRITE)
        with target.read() as (pixels,):  # waits
            assert (pixels[..., 2::-1] == painted).all()

    def test_comes_after_the_capture_before(self, vkms, images, target, allocate):
        """vkms would forget the first one."""
        painted = screen.paint(images[0], 9)
        vkms.show(images[0])
        with screen.image(allocate) as other:
            for _ in range(5):
                with vkms.capture(target) as one, vkms.capture(other, timeout=10) as two:
                    assert one.wait(0)
                    assert two.wait(10)
            assert (target.to_rgb() == painted).all()
            assert (other.to_rgb() == painted).all()

    def test_comes_after_the_flip_before(self, vkms, images, target):
        assert vkms.show(images[0]).wait(10)
        painted = screen.paint(images[1], 8)
        with Vgem() as vgem, vgem.import_buffer(images[1].buffers[0]) as gem:
            pending = vgem.attach_fence(gem, Access.WRITE)
            vkms.show(images[1])
            with pytest.raises(TimeoutError, match=r"the flip before is still pending after 0\.05"):
                vkms.capture(target, timeout=0.05)
            pending.signal()
            assert (screen.captured(vkms, target) == painted).all()

    def test_leaves_the_monitor_to_what_is_shown_next(self, vkms, images, target):
        vkms.show(images[0])
        screen.captured(vkms, target)
        painted = screen.paint(images[1], 12)
        assert vkms.show(images[1], timeout=10).wait(10)
        crtc = vkms._pipeline.crtc
        with Hold(vkms) as fd:
            monitor = _ioctl.get_properties(fd, vkms.connector.number)
        assert monitor["CRTC_ID"][1] == crtc
        assert (screen.captured(vkms, target) == painted).all()

    def test_leaves_the_connectors_as_they_were(self, vkms, images, target):
        before = vkms.connectors()
        vkms.show(images[0])
        screen.captured(vkms, target)
        assert vkms.connectors() == before
        assert vkms.show(images[1], timeout=10).wait(10)

    @pytest.mark.filterwarnings("ignore:unclosed Fence:ResourceWarning")  # lost on its way
    def test_amid_which_a_handler_raises_is_followed_by_others(self, vkms, images, target):
        painted = screen.paint(images[0], 4)
        vkms.show(images[0])
        for _ in range(2):  # the second reads the events of all before
            screen.captured(vkms, target)
        gc.collect()
        before = drm.framebuffers(vkms), drm.claimed(vkms), descriptors()
        for moment in interrupt.every_point(Hold.__exit__):
            with (
                contextlib.suppress(interrupt.Interrupted),
                moment.runs(interrupt.raise_interrupted),
            ):
                vkms.capture(target, timeout=10).close()
            assert (screen.captured(vkms, target) == painted).all(), moment.where
            gc.collect()
            now = drm.framebuffers(vkms), drm.claimed(vkms), descriptors()
            assert now == before, moment.where


class TestRefusals:
    def test_before_anything_is_shown(self, vkms, target):
        with pytest.raises(dmabuf.RefusedError, match="shows nothing that could be captured"):
            vkms.capture(target)

    def test_an_image_of_another_size_or_format(self, vkms, images, allocate, target):
        vkms.show(images[0])
        with screen.image(allocate, size=(320, 240)) as small:
            words = "320x240 pixels can't take the picture of .*, which has 640x480"
            with pytest.raises(dmabuf.RefusedError, match=words):
                vkms.capture(small)
        other = dmabuf.Image(target.buffers, "NV12", *screen.SIZE)
        with pytest.raises(dmabuf.RefusedError, match=r"writes no NV12 back, only .*XRGB8888"):
            vkms.capture(other)

    def test_what_is_no_image_or_closed(self, vkms, images, target):
        with pytest.raises(TypeError, match=r"image must be a dmabuf\.Image, not Buffer"):
            vkms.capture(target.buffers[0])
        vkms.show(images[0])
        vkms.close()
        with pytest.raises(ValueError, match="on a closed Display"):
            vkms.capture(target)

    def test_a_display_that_is_not_atomic(self, images, target):
        with kms.Display(drm.find("vkms"), atomic=False) as display:
            display.show(images[0])
            with pytest.raises(dmabuf.UnsupportedError, match="or was opened with atomic=False"):
                display.capture(target)

    def test_what_the_driver_refuses_leaves_the_display_as_it_was(
        self, vkms, images, target, monkeypatch
    ):
        painted = screen.paint(images[0], 4)
        vkms.show(images[0])
        screen.captured(vkms, target)
        flags = _ioctl.DRM_MODE_ATOMIC_NONBLOCK
        monkeypatch.setattr(_ioctl, "DRM_MODE_ATOMIC_NONBLOCK", 1 << 30)
        with pytest.raises(OSError, match=r"can't write its picture into <dmabuf\.Image"):
            vkms.capture(target)
        monkeypatch.setattr(_ioctl, "DRM_MODE_ATOMIC_NONBLOCK", flags)
        assert (screen.captured(vkms, target) == painted).all()


@pytest.mark.needs("display")
def test_a_display_without_a_writeback_connector_says_so(display, images, target):
    assert display.show(images[0]).wait(10)
    with pytest.raises(dmabuf.UnsupportedError, match="it has no writeback connector"):
        display.capture(target)
    assert display.show(images[1]).wait(10)
