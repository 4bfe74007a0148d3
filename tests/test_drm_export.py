"""Buffers that a DRM device makes, and exports: created, written, imported back, destroyed."""

import contextlib
import errno
import gc
import os
import threading

import pytest
from helpers import drm
from helpers.drm import attached, claimed
from helpers.process import ABSURD, descriptors_left, in_child

import dmabuf
from dmabuf import Access
from dmabuf.devices.drm import Device, DumbBuffer, Vgem, inspect
from dmabuf.devices.drm._node import refusal

READ, WRITE, READ_WRITE = Access.READ, Access.WRITE, Access.READ_WRITE
CLOSED = "operation on a closed"

pytestmark = pytest.mark.needs("vgem")


@pytest.fixture
def dumb(device):
    """Give a buffer that vgem made."""
    with device.create_dumb(100, 10, 32) as dumb:
        yield dumb


def render_node(device):
    """Return the render node of a device."""
    name = os.path.basename(device.path)
    siblings = os.listdir(f"/sys/class/drm/{name}/device/drm")
    return f"/dev/dri/{next(name for name in siblings if name.startswith('renderD'))}"


class TestCreate:
    def test_has_its_shape_and_whole_pages(self, device, dumb):
        assert isinstance(dumb, DumbBuffer)
        assert (dumb.width, dumb.height, dumb.bpp) == (100, 10, 32)
        assert dumb.pitch >= 400
        assert dumb.size % 4096 == 0
        assert dumb.size >= dumb.pitch * dumb.height
        assert dumb.device is device
        for part in ("DumbBuffer", f"handle={dumb.handle}", f"size={dumb.size}", device.path):
            assert part in repr(dumb)

    def test_each_is_another(self, device, dumb):
        with device.create_dumb(100, 10, 32) as other:
            assert other.handle != dumb.handle

    @pytest.mark.needs("bufinfo")
    def test_its_memory_starts_as_zero_and_is_kept(self, dumb):
        with dumb.export() as buffer:
            with buffer.read() as memory:
                assert not any(memory)
            with buffer.write() as memory:
                memory[:4] = b"dumb"
        with dumb.export() as buffer, buffer.read() as memory:
            assert memory[:4] == b"dumb"

    @pytest.mark.parametrize("position", range(3))
    @pytest.mark.parametrize("wrong", [0, -1, *ABSURD[2:]])
    def test_a_side_that_can_not_be_is_refused(self, device, position, wrong):
        shape = [64, 64, 32]
        shape[position] = wrong
        with pytest.raises(ValueError, match=r"(width|height|bpp) must be from 1 to 4294967295"):
            device.create_dumb(*shape)

    @pytest.mark.parametrize("wrong", [None, 1.5, "64", True])
    def test_what_is_no_number_is_refused(self, device, wrong):
        with pytest.raises(TypeError, match=f"width must be an int, not {type(wrong).__name__}"):
            device.create_dumb(wrong, 64, 32)

    def test_more_memory_than_there_is_is_refused(self, device):
        with pytest.raises(dmabuf.AllocationError, match="available") as caught:
            device.create_dumb(1 << 20, 1 << 20, 32)
        assert caught.value.errno == errno.ENOMEM

    def test_what_the_kernel_refuses_is_told(self, device):
        with pytest.raises(OSError, match="can't create a dumb buffer of 1x1 pixels") as caught:
            device.create_dumb(1, 1, 4294967295)
        assert caught.value.errno == errno.EINVAL
        assert device.path in str(caught.value)

    def test_a_render_node_makes_none(self, device):
        with Vgem(render_node(device)) as render:
            assert not render.capabilities().dumb
            with pytest.raises(PermissionError, match="open the primary node") as caught:
                render.create_dumb(64, 64, 32)
            assert caught.value.errno == errno.EACCES

    @pytest.mark.parametrize(
        "use",
        [
            lambda dumb: dumb.handle,
            lambda dumb: dumb.export(),
            lambda dumb: dumb.map(),
            lambda dumb: dumb.__enter__(),
        ],
    )
    def test_a_closed_one_can_not_be_used(self, dumb, use):
        for _ in range(2):
            dumb.close()
        with pytest.raises(ValueError, match=f"{CLOSED} DumbBuffer"):
            use(dumb)
        assert "[closed]" in repr(dumb)
        assert (dumb.width, dumb.size > 0) == (100, True)

    @pytest.mark.parametrize(
        "use",
        [
            lambda device, dumb: device.create_dumb(1, 1, 8),
            lambda device, dumb: device.capabilities(),
            lambda device, dumb: dumb.export(),
            lambda device, dumb: dumb.map(),
        ],
    )
    def test_a_closed_device_can_not_be_used(self, use):
        with Vgem() as device, device.create_dumb(64, 64, 32) as dumb:
            device.close()
            with pytest.raises(ValueError, match=f"{CLOSED} Vgem"):
                use(device, dumb)

    def test_a_collected_one_warns_and_is_destroyed(self, device):
        dumb = device.create_dumb(64, 64, 32)
        with pytest.warns(ResourceWarning, match=f"unclosed DumbBuffer with handle {dumb.handle}"):
            del dumb
        assert claimed(device) == []


