"""A forked child closes, leaves and drops what is of DRM devices: nothing of its parent's goes."""

import contextlib
import gc
from typing import Any

import pytest
from helpers import drm, screen
from helpers.process import in_child
from helpers.threads import Thread

from dmabuf import Access
from dmabuf.devices import kms
from dmabuf.devices.drm import Device, Syncobj, Vgem

pytestmark = pytest.mark.timeout(60)


def leave(thing):
    """Leave the `with` block of something."""
    with thing:
        pass


def ways_out(*names):
    """Return how a child may get rid of what stands under these names of a dictionary."""

    def drop(things):
        for name in names:
            del things[name]
        gc.collect()

    return {
        "close": lambda things: [things[name].close() for name in names],
        "with": lambda things: [leave(things[name]) for name in names],
        "drop": drop,
    }


@pytest.mark.needs("vgem")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("way", ["close", "with", "drop"])
class TestBuffers:
    def test_imported_ones_stay(self, buffer, way):
        things: dict[str, Any] = {"device": Vgem()}
        things["gem"] = things["device"].import_buffer(buffer)
        in_child(lambda: ways_out("gem", "device")[way](things) and None)
        things["device"].attach_fence(things["gem"], Access.WRITE).signal()
        things["gem"].close()
        things["device"].close()

    def test_dumb_ones_stay(self, way):
        things: dict[str, Any] = {"device": Vgem()}
        things["dumb"] = things["device"].create_dumb(64, 16, 32)
        in_child(lambda: ways_out("dumb", "device")[way](things) and None)
        with things["dumb"].export() as buffer:
            assert buffer.size == things["dumb"].size
        things["dumb"].close()
        things["device"].close()

    @pytest.mark.needs("gpu", "syncobj")
    def test_sync_objects_and_timelines_stay(self, way):
        things: dict[str, Any] = {"device": Device(drm.node("timeline"))}
        things["syncobj"] = Syncobj(things["device"])
        things["syncobj"].signal(1)
        in_child(lambda: ways_out("syncobj", "device")[way](things) and None)
        things["syncobj"].signal(2)
        assert things["syncobj"].point == 2
        things["syncobj"].close()
        things["device"].close()


@pytest.mark.needs("vgem")
def test_what_a_child_imports_stays_until_its_parent_closes(device, buffer, gem):
    """The kernel has one handle for both, and counts nothing."""

    def work():
        with device.import_buffer(buffer) as mine:
            assert mine.handle == gem.handle
            device.attach_fence(mine, Access.WRITE).signal()

    in_child(work)
    device.attach_fence(gem, Access.WRITE).signal()


@pytest.mark.needs("display", "root", "vgem", "flips that wait")
class TestDisplays:
    @pytest.fixture(params=[True, False], ids=["atomic", "legacy"])
    def display(self, request):
        with kms.Display(screen.path(), atomic=request.param) as display:
            yield display

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    @pytest.mark.parametrize("way", ["close", "with", "drop"])
    def test_the_picture_its_framebuffers_and_the_master_stay(self, allocate, images, way):
        things: dict[str, Any] = {"display": kms.Display(screen.path())}
        display = things["display"]
        for image in images:
            assert display.show(image).wait(10)
        before, path = drm.framebuffers(display), display.path
        del display, image

        def work():
            for image in images:
                image.buffers[0].close()
            ways_out("display")[way](things)

        in_child(work)
        display = things["display"]
        assert drm.framebuffers(display) == before
        for image in images:
            assert display.show(image).wait(10)
        with pytest.raises(OSError, match="another program is master"):
            kms.Display(path)
        display.close()

    def test_a_child_shows_nothing(self, display, images):
        assert display.show(images[0]).wait(10)
        with pytest.raises(ValueError, match=f"{display.path}.*forked child; close it in both"):
            in_child(lambda: display.show(images[1]))
        assert display.show(images[1]).wait(10)

    def test_a_child_takes_no_event(self, display, images):
        assert display.show(images[0]).wait(10)
        with Vgem() as vgem, vgem.import_buffer(images[1].buffers[0]) as gem:
            fence = vgem.attach_fence(gem, Access.WRITE)
            flip = display.show(images[1])
            waiting = Thread(flip.wait).sleep()

            def look():
                fence.signal()
                flip.fence.wait() if display.atomic else None
                seen = flip.timestamp, flip.sequence
                with contextlib.suppress(ValueError):
                    flip.wait(10)
                    assert display.atomic
                display.close()
                return seen

            assert in_child(look) == (None, None)
            assert waiting.end() is True
            assert flip.timestamp
        assert display.show(images[0]).wait(10)
