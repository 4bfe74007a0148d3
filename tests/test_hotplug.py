"""Devices that come and go: the events of the kernel, in threads and in asyncio."""

import asyncio
import contextlib
import errno
import gc
import os
import select
import sys
from pathlib import Path

import pytest
from helpers import cameras
from helpers.fences import POLL, is_open, sleeps
from helpers.interrupt import Interrupted, every_point, raise_interrupted
from helpers.leaks import descriptors
from helpers.process import descriptors_left, in_child
from helpers.tasks import waiting, watched

import dmabuf
from dmabuf import devices
from dmabuf._fd import Hold
from dmabuf.devices import drm, hotplug

CLOSED = "operation on a closed Watch"

pytestmark = pytest.mark.needs("vgem", "root", "own machine")


@pytest.fixture
def watch():
    """Give a watch."""
    with devices.watch() as watch:
        yield watch


@pytest.fixture
def say(device):
    """Return a function that has the kernel tell again of vgem's node."""
    name = os.path.basename(device.path)
    return lambda action: Path(f"/sys/class/drm/{name}/uevent").write_text(action)


class TestWatch:
    @pytest.mark.needs("vivid")
    def test_a_driver_that_goes_and_comes_back_is_seen(self, watch):
        videos = [device for device in devices.find() if device.kind == "v4l2"]
        vivid = {device.path for device in videos if device.driver == "vivid"}
        assert vivid

        cameras.unplug()
        gone = set(vivid)
        while gone:  # another driver's devices may come and go meanwhile
            event = watch.next(60)
            if event.action == "remove" and event.path in gone:
                assert (event.kind, event.device) == ("v4l2", None)
                gone.remove(event.path)
        cameras.plug_in()
        come = set()
        while len(come) < len(vivid):  # with other numbers, if others were open at its last end
            event = watch.next(60)
            if event.action == "add" and event.device and event.device.driver == "vivid":
                assert event.device.usable
                come.add(event.path)

    def test_an_event_has_its_device(self, watch, device, say):
        for action in ("add", "change"):
            say(action)
            event = watch.next(30)
            assert (event.action, event.kind, event.path) == (action, "drm", device.path)
            assert event.device.driver == "vgem"
        say("remove")
        assert watch.next(30) == ("remove", "drm", device.path, None)

    def test_nothing_is_missed_since_it_began(self, watch, say):
        for action in ("add", "change", "remove"):
            say(action)
        assert [watch.next(30).action for _ in range(3)] == ["add", "change", "remove"]
        with pytest.raises(TimeoutError):
            watch.next(0)

    def test_what_is_no_device_of_ours_is_not_told(self, watch, device, say):
        render = drm.sibling(device.path, "renderD")
        Path(f"/sys/class/drm/{os.path.basename(render)}/uevent").write_text("change")
        Path("/sys/class/mem/null/uevent").write_text("change")
        say("online")
        with pytest.raises(TimeoutError):
            watch.next(0.2)

    def test_its_descriptor_is_readable_when_an_event_waits(self, watch, say):
        assert select.select([watch], [], [], 0)[0] == []
        say("change")
        assert select.select([watch], [], [], 30)[0] == [watch]
        assert watch.next(0).action == "change"

    def test_what_has_come_is_taken_without_a_wait(self, watch, device, say):
        assert watch.take() is None
        say("remove")
        assert select.select([watch], [], [], 30)[0] == [watch]
        assert watch.take() == ("remove", "drm", device.path, None)
        assert watch.take() is None
        watch.close()
        with pytest.raises(ValueError, match=CLOSED):
            watch.take()

    def test_two_see_the_same(self, watch, say):
        with devices.watch("kernel") as other:
            say("change")
            assert watch.next(30) == other.next(30)

    def test_a_time_out_raises_and_loses_nothing(self, watch, say):
        for timeout in (0, -1, 0.01):
            with pytest.raises(TimeoutError, match=f"within {timeout} s") as caught:
                watch.next(timeout)
            assert caught.value.errno == errno.ETIMEDOUT
        say("change")
        assert watch.next(30).action == "change"

    def test_a_handler_that_raises_gets_out(self, watch):
        assert sleeps(watch.next, POLL)

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_a_handler_that_raises_at_any_point_leaves_no_descriptor(self):
        devices.watch().close()
        before = descriptors()
        for moment in every_point(Hold.__exit__, hotplug._udev):
            watch = None
            with contextlib.suppress(Interrupted), moment.runs(raise_interrupted):
                watch = devices.watch()
            if watch is not None:
                watch.close()
            del watch
            gc.collect()
            assert descriptors() == before, moment.where

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_a_handler_that_raises_amid_an_event_leaves_no_descriptor(
        self, watch, say, monkeypatch
    ):
        monkeypatch.setattr(hotplug, "describe", lambda kind, path: None)  # a matter of the device
        before = descriptors()
        for moment in every_point(Hold.__exit__):
            say("add")
            with contextlib.suppress(Interrupted), moment.runs(raise_interrupted):
                assert watch.next(30).action == "add"
            with contextlib.suppress(TimeoutError):
                watch.next(0)
            gc.collect()
            assert descriptors() == before, moment.where
        say("change")
        assert watch.next(30).action == "change"

    def test_closing_leaves_nothing(self):
        watch = devices.watch()
        number = watch.fileno()
        assert str(number) in repr(watch)
        for _ in range(2):
            watch.close()
        assert not is_open(number)
        assert "[closed]" in repr(watch)
        for use in (watch.fileno, watch.next, lambda: next(watch), watch.__enter__):
            with pytest.raises(ValueError, match=CLOSED):
                use()

    def test_a_collected_one_warns(self):
        watch = devices.watch()
        with pytest.warns(ResourceWarning, match="unclosed Watch"):
            del watch

    def test_without_a_descriptor_left_it_loses_nothing(self):
        devices.watch().close()
        # Whether there is a libudev can't be found out then: ctypes asks ldconfig, by a pipe.
        # Debian's own pyudev asks nobody, and its libudev gets no socket.
        for left in (0, 1):
            with descriptors_left(left), pytest.raises(OSError, match=r"Too many open|libudev"):
                devices.watch()

    def test_an_unknown_source_is_refused(self):
        with pytest.raises(ValueError, match='must be "udev" or "kernel"'):
            devices.watch("netlink")

    def test_without_pyudev_or_libudev_it_says_what_to_install(self):
        def deprived():
            sys.modules["pyudev"] = None
            devices.watch()

        with pytest.raises(dmabuf.UnsupportedError, match="pip install pyudev; apt") as caught:
            in_child(deprived)
        assert caught.value.errno == errno.ENOENT


