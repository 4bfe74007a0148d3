"""Fences from the GPU and for it, and its contexts in threads, children and signal handlers."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Iterator

import pytest
from helpers import gl, interrupt
from helpers.leaks import descriptors, kernel_buffers

import dmabuf
from dmabuf import Access
from dmabuf._fd import Hold
from dmabuf.image import Image
from dmabuf.interop import egl
from dmabuf.interop.egl import _egl

pytestmark = [
    pytest.mark.needs("egl", "export"),
    pytest.mark.timeout(100),
    pytest.mark.usefixtures("gl_library"),
]


@pytest.fixture
def texture(context) -> Iterator[int]:
    texture = gl.new_texture(16, 16)
    yield texture
    gl.delete_texture(texture)


@pytest.fixture
def image(buffer) -> Image:
    return Image(buffer, "XRGB8888", 16, 16)


class TestFence:
    def test_of_the_gpus_commands_signals_after_them(self, texture, buffer):
        gl.clear(texture, 16, 16, (1, 1, 1, 1))
        with egl.fence() as fence:
            assert fence.wait(timeout=60)
            assert fence.error is None
            buffer.import_fence(fence, Access.WRITE)
            assert buffer.wait(Access.READ, timeout=60)

    def test_holds_the_commands_that_follow(self, texture, pending):
        done = []

        def signal():
            time.sleep(0.3)  # so that commands that don't wait are over by then
            done.append("signalled")
            pending.signal()

        thread = threading.Thread(target=signal)
        thread.start()
        egl.wait(pending.fence)
        gl.clear(texture, 16, 16, (1, 1, 1, 1))
        gl.gl().glFinish()
        done.append("drawn")
        thread.join()
        assert done == ["signalled", "drawn"]
        assert pending.fence.signaled  # it stays the caller's

    @pytest.mark.usefixtures("context")
    def test_what_is_none_is_refused(self, buffer):
        with pytest.raises(TypeError, match=r"fence must be a dmabuf\.Fence, not Buffer"):
            egl.wait(buffer)
        fence = buffer.export_fence(Access.READ)
        fence.close()
        with pytest.raises(ValueError, match="closed Fence"):
            egl.wait(fence)


class TestContext:
    def test_what_was_current_before_is_so_again(self):
        assert _egl.current()[1] == 0
        with egl.Context() as outer:
            with egl.Context() as inner:
                assert _egl.current()[1] == inner.handle
            assert inner.closed
            assert _egl.current()[1] == outer.handle
        assert _egl.current()[1] == 0

    def test_closing_it_in_its_block_leaves_none_current(self):
        with egl.Context() as context:
            context.close()
            assert _egl.current()[1] == 0
        context.close()
        for use in (context.make_current, context.__enter__, lambda: context.handle):
            with pytest.raises(ValueError, match="on a closed Context"):
                use()

    def test_a_version_that_the_driver_has_not_is_refused(self):
        with pytest.raises(OSError, match="context of this version: the driver says EGL_BAD_"):
            egl.Context(version=(9, 0))

    def test_is_current_in_one_thread_at_a_time(self, context):
        found: list[object] = []

        def take():
            try:
                context.make_current()
                found.append(_egl.current()[1])
                context.release()
            except PermissionError as error:
                found.append(error)

        def in_another_thread():
            thread = threading.Thread(target=take)
            thread.start()
            thread.join()

        in_another_thread()
        assert "can't be made current in this thread: the driver says EGL_BAD_ACC" in str(found[0])
        context.release()
        in_another_thread()
        assert found[1] == context.handle

    def test_an_image_is_closed_in_any_thread(self, context, allocate):
        before = kernel_buffers()
        with Image.allocate("XRGB8888", 16, 16, allocate=allocate) as image:
            imported = egl.import_image(image)
        thread = threading.Thread(target=imported.close)
        thread.start()
        thread.join()
        assert kernel_buffers() == before
        assert context.handle

    def test_a_child_leaves_all_to_its_parent(self, context, image):
        fence = None
        with egl.import_image(image) as imported:
            before = gl.look(imported)
            pid = os.fork()
            if not pid:
                status = 1
                with contextlib.suppress(BaseException):
                    imported.close()
                    context.close()
                    status = 0
                os._exit(status)
            assert os.waitpid(pid, 0)[1] == 0
            assert (gl.look(imported) == before).all()
            with egl.fence() as fence:
                assert fence.wait(timeout=60)


class TestAHandlerThatRaises:
    """At each point of the package's code: nothing is lost, and the next call goes on."""

    pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

    def at_each_point(self, make, close=lambda made: made.close()):
        close(make())
        gc.collect()
        before = descriptors(), kernel_buffers()
        for moment in interrupt.every_point(Hold.__exit__):
            made = None
            with (
                contextlib.suppress(interrupt.Interrupted),
                moment.runs(interrupt.raise_interrupted),
            ):
                made = make()
            if made is not None:
                close(made)
            del made
            gc.collect()
            assert (descriptors(), kernel_buffers()) == before, moment.where

    def test_importing(self, image):
        self.at_each_point(lambda: egl.import_image(image))

    @pytest.mark.usefixtures("context")
    def test_closing(self, allocate):
        """What a handler has kept from closing is closed by the next call, or collected."""

        def make_and_close():
            with Image.allocate("R8", 64, 64, allocate=allocate) as image:
                imported = egl.import_image(image)
            try:
                imported.texture()
            finally:
                imported.close()

        self.at_each_point(make_and_close, close=lambda made: None)

    @pytest.mark.usefixtures("context")
    def test_fences(self):
        self.at_each_point(egl.fence)

    @pytest.mark.usefixtures("context")
    def test_waiting(self, pending):
        pending.signal()
        self.at_each_point(lambda: egl.wait(pending.fence), close=lambda made: None)

    def test_exporting(self, texture):
        self.at_each_point(lambda: egl.export_texture(texture))

    def test_contexts(self):
        def work():
            with egl.Context():
                pass

        self.at_each_point(work, close=lambda made: None)
        assert _egl.current()[1] == 0


def test_no_descriptor_is_left_where_none_is_to_be_had(context, pending):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            egl.wait(pending.fence)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    pending.signal()
    assert isinstance(pending.fence, dmabuf.Fence)
    assert context.handle
