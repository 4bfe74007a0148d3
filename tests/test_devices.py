"""Discovery: heaps, udmabuf, DRM and V4L2 devices, what they can do, and who may use them."""

import errno
import os
import pickle
import stat
import subprocess
import sys
from typing import Any

import pytest
from helpers import drm
from helpers.process import NOBODY, in_child, without_nodes

import dmabuf
from dmabuf import devices
from dmabuf.devices import DrmDevice, HeapDevice, UdmabufDevice, V4l2Device, v4l2
from dmabuf.devices import drm as drm_devices
from dmabuf.devices.discovery import describe
from dmabuf.devices.drm import Device, DrmInfo, inspect

KINDS: dict[str, Any] = {
    "heap": HeapDevice,
    "udmabuf": UdmabufDevice,
    "drm": DrmDevice,
    "v4l2": V4l2Device,
}


def without_libudev(function):
    """Return what a function returns in a child that has no libudev."""

    def deprived():
        sys.modules["pyudev"] = None
        return function()

    return in_child(deprived)


@pytest.fixture(scope="module")
def found():
    """Give what is found; looking is slow in an emulated machine."""
    return devices.find()


@pytest.fixture(scope="module")
def nobody(found):
    """Give what nobody finds."""
    return in_child(devices.find, user=NOBODY)


def one(found, path):
    """Return the device with a node."""
    (device,) = [device for device in found if device.path == path]
    return device


class TestFind:
    def test_each_is_of_its_kind_and_has_a_node(self, found):
        for device in found:
            assert isinstance(device, KINDS[device.kind])
            assert device.path == device.nodes[0].path
            for node in device.nodes:
                assert stat.S_ISCHR(os.stat(node.path).st_mode)
                assert node.permissions.startswith("crw")
        kinds = [device.kind for device in found]
        assert kinds == sorted(kinds, key=list(KINDS).index)

    @pytest.mark.needs("heap")
    def test_heaps_are_those_of_the_machine(self, found):
        heaps = [heap for heap in found if heap.kind == "heap"]
        assert [heap.info for heap in heaps] == dmabuf.heaps()
        assert all((heap.name, heap.path) == tuple(heap.info) for heap in heaps)

    @pytest.mark.needs("udmabuf", "root")
    def test_udmabuf_has_its_limits(self, found):
        assert one(found, "/dev/udmabuf").info == dmabuf.udmabuf.limits()

    @pytest.mark.needs("root")
    def test_root_may_use_all(self, found):
        for device in found:
            assert (device.usable, device.error) == (True, None)
            assert all(node.usable for node in device.nodes)

    def test_what_they_say_is_what_asking_them_alone_gives(self, found):
        ask = {"drm": inspect, "v4l2": v4l2.inspect}
        for device in found:
            if device.kind in ask and device.usable:
                assert device.info == ask[device.kind](device.path)

    def test_what_is_found_is_a_record_that_can_be_kept(self, found):
        again = pickle.loads(pickle.dumps(found))
        assert again == found
        assert [device.kind for device in again] == [device.kind for device in found]
        for device in found:
            with pytest.raises(AttributeError):
                device.nodes = ()

    def test_without_libudev_it_finds_the_same(self, found):
        assert without_libudev(devices.find) == found

    def test_it_comes_with_the_package_and_imports_nothing_heavy(self):
        heavy = "{'asyncio', 'numpy', 'pyudev', 'rich'} & set(sys.modules)"
        code = f"import sys, dmabuf; dmabuf.devices.find; print({heavy})"
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert answer.stdout == "set()\n", answer.stderr


