"""DRM devices: attaching to buffers, and vgem's fences."""

import contextlib
import copy
import errno
import os
import pickle
import re
import sys
import threading

import pytest
from helpers.drm import attached, claimed
from helpers.fences import is_open
from helpers.injection import refused
from helpers.process import NOBODY, descriptors_left, in_child, without_nodes

from dmabuf import Access
from dmabuf.devices.drm import Device, Vgem, _ioctl

READ, WRITE, READ_WRITE = Access.READ, Access.WRITE, Access.READ_WRITE
CLOSE = "operation on a closed"


@contextlib.contextmanager
def as_it_returns(function, act):
    """Act where a function has returned, once: as a finalizer or a signal handler may."""

    def profile(frame, event, argument) -> None:
        if event == "return" and frame.f_code is function.__code__:
            sys.setprofile(None)
            act()

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


@pytest.mark.needs("vgem")
class TestDevice:
    def test_knows_its_path_and_driver(self, device):
        assert re.fullmatch(r"/dev/dri/(card|renderD)\d+", device.path)
        assert device.driver == "vgem"
        for part in (device.path, "vgem", f"fd={device.fileno()}"):
            assert part in repr(device)
        assert not os.get_inheritable(device.fileno())
        with Device(device.path) as same:
            assert (same.path, same.driver) == (device.path, device.driver)
            assert not isinstance(same, Vgem)

    def test_with_closes(self):
        with Vgem() as device:
            number = device.fileno()
        assert device.closed
        assert not is_open(number)
        assert "[closed]" in repr(device)
        device.close()

    def test_every_node_of_it_works(self, buffer):
        nodes = []
        for name in os.listdir("/dev/dri"):
            if name.startswith(("card", "renderD")):
                with Device(f"/dev/dri/{name}") as device:
                    nodes += [device.path] if device.driver == "vgem" else []
        assert len(nodes) == 2
        for path in nodes:
            with Vgem(path) as device, device.import_buffer(buffer) as gem:
                device.attach_fence(gem, WRITE)
                assert not buffer.is_idle(READ)
            assert buffer.is_idle(READ)

    @pytest.mark.parametrize(
        "use",
        [
            lambda device, buffer, gem: device.fileno(),
            lambda device, buffer, gem: device.detach(),
            lambda device, buffer, gem: device.import_buffer(buffer),
            lambda device, buffer, gem: device.attach_fence(gem, READ),
            lambda device, buffer, gem: device.__enter__(),
        ],
    )
    def test_a_closed_device_can_not_be_used(self, buffer, use):
        with Vgem() as device, device.import_buffer(buffer) as gem:
            device.close()
            with pytest.raises(ValueError, match=rf"{CLOSE} Vgem.*\[closed\]"):
                use(device, buffer, gem)

    def test_a_collected_device_warns_and_closes(self):
        device = Vgem()
        number = device.fileno()
        with pytest.warns(ResourceWarning, match=f"unclosed Vgem with descriptor {number}"):
            del device
        assert not is_open(number)

    @pytest.mark.needs("second DRM driver")
    def test_another_driver_is_not_mistaken_for_vgem(self):
        with Vgem() as vgem:
            cards = [f"/dev/dri/{name}" for name in os.listdir("/dev/dri") if name[:4] == "card"]
        for path in cards:
            with Device(path) as device:
                driver = device.driver
            if driver != "vgem":
                with pytest.raises(OSError, match=f"{path} is not vgem but {driver}") as caught:
                    Vgem(path)
                assert caught.value.errno == errno.ENODEV
                break
        assert vgem.path != path