class TestAsyncio:
    def test_events_come_without_a_thread(self, watch, say):
        async def main():
            actions = []
            (task,) = await waiting(watch.__anext__())
            assert watched() == 1
            say("change")
            actions.append((await task).action)
            say("add")
            async for event in watch:
                actions.append(event.action)
                break
            return actions

        assert asyncio.run(main()) == ["change", "add"]

    def test_a_cancelled_wait_leaves_nothing(self, watch):
        async def main():
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(watch.__anext__(), 0.01)
            assert watched() == 0

        asyncio.run(main())

    def test_closing_ends_it(self, watch):
        async def main():
            (task,) = await waiting(watch.__anext__())
            watch.close()
            with pytest.raises(ValueError, match="closed while it was awaited"):
                await task
            with pytest.raises(ValueError, match=CLOSED):
                await watch.__anext__()
            assert watched() == 0

        asyncio.run(main())


def test_a_forked_child_leaves_the_events_to_its_parent(watch, say):
    async def step() -> None:
        await anext(watch)

    def take() -> str:
        for call in (lambda: watch.next(0), lambda: asyncio.run(step())):
            with pytest.raises(
                ValueError, match=r"forked child, and the events of .* its parent's"
            ):
                call()
        with devices.watch() as own:
            say("add")
            return own.next(30).action

    say("change")
    assert in_child(take) == "add"
    assert [watch.next(30).action for _ in range(2)] == ["change", "add"]
