"""A signal handler that raises at any point of a call on a DRM device: nothing is lost there."""

import contextlib
import gc

import pytest
from helpers import drm, interrupt
from helpers.leaks import descriptors

from dmabuf import Access
from dmabuf._fd import Hold
from dmabuf.devices.drm import Device, Syncobj, Vgem, sibling

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # what is lost on its way is collected
    pytest.mark.timeout(120),
]


def at_each_point(make, unchanged, *passed_over, close=lambda made: made.close()):
    """Interrupt a function at each point, close what it gave, and look at what is left."""
    gc.collect()
    before = unchanged()
    for moment in interrupt.every_point(Hold.__exit__, *passed_over):
        made = moment.interrupts(make)
        assert (made is None) == moment.reached, moment.where
        if made is not None:
            close(made)
        gc.collect()
        assert unchanged() == before, moment.where


@pytest.fixture
def free(device, allocate):
    """Give a function that returns what the next buffer's handle would be, and the descriptors.

    The kernel gives the lowest number that is free: drm_gem_handle_create_tail in drm_gem.c.
    """

    def look():
        with allocate(4096) as another, device.import_buffer(another) as gem:
            return gem.handle, descriptors()

    return look


@pytest.mark.needs("vgem")
class TestBuffers:
    def test_opening(self):
        at_each_point(Vgem, descriptors, sibling)  # what is raised in its generator is not seen

    def test_import(self, device, buffer, free):
        at_each_point(lambda: device.import_buffer(buffer), free)

    def test_import_of_what_another_has(self, device, buffer, gem, free):
        """The kernel gives the same handle, and the other must keep it."""
        at_each_point(lambda: device.import_buffer(buffer), free)
        device.attach_fence(gem, Access.WRITE).signal()

    def test_dumb_buffers(self, device, free):
        at_each_point(lambda: device.create_dumb(64, 16, 32), free)

    def test_export(self, device, gem, free):
        at_each_point(gem.export, free)
        at_each_point(gem.map, free, close=lambda memory: memory.release())

    @pytest.mark.parametrize("shared", [False, True])
    def test_giving_back(self, device, buffer, free, shared):
        with contextlib.ExitStack() as stack:
            if shared:
                gem = stack.enter_context(device.import_buffer(buffer))
            before = free()
            for moment in interrupt.every_point(Hold.__exit__):
                another = device.import_buffer(buffer)
                with (
                    contextlib.suppress(interrupt.Interrupted),
                    moment.runs(interrupt.raise_interrupted),
                ):
                    another.close()
                another.close()
                assert free() == before, moment.where
            if shared:
                device.attach_fence(gem, Access.WRITE).signal()

    def test_collecting(self, device, buffer, other, free):
        before = free()
        for moment in interrupt.every_point(finalizers=True):
            made = [device.import_buffer(buffer)]
            with moment.runs(interrupt.raise_interrupted):
                made.clear()
            device.import_buffer(other).close()  # gives back what was left
            assert free() == before, moment.where

    @pytest.mark.needs("heap", "bufinfo")
    def test_the_kernel_sees_no_attachment_afterwards(self, device, buffer):
        at_each_point(lambda: device.import_buffer(buffer), lambda: drm.attached(buffer))

    def test_a_handler_may_import_and_give_back(self, device, buffer, other, free):
        before = free()
        for moment in interrupt.every_point(Hold.__exit__):
            with moment.runs(lambda: device.import_buffer(buffer).close()):
                gem = device.import_buffer(buffer)
            device.attach_fence(gem, Access.WRITE).signal()
            with moment.runs(lambda: device.import_buffer(other).close()):
                gem.close()
            assert free() == before, moment.where

    def test_a_fence_that_is_lost_is_signalled(self, device, buffer, gem):
        at_each_point(
            lambda: device.attach_fence(gem, Access.WRITE),
            lambda: buffer.is_idle(Access.WRITE),
            close=lambda fence: fence.signal(),
        )


@pytest.mark.needs("gpu", "syncobj")
class TestSyncObjects:
    @pytest.fixture
    def gpu(self):
        with Device(drm.node("timeline")) as gpu:
            yield gpu

    @pytest.fixture
    def syncobj(self, gpu):
        with Syncobj(gpu) as syncobj:
            yield syncobj

    @pytest.fixture
    def free(self, gpu):
        """Give a function that returns what the next handle would be, and the descriptors."""

        def look():
            with Syncobj(gpu) as another:
                return another.handle, descriptors()

        return look

    def test_creation(self, gpu, free):
        at_each_point(lambda: Syncobj(gpu), free)

    def test_giving_back(self, gpu, free):
        before = free()
        for moment in interrupt.every_point(Hold.__exit__):
            syncobj = Syncobj(gpu)
            with (
                contextlib.suppress(interrupt.Interrupted),
                moment.runs(interrupt.raise_interrupted),
            ):
                syncobj.close()
            syncobj.close()
            assert free() == before, moment.where

    def test_export_and_import(self, gpu, syncobj, free):
        at_each_point(syncobj.export, free)
        with syncobj.export() as file:
            at_each_point(lambda: Syncobj.from_fd(gpu, file), free)

    def test_events(self, syncobj, free):
        at_each_point(lambda: syncobj.event(1), free)

    def test_fences(self, syncobj, free):
        syncobj.signal(1)
        at_each_point(lambda: syncobj.export_fence(1), free)
        with syncobj.export_fence(1) as fence:

            def put():
                syncobj.reset()
                syncobj.import_fence(fence, 1)
                return fence.dup()

            at_each_point(put, free)
        assert syncobj.wait(1, 0)