class TestWrongNodes:
    @pytest.mark.parametrize("make", [Device, Vgem])
    def test_what_is_not_there_is_named(self, make):
        path = "/dev/dri/card987"
        with pytest.raises(FileNotFoundError, match=path) as caught:
            make(path)
        assert caught.value.errno == errno.ENOENT

    @pytest.mark.parametrize("make", [Device, Vgem])
    def test_what_is_no_drm_device_is_named(self, make, tmp_path):
        file = tmp_path / "card0"
        file.write_text("")
        for path in ("/dev/null", file, tmp_path):
            with pytest.raises(OSError, match=f"{path} is not a DRM device") as caught:
                make(path)
            assert caught.value.errno == errno.ENOTTY

    @pytest.mark.parametrize("path", [None, 3, b"/dev/dri\0", "/dev/dri\0"])
    def test_what_is_no_path_is_refused(self, path):
        with pytest.raises((TypeError, ValueError)):
            Device(path)

    @pytest.mark.needs("root", "vgem")
    def test_a_node_that_may_not_be_opened_says_what_to_do(self, device, tmp_path):
        status = os.stat(device.path)
        node = tmp_path / "renderD128"
        os.mknod(node, status.st_mode & ~0o777 | 0o600, status.st_rdev)
        for folder in (tmp_path, *tmp_path.parents):
            os.chmod(folder, os.stat(folder).st_mode | 0o755)

        def refused() -> None:
            Device(node)

        with pytest.raises(PermissionError, match="join the group render") as caught:
            in_child(refused, user=NOBODY)
        assert caught.value.errno == errno.EACCES
        assert str(node) in str(caught.value)

    @pytest.mark.needs("vgem")
    def test_a_device_that_can_not_be_opened_loses_nothing(self, device):
        with descriptors_left(0), pytest.raises(OSError, match="Too many open files") as caught:
            Device(device.path)
        assert caught.value.errno == errno.EMFILE

    @pytest.mark.needs("vgem")
    def test_a_device_is_made_once(self, buffer, device, gem):
        for make in (lambda: device.__init__(device.path), device.__init__):
            with pytest.raises(TypeError, match="a Vgem can be initialised only once"):
                make()
        assert claimed(device) == [gem.handle]