class TestDrm:
    @pytest.mark.needs("vgem")
    def test_vgem_imports_exports_and_makes_buffers(self, found, device):
        vgem = one(found, device.path)
        assert vgem.driver == "vgem"
        assert (vgem.info.imports, vgem.info.exports, vgem.info.dumb) == (True, True, True)
        assert (vgem.info.display, vgem.info.syncobj, vgem.info.timeline) == (False, False, False)
        assert vgem.render is vgem.nodes[1]
        assert vgem.render.path.startswith("/dev/dri/renderD")
        assert vgem.render.permissions.startswith("crw")

    @pytest.mark.needs("display")
    def test_a_display_is_one(self, found):
        displays = [device for device in found if device.kind == "drm" and device.info.display]
        assert any(device.info.imports and device.info.dumb for device in displays)

    @pytest.mark.needs("syncobj")
    def test_sync_objects_are_told(self, found):
        device = one(found, drm.node("timeline"))
        assert (device.info.syncobj, device.info.timeline) == (True, True)

    @pytest.mark.needs("syncobj", "heap", "own machine")
    def test_import_is_tried_and_not_believed(self, found):
        """The virtio-gpu of our kernels says that it imports, and takes its own buffers alone."""
        path = drm.node("timeline")
        with Device(path) as device:
            assert device.capabilities().imports
        assert one(found, path).info.imports is False

    def test_inspect_says_what_cannot_be_opened(self, tmp_path):
        for path, number in (("/dev/dri/card987", errno.ENOENT), ("/dev/null", errno.ENOTTY)):
            with pytest.raises(OSError, match=path) as caught:
                inspect(path)
            assert caught.value.errno == number

    @pytest.mark.needs("vgem")
    def test_a_render_node_makes_no_dumb_buffers(self, device):
        render = drm_devices.sibling(device.path, "renderD")
        info = inspect(render)
        assert info == DrmInfo(render, "vgem", True, True, False, False, False, False)
        assert drm_devices.sibling(render, "card") == device.path

    def test_what_is_no_device_has_no_siblings_and_no_connectors(self):
        assert drm_devices.sibling("/dev/null", "card") is None
        assert not drm_devices.has_connectors("/dev/null")


@pytest.mark.needs("vivid")
class TestV4l2:
    def test_vivid_captures_and_outputs(self, found):
        videos = [device for device in found if device.kind == "v4l2"]
        vivid = [device for device in videos if device.driver == "vivid"]
        for queue in ("capture", "output"):
            video = [device for device in vivid if getattr(device.info, queue)]
            assert video
            for device in video:
                assert (device.name, device.info.card) == ("vivid", "vivid")
                assert not device.info.m2m
                assert device.info.bus.startswith("platform:vivid-")
                assert {kind.name for kind in device.info.memory} >= {"MMAP", "DMABUF"}


@pytest.mark.needs("root", "vgem", "own machine")
class TestPermissions:
    def test_without_any_all_are_listed_with_the_reason(self, found, nobody):
        assert [device.path for device in nobody] == [device.path for device in found]
        for device in nobody:
            assert not device.usable
            assert not any(node.usable for node in device.nodes)
            for part in ("Permission denied", device.path, device.permissions, "join the group"):
                assert part in device.error
        unknown = next(device for device in nobody if device.kind == "drm").info
        asked = (unknown.imports, unknown.exports, unknown.dumb, unknown.syncobj, unknown.timeline)
        assert asked == (None,) * 5

    @pytest.mark.needs("vivid")
    def test_what_sysfs_knows_is_told(self, nobody):
        videos = [device for device in nobody if device.kind == "v4l2"]
        video = next(device for device in videos if device.driver == "vivid")
        assert video.name.startswith("vivid-")
        assert video.info is None

    @pytest.mark.needs("display")
    def test_connectors_are_seen_without_a_permission(self, nobody):
        assert any(device.info.display for device in nobody if device.kind == "drm")

    def test_a_render_node_alone_is_enough(self, device):
        render = drm_devices.sibling(device.path, "renderD")
        mode = os.stat(render).st_mode
        os.chmod(render, 0o666)
        try:
            found = in_child(lambda: describe("drm", device.path), user=NOBODY)
        finally:
            os.chmod(render, mode)
        assert found.usable
        assert "Permission denied" in found.error
        assert [node.usable for node in found.nodes] == [False, True]
        assert (found.driver, found.info.exports, found.info.dumb) == ("vgem", True, None)
        assert found.info.path == device.path

    def test_a_node_that_is_not_here_is_listed(self, device):
        found = without_nodes("/dev/dri", lambda: one(devices.find(), device.path))
        assert (found.permissions, found.usable) == (None, False)
        assert "pass it into the container" in found.error

    @pytest.mark.needs("heap")
    def test_a_folder_that_may_not_be_searched(self, found):
        mode = os.stat("/dev/dma_heap").st_mode
        os.chmod("/dev/dma_heap", 0o700)
        try:
            heap = in_child(devices.find, user=NOBODY)[0]
        finally:
            os.chmod("/dev/dma_heap", mode)
        assert (heap.path, heap.permissions) == (found[0].path, None)
        assert "may not search" in heap.error