class TestExport:
    def test_is_a_buffer_of_the_same_size(self, dumb):
        with dumb.export() as buffer:
            assert buffer.size == dumb.size
            assert not os.get_inheritable(buffer.fileno())
            with dumb.export() as again:
                assert again == buffer

    def test_the_buffer_outlives_its_device(self):
        with Vgem() as device, device.create_dumb(64, 64, 32) as dumb:
            buffer = dumb.export()
        with buffer:
            with buffer.write() as memory:
                memory[:4] = b"gone"
            with buffer.read() as memory:
                assert memory[:4] == b"gone"

    def test_imported_back_it_has_the_same_handle_until_the_last_owner(self, device):
        dumb = device.create_dumb(64, 64, 32)
        handle = dumb.handle
        with dumb.export() as buffer:
            again = device.import_buffer(buffer)
            assert again.handle == handle
            assert claimed(device) == [handle]
            dumb.close()
            with again.export() as same:
                assert same == buffer
            again.close()
            assert claimed(device) == []
            with device.import_buffer(buffer) as third, third.export() as same:
                assert same == buffer

    def test_an_imported_buffer_is_exported_as_it_came(self, buffer, device, gem):
        assert gem.size == buffer.size
        with gem.export() as same:
            assert same == buffer

    def test_another_device_gets_the_memory(self, dumb):
        with Vgem() as other, dumb.export() as buffer, other.import_buffer(buffer) as theirs:
            dumb.map()[:5] = b"other"
            assert theirs.map()[:5] == b"other"

    def test_a_read_only_export_can_not_be_written(self, dumb):
        with dumb.export(READ) as buffer:
            assert buffer.memory.readonly
            with pytest.raises(PermissionError, match="read-only"), buffer.write():
                pass

    @pytest.mark.parametrize(("first", "second"), [(READ, READ_WRITE), (READ_WRITE, READ)])
    def test_the_first_export_fixes_the_access(self, dumb, first, second):
        dumb.export(first).close()
        with pytest.raises(PermissionError, match=f"first .* access {first.name},") as caught:
            dumb.export(second)
        assert caught.value.errno == errno.EACCES
        dumb.export(first).close()

    def test_what_is_no_access_is_refused(self, dumb):
        for wrong, error in ((WRITE, ValueError), (0, ValueError), ("r", TypeError)):
            with pytest.raises(error, match="access"):
                dumb.export(wrong)

    def test_without_a_descriptor_left_it_loses_nothing(self, dumb):
        with descriptors_left(0), pytest.raises(OSError, match="can't export") as caught:
            dumb.export()
        assert caught.value.errno == errno.EMFILE

    def test_the_map_outlives_everything(self):
        with Vgem() as device, device.create_dumb(64, 64, 32) as dumb:
            memory = dumb.map()
            memory[:4] = b"kept"
        gc.collect()
        assert memory[:4] == b"kept"
        memory[-1] = 1

    def test_threads_export_and_release(self, device, dumb):
        errors = []

        def work() -> None:
            try:
                for _ in range(20):
                    with dumb.export() as buffer, device.import_buffer(buffer) as gem:
                        assert gem.handle == dumb.handle
                    with device.create_dumb(8, 8, 32) as own, own.export() as buffer:
                        assert buffer.size == own.size
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert claimed(device) == [dumb.handle]

    def test_a_child_gives_nothing_of_its_parent_back(self, device, dumb):
        in_child(dumb.close)
        dumb.export().close()


@pytest.mark.needs("display", "own machine")
class TestUnplugged:
    def test_all_say_that_it_is_gone_and_nothing_is_left(self, allocate):
        with contextlib.ExitStack() as objects:
            enter = objects.enter_context
            display = enter(Device(drm.pluggable()))
            dumb = enter(display.create_dumb(64, 64, 32))
            exported, imported = enter(dumb.export()), enter(allocate(4096))
            gem = enter(display.import_buffer(imported))
            memory = dumb.map()
            with drm.unplugged(display.path):
                for use in (
                    display.capabilities,
                    dumb.export,
                    lambda: display.create_dumb(64, 64, 32),
                    lambda: display.import_buffer(imported),
                ):
                    with pytest.raises(OSError, match="No such device") as caught:
                        use()
                    assert caught.value.errno == errno.ENODEV
                gem.close()
                dumb.close()
                memory[:4] = b"kept"
                assert exported.memory[:4] == b"kept"
                display.close()
                assert attached(imported) == []
                del memory


class TestCapabilities:
    def test_of_vgem(self, device):
        can = device.capabilities()
        assert (can.imports, can.exports, can.dumb) == (True, True, True)
        assert can == inspect(device.path)

    def test_what_a_driver_lacks_is_an_unsupported_error(self, device):
        """Only old drivers make no dumb buffers, or export none: the answer is put together."""
        error = refusal(device, OSError(errno.ENOSYS, "Function not implemented"), "can't")
        assert isinstance(error, dmabuf.UnsupportedError)
        assert "vgem" in str(error)

    @pytest.mark.needs("second DRM driver")
    def test_of_every_device_are_told(self):
        for name in os.listdir("/dev/dri"):
            if name.startswith("card"):
                with Device(f"/dev/dri/{name}") as device:
                    if device.capabilities().dumb:
                        device.create_dumb(64, 64, 32).close()