@pytest.mark.needs("vgem")
class TestImport:
    def test_the_same_memory_has_one_handle_until_the_last_owner_is_gone(self, buffer, device):
        with buffer.dup() as same:
            first, second = device.import_buffer(buffer), device.import_buffer(same)
        assert first is not second
        handle = first.handle
        assert second.handle == handle
        first.close()
        fence = device.attach_fence(second, WRITE)  # it is still there
        fence.signal()
        with device.import_buffer(buffer) as third:
            assert third.handle == handle
            second.close()
            device.attach_fence(third, WRITE).signal()

    def test_other_memory_has_another_handle(self, allocate, device):
        with (
            allocate(4096) as one,
            allocate(4096) as two,
            device.import_buffer(one) as first,
            device.import_buffer(two) as second,
        ):
            assert first.handle != second.handle
            device.attach_fence(first, WRITE)
            assert [one.is_idle(READ), two.is_idle(READ)] == [False, True]
            device.close()

    @pytest.mark.needs("heap", "bufinfo")
    def test_the_kernel_sees_the_attachment_come_and_go(self, buffer, device):
        assert attached(buffer) == []
        first = device.import_buffer(buffer)
        assert attached(buffer) == ["vgem"]
        second = device.import_buffer(buffer)
        assert attached(buffer) == ["vgem"]
        first.close()
        first.close()
        assert attached(buffer) == ["vgem"]
        second.close()
        assert attached(buffer) == []

    @pytest.mark.needs("heap", "bufinfo")
    def test_closing_the_device_detaches_all(self, buffer):
        device = Vgem()
        gem = device.import_buffer(buffer)
        assert attached(buffer) == ["vgem"]
        device.close()
        assert attached(buffer) == []
        gem.close()
        gem.close()

    def test_keeps_the_memory_of_a_closed_buffer(self, allocate, device):
        buffer = allocate(4096)
        gem = device.import_buffer(buffer)
        with buffer.dup() as same:
            buffer.close()
            fence = device.attach_fence(gem, WRITE)
            assert not same.is_idle(READ)
            fence.signal()
        gem.close()

    def test_only_an_open_buffer_is_imported(self, buffer, device):
        for wrong in (None, buffer.fileno(), "buffer", device):
            with pytest.raises(TypeError, match=f"Buffer, not {type(wrong).__name__}"):
                device.import_buffer(wrong)
        other = buffer.dup()
        other.close()
        with pytest.raises(ValueError, match=f"{CLOSE} Buffer"):
            device.import_buffer(other)

    def test_a_closed_import_can_not_be_used(self, buffer, device):
        gem = device.import_buffer(buffer)
        with device.import_buffer(buffer):
            for _ in range(2):
                gem.close()
            for use in (lambda: gem.handle, lambda: device.attach_fence(gem, READ), gem.__enter__):
                with pytest.raises(ValueError, match=f"{CLOSE} GemBuffer"):
                    use()

    def test_an_import_of_another_device_is_refused(self, buffer, allocate, device):
        """Each device counts its handles from 1: the fence would land on the wrong buffer."""
        with (
            Vgem() as other,
            allocate(4096) as mine,
            device.import_buffer(mine) as ours,
            other.import_buffer(buffer) as theirs,
        ):
            assert ours.handle == theirs.handle
            with pytest.raises(ValueError, match="was imported by"):
                device.attach_fence(theirs, WRITE)
            assert mine.is_idle(WRITE)
            assert buffer.is_idle(WRITE)

    def test_an_import_that_is_closed_during_a_call_keeps_its_handle_until_the_end(
        self, buffer, device
    ):
        gem = device.import_buffer(buffer)
        with as_it_returns(_ioctl.vgem_fence_attach, gem.close):
            device.attach_fence(gem, WRITE).signal()
        assert gem.closed
        assert claimed(device) == []

    def test_an_import_has_one_owner(self, gem):
        for copied in (copy.copy, pickle.dumps):
            with pytest.raises(TypeError, match="can't be copied or pickled"):
                copied(gem)

    def test_a_collected_import_warns_and_detaches(self, buffer, device):
        gem = device.import_buffer(buffer)
        handle = gem.handle
        with pytest.warns(ResourceWarning, match=f"unclosed GemBuffer with handle {handle}"):
            del gem
        assert claimed(device) == []

    @pytest.mark.timeout(30)
    def test_an_import_that_is_released_amid_another_does_not_hang(self, allocate, device):
        """A finalizer, or a signal handler, can't wait for the thread that it interrupts."""
        with allocate(4096) as one, allocate(4096) as two:
            for buffer in (one, two):
                gone = device.import_buffer(one)
                with as_it_returns(_ioctl.prime_fd_to_handle, gone.close):
                    gem = device.import_buffer(buffer)
                with pytest.raises(ValueError, match="closed"):
                    gone.handle  # noqa: B018
                assert claimed(device) == [gem.handle]
                device.attach_fence(gem, WRITE).signal()
                gem.close()
        assert claimed(device) == []

    def test_threads_import_and_release_the_same_memory(self, buffer, device):
        errors = []

        def work() -> None:
            try:
                for _ in range(100):
                    with device.import_buffer(buffer) as gem, device.import_buffer(buffer):
                        device.attach_fence(gem, READ).signal()
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert claimed(device) == []

    def test_threads_close_the_same_import_once(self, buffer, device):
        for _ in range(20):
            with device.import_buffer(buffer) as kept:
                gem = device.import_buffer(buffer)
                threads = [threading.Thread(target=gem.close) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                device.attach_fence(kept, WRITE).signal()


@pytest.mark.needs("vgem")
class TestVgemFence:
    def test_signals_once(self, buffer, device, gem):
        fence = device.attach_fence(gem, WRITE)
        assert not buffer.is_idle(READ)
        fence.signal()
        assert buffer.is_idle(READ_WRITE)
        words = rf"fence {fence.handle} of {device.path} was signalled before"
        with pytest.raises(FileNotFoundError, match=words) as caught:
            fence.signal()
        assert caught.value.errno == errno.ENOENT

    @pytest.mark.parametrize("access", [WRITE, READ_WRITE])
    def test_a_second_writer_is_refused(self, buffer, device, gem, access):
        fence = device.attach_fence(gem, access)
        for another, who in ((READ, "reader"), (WRITE, "writer"), (READ_WRITE, "writer")):
            words = f"{device.path} can't add a {who}'s fence to .*, on which one is pending"
            with pytest.raises(OSError, match=words) as caught:
                device.attach_fence(gem, another)
            assert caught.value.errno == errno.EBUSY
        fence.signal()
        device.attach_fence(gem, WRITE).signal()

    def test_readers_are_many_and_keep_writers_out(self, buffer, device, gem):
        readers = [device.attach_fence(gem, READ) for _ in range(5)]
        with pytest.raises(OSError, match="signal that one, or wait for it") as caught:
            device.attach_fence(gem, WRITE)
        assert caught.value.errno == errno.EBUSY
        for reader in readers:
            reader.signal()
        device.attach_fence(gem, WRITE).signal()

    def test_what_is_no_access_is_refused(self, buffer, device, gem):
        for wrong, error in ((0, ValueError), (4, ValueError), ("w", TypeError), (None, TypeError)):
            with pytest.raises(error, match="access must be"):
                device.attach_fence(gem, wrong)
        assert buffer.is_idle(WRITE)

    def test_only_an_import_gets_a_fence(self, buffer, device):
        for wrong in (None, buffer, 1):
            with pytest.raises(TypeError, match=f"GemBuffer, not {type(wrong).__name__}"):
                device.attach_fence(wrong, WRITE)

    def test_closing_the_device_signals_all(self, buffer, allocate):
        with allocate(4096) as other, Vgem() as device:
            for one, access in ((buffer, READ), (other, WRITE)):
                with device.import_buffer(one) as gem:
                    fence = device.attach_fence(gem, access)
                assert not one.is_idle(WRITE)  # the fence stays without the import
            device.close()
            assert buffer.is_idle(WRITE)
            assert other.is_idle(WRITE)
            with pytest.raises(ValueError, match=f"{CLOSE} Vgem"):
                fence.signal()

    def test_devices_signal_their_own_only(self, buffer, device, gem):
        with Vgem() as other, other.import_buffer(buffer) as theirs:
            mine, yours = device.attach_fence(gem, READ), other.attach_fence(theirs, READ)
            mine.signal()
            assert not buffer.is_idle(WRITE)
            yours.signal()
            assert buffer.is_idle(WRITE)


@pytest.mark.needs("vgem", "own machine")
class TestWithoutVgem:
    def test_it_is_said_that_it_is_loaded_and_its_node_is_not_here(self):
        with pytest.raises(FileNotFoundError, match=r"the container \(--device /dev/dri/render"):
            without_nodes("/dev/dri", Vgem)

    def test_it_is_said_that_its_node_is_not_for_this_user(self):
        with pytest.raises(PermissionError, match=r"/dev/dri/renderD\d+ is .*; run as root, or"):
            in_child(Vgem, user=NOBODY)

    def test_a_path_that_is_gone_is_named(self, device):
        with pytest.raises(FileNotFoundError, match=device.path):
            without_nodes("/dev/dri", lambda: Vgem(device.path))


@pytest.mark.needs("vgem")
class TestDumb:
    """Whether a driver makes dumb buffers, by what it says to one that can't be."""

    @pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EACCES])
    def test_is_known(self, device, number):
        answers = [device.capabilities().dumb]
        assert not refused(
            _ioctl.DRM_IOCTL_MODE_CREATE_DUMB,
            number,
            lambda: answers.append(device.capabilities().dumb),
        )
        assert answers == [True, False]

    @pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENODEV])
    def test_is_not_guessed(self, device, number):
        error = refused(_ioctl.DRM_IOCTL_MODE_CREATE_DUMB, number, device.capabilities)
        assert isinstance(error, OSError)
        assert error.errno == number
