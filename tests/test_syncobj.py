"""Sync objects: binary and timelines, waits, transfers, and their exchange with fences."""

import asyncio
import errno
import math
import os
import select
import threading

import pytest
from helpers import drm
from helpers.fences import IOCTL, handled, interrupt, is_open, once_asleep, sleeps
from helpers.process import descriptors_left, in_child
from helpers.tasks import waiting, watched

import dmabuf
from dmabuf import FenceStatus
from dmabuf._fd import watchers
from dmabuf.devices.drm import Device, Syncobj, SyncobjFile, Vgem, wait_all, wait_any

CLOSED = "operation on a closed"
NO_FENCE = "there is no fence at that point yet"
NEEDS = pytest.mark.needs("syncobj")


@pytest.fixture
def gpu():
    """Give a device whose driver has sync objects and timelines."""
    with Device(drm.node("timeline")) as gpu:
        yield gpu


@pytest.fixture
def syncobj(gpu):
    """Give a sync object without a fence."""
    with Syncobj(gpu) as syncobj:
        yield syncobj


@pytest.fixture
def other(gpu):
    """Give another one."""
    with Syncobj(gpu) as other:
        yield other


@NEEDS
class TestBinary:
    def test_starts_without_a_fence(self, gpu, syncobj):
        assert syncobj.device is gpu
        assert syncobj.handle > 0
        for part in (f"handle={syncobj.handle}", gpu.path):
            assert part in repr(syncobj)
        with pytest.raises(OSError, match=NO_FENCE) as caught:
            syncobj.wait(timeout=0)
        assert caught.value.errno == errno.EINVAL
        assert not syncobj.wait(timeout=0, for_submit=True)

    def test_may_start_signalled(self, gpu):
        with Syncobj(gpu, signaled=True) as syncobj:
            assert syncobj.wait(timeout=0)

    def test_signals_and_is_reset(self, syncobj):
        syncobj.signal()
        assert syncobj.wait()
        syncobj.reset()
        with pytest.raises(OSError, match=NO_FENCE):
            syncobj.wait()

    def test_takes_a_fence_and_waits_for_it(self, syncobj, pending):
        syncobj.import_fence(pending.fence)
        for timeout in (0, -1, 0.01):
            assert not syncobj.wait(timeout=timeout)
        pending.signal()
        for timeout in (None, 0, 1, 1e300, math.inf):
            assert syncobj.wait(timeout=timeout)

    def test_gives_the_fence_back(self, syncobj, pending):
        syncobj.import_fence(pending.fence)
        with syncobj.export_fence() as fence:
            assert fence.status is FenceStatus.ACTIVE
            pending.signal()
            assert fence.wait(5)

    def test_a_second_fence_takes_the_place_of_the_first(self, syncobj, source):
        first, second = source.many(2)
        with first.fence, second.fence:
            syncobj.import_fence(first.fence)
            syncobj.import_fence(second.fence)
            first.signal()
            assert not syncobj.wait(timeout=0)
            second.signal()
            assert syncobj.wait(timeout=0)


@NEEDS
class TestTimeline:
    def test_counts_what_has_signalled_and_what_is_submitted(self, syncobj, pending):
        assert (syncobj.point, syncobj.submitted) == (0, 0)
        syncobj.signal(3)
        assert (syncobj.point, syncobj.submitted) == (3, 3)
        syncobj.import_fence(pending.fence, 7)
        assert (syncobj.point, syncobj.submitted) == (3, 7)
        pending.signal()
        assert (syncobj.point, syncobj.submitted) == (7, 7)

    def test_a_point_waits_for_all_before_it(self, syncobj, source):
        first, second = source.many(2)
        with first.fence, second.fence:
            syncobj.import_fence(first.fence, 1)
            syncobj.import_fence(second.fence, 2)
            second.signal()
            assert not syncobj.wait(2, 0)
            first.signal()
            assert syncobj.wait(2, 5)

    def test_a_point_between_is_that_of_the_next(self, syncobj):
        syncobj.signal(10)
        assert syncobj.wait(4, 0)
        with pytest.raises(OSError, match=NO_FENCE):
            syncobj.wait(11, 0)

    def test_waits_for_a_point_that_is_submitted_later(self, syncobj):
        assert not syncobj.wait(1, 0, for_submit=True)
        with once_asleep(IOCTL, lambda: syncobj.signal(1)):
            assert syncobj.wait(1, for_submit=True)

    def test_available_is_before_signalled(self, syncobj, pending):
        assert not syncobj.wait(1, 0, available=True)
        syncobj.import_fence(pending.fence, 1)
        assert syncobj.wait(1, 0, available=True)
        assert not syncobj.wait(1, 0)
        pending.signal()

    def test_gives_the_fence_at_a_point(self, syncobj, pending):
        syncobj.import_fence(pending.fence, 5)
        with syncobj.export_fence(5) as fence:
            assert not fence.signaled
            pending.signal()
            assert fence.wait(5)
        with pytest.raises(OSError, match=NO_FENCE):
            syncobj.export_fence(6)

    def test_the_largest_point_works(self, syncobj):
        syncobj.signal(2**64 - 1)
        assert syncobj.point == 2**64 - 1
        assert syncobj.wait(2**64 - 1, 0)

    def test_is_gone_after_a_reset(self, syncobj):
        syncobj.signal(9)
        syncobj.reset()
        assert syncobj.submitted == 0


@NEEDS
class TestTransfer:
    def test_from_binary_to_a_timeline_and_back(self, gpu, syncobj, other, pending):
        syncobj.import_fence(pending.fence)
        syncobj.transfer(other, target_point=4)
        assert (other.point, other.submitted) == (0, 4)
        with Syncobj(gpu) as third:
            other.transfer(third, point=4)
            assert not third.wait(timeout=0)
            pending.signal()
            assert third.wait()
            assert other.point == 4
            assert syncobj.wait()

    def test_what_has_no_fence_gives_none(self, syncobj, other):
        for point in (0, 1):
            with pytest.raises(OSError, match=NO_FENCE) as caught:
                syncobj.transfer(other, point=point, target_point=1)
            assert caught.value.errno == errno.EINVAL

    def test_to_another_device_it_is_refused(self, gpu, syncobj):
        words = r"is not of .* export\(\) and from_fd\(\)"
        with (
            Device(gpu.path) as same,
            Syncobj(same) as theirs,
            pytest.raises(ValueError, match=words),
        ):
            syncobj.transfer(theirs)


@NEEDS
class TestDescriptor:
    def test_it_is_the_same_sync_object_elsewhere(self, gpu, syncobj):
        with (
            syncobj.export() as file,
            Device(gpu.path) as same,
            Syncobj.from_fd(same, file) as theirs,
            Syncobj.from_fd(gpu, file.fileno()) as ours,
        ):
            assert isinstance(file, SyncobjFile)
            assert not os.get_inheritable(file.fileno())
            assert ours.handle != syncobj.handle
            file.close()
            syncobj.signal(2)
            assert theirs.point == ours.point == 2

    def test_it_outlives_its_origin(self, gpu):
        with Syncobj(gpu, signaled=True) as origin:
            file = origin.export()
        with file, Syncobj.from_fd(gpu, file) as same:
            assert same.wait(timeout=0)

    def test_what_is_no_sync_object_is_refused(self, gpu):
        with open("/dev/null") as null, pytest.raises(OSError, match="not a sync object") as caught:
            Syncobj.from_fd(gpu, null)
        assert caught.value.errno == errno.EINVAL
        for wrong, error in ((-1, ValueError), (None, TypeError), (True, TypeError)):
            with pytest.raises(error, match="descriptor"):
                Syncobj.from_fd(gpu, wrong)

    def test_without_a_descriptor_left_it_loses_nothing(self, gpu, syncobj):
        syncobj.signal()
        for use in (syncobj.export, syncobj.export_fence, syncobj.event):
            with descriptors_left(0), pytest.raises(OSError, match="Too many open") as caught:
                use()
            assert caught.value.errno == errno.EMFILE


@NEEDS
class TestWaits:
    def test_for_all_and_for_any(self, gpu, source):
        first, second = source.many(2)
        with first.fence, second.fence, Syncobj(gpu) as one, Syncobj(gpu) as two:
            one.import_fence(first.fence)
            two.import_fence(second.fence, 6)
            both = [one, (two, 6)]
            assert wait_any(both, 0) is None
            second.signal()
            assert wait_any(both) is both[1]
            assert not wait_all(both, 0)
            first.signal()
            assert wait_any(both) is one
            assert wait_all(both)
            assert wait_all(iter(both))

    def test_what_can_not_be_waited_for_is_refused(self, gpu, syncobj):
        with pytest.raises(ValueError, match="no sync object to wait for"):
            wait_any([])
        with pytest.raises(ValueError, match="not nan"):
            syncobj.wait(timeout=math.nan)
        with pytest.raises(TypeError, match=r"must be a drm\.Syncobj, not int"):
            wait_all([(3, 0)])
        with pytest.raises(TypeError, match=r"must be a drm\.Syncobj, not int"):
            wait_any([syncobj, 3])
        with (
            Device(gpu.path) as same,
            Syncobj(same) as theirs,
            pytest.raises(ValueError, match="is not of"),
        ):
            wait_any([syncobj, theirs])

    @pytest.mark.parametrize("point", [0, 1])
    def test_sleep_without_the_gil_and_a_handler_that_raises_gets_out(self, syncobj, point):
        assert sleeps(lambda: syncobj.wait(point, for_submit=True))

    @pytest.mark.parametrize("point", [0, 1])
    def test_go_on_after_a_handler_that_returns(self, syncobj, point):
        calls = []

        def act():
            interrupt()
            return None if len(calls) > 2 else "again"

        with handled(lambda: calls.append(1)), once_asleep(IOCTL, act):
            assert not syncobj.wait(point, 1.0, for_submit=True)
        assert len(calls) > 2

    def test_end_when_another_thread_signals(self, syncobj):
        with once_asleep(IOCTL, syncobj.signal):
            assert syncobj.wait(timeout=60, for_submit=True)

    def test_keep_what_is_closed_meanwhile(self, gpu):
        syncobj = Syncobj(gpu)
        with syncobj.export() as file, Syncobj.from_fd(gpu, file) as same:

            def act():
                syncobj.close()
                same.signal()

            with once_asleep(IOCTL, act):
                assert syncobj.wait(for_submit=True)
        with pytest.raises(ValueError, match=f"{CLOSED} Syncobj"):
            syncobj.wait()

    def test_many_threads(self, syncobj):
        done = []

        def work(point):
            done.append(syncobj.wait(point, 60, for_submit=True))

        threads = [threading.Thread(target=work, args=(point,)) for point in range(1, 5)]
        for thread in threads:
            thread.start()
        for point in range(1, 5):
            syncobj.signal(point)
        for thread in threads:
            thread.join()
        assert done == [True] * 4


@NEEDS
class TestEvents:
    def test_are_readable_once_a_point_has_signalled(self, syncobj, pending):
        syncobj.import_fence(pending.fence, 1)
        with syncobj.event(1) as event, syncobj.event(1, available=True) as there:
            assert select.select([event, there], [], [], 0)[0] == [there]
            pending.signal()
            assert select.select([event], [], [], 5)[0] == [event]
        with syncobj.event(1) as late:
            assert select.select([late], [], [], 0)[0] == [late]

    def test_wait_for_what_is_submitted_later(self, syncobj):
        with syncobj.event(2) as event:
            syncobj.signal(1)
            assert select.select([event], [], [], 0)[0] == []
            syncobj.signal(2)
            assert select.select([event], [], [], 5)[0] == [event]

    def test_in_asyncio(self, syncobj, pending):
        syncobj.import_fence(pending.fence)

        async def main():
            tasks = await waiting(syncobj.ready(), syncobj.ready(3), syncobj.ready(available=True))
            assert watched() == 3
            await tasks[2]
            assert not tasks[0].done()
            pending.signal()
            await tasks[0]
            syncobj.signal(3)
            await tasks[1]
            assert watched() == 0

        asyncio.run(main())

    def test_a_cancelled_wait_leaves_nothing(self, syncobj):
        async def main():
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(syncobj.ready(1), 0.01)
            assert watched() == 0

        asyncio.run(main())
        assert not watchers(syncobj)

    @pytest.mark.parametrize("closes", ["syncobj", "device"])
    def test_closing_ends_an_await(self, gpu, closes):
        async def main():
            with Device(gpu.path) as device, Syncobj(device) as syncobj:
                (task,) = await waiting(syncobj.ready(1))
                (syncobj if closes == "syncobj" else device).close()
                with pytest.raises(ValueError, match="closed while it was awaited"):
                    await task
                with pytest.raises(ValueError, match=CLOSED):
                    await syncobj.ready(1)
            assert watched() == 0

        asyncio.run(main())


@NEEDS
class TestMisuse:
    @pytest.mark.parametrize(
        "use",
        [
            lambda syncobj, fence: syncobj.handle,
            lambda syncobj, fence: syncobj.point,
            lambda syncobj, fence: syncobj.submitted,
            lambda syncobj, fence: syncobj.signal(),
            lambda syncobj, fence: syncobj.signal(1),
            lambda syncobj, fence: syncobj.reset(),
            lambda syncobj, fence: syncobj.transfer(syncobj),
            lambda syncobj, fence: syncobj.import_fence(fence),
            lambda syncobj, fence: syncobj.import_fence(fence, 1),
            lambda syncobj, fence: syncobj.export_fence(),
            lambda syncobj, fence: syncobj.export_fence(1),
            lambda syncobj, fence: syncobj.export(),
            lambda syncobj, fence: syncobj.wait(),
            lambda syncobj, fence: syncobj.event(),
            lambda syncobj, fence: syncobj.__enter__(),
        ],
    )
    @pytest.mark.parametrize("closes", ["syncobj", "device"])
    def test_what_is_closed_can_not_be_used(self, gpu, syncobj, use, closes):
        syncobj.signal()
        with syncobj.export_fence() as fence, Device(gpu.path) as device:
            mine = Syncobj(device)
            mine.close() if closes == "syncobj" else device.close()
            if closes == "device" and use.__code__.co_names in (("handle",), ("__enter__",)):
                use(mine, fence)
            else:
                with pytest.raises(ValueError, match=CLOSED):
                    use(mine, fence)
            mine.close()

    @pytest.mark.parametrize("wrong", [-1, 2**64])
    def test_a_point_that_can_not_be_is_refused(self, syncobj, other, wrong):
        for use in points(syncobj, other):
            with pytest.raises(ValueError, match="a point must be from 0"):
                use(wrong)

    @pytest.mark.parametrize("wrong", [None, 1.0, "1", True])
    def test_a_point_that_is_no_number_is_refused(self, syncobj, other, wrong):
        for use in points(syncobj, other):
            with pytest.raises(TypeError, match="a point must be an int"):
                use(wrong)

    def test_what_is_no_fence_no_device_no_sync_object_is_refused(self, gpu, syncobj):
        with pytest.raises(TypeError, match=r"fence must be a dmabuf\.Fence, not int"):
            syncobj.import_fence(3)
        with pytest.raises(TypeError, match=r"device must be a drm\.Device, not str"):
            Syncobj(gpu.path)
        with pytest.raises(TypeError, match=r"must be a drm\.Syncobj, not Device"):
            syncobj.transfer(gpu)

    def test_a_closed_fence_is_refused(self, syncobj):
        syncobj.signal()
        fence = syncobj.export_fence()
        fence.close()
        with pytest.raises(ValueError, match=f"{CLOSED} Fence"):
            syncobj.import_fence(fence)

    def test_a_collected_one_warns_and_is_destroyed(self, gpu):
        syncobj = Syncobj(gpu)
        handle = syncobj.handle
        with pytest.warns(ResourceWarning, match=f"unclosed Syncobj with handle {handle}"):
            del syncobj
        with Syncobj(gpu) as again:
            assert again.handle == handle  # the kernel gives the lowest number that is free

    def test_it_goes_with_its_device(self, gpu):
        with Device(gpu.path) as device:
            syncobj = Syncobj(device)
            number = device.fileno()
        assert not is_open(number)
        del syncobj

    @pytest.mark.needs("own machine")
    def test_unplugged_it_says_so_and_closes(self):
        gpu = Device(drm.node("timeline"))
        syncobj = Syncobj(gpu)
        with drm.unplugged(gpu.path):
            for use in (syncobj.signal, syncobj.wait, lambda: Syncobj(gpu)):
                with pytest.raises(OSError, match="No such device") as caught:
                    use()
                assert caught.value.errno == errno.ENODEV
            syncobj.close()
            gpu.close()

    def test_a_child_destroys_nothing_of_its_parent(self, syncobj):
        in_child(syncobj.close)
        syncobj.signal()


def points(syncobj, other):
    """Return every call that takes a point."""
    return [
        syncobj.signal,
        syncobj.wait,
        syncobj.event,
        syncobj.export_fence,
        lambda point: syncobj.transfer(other, point=point),
        lambda point: syncobj.transfer(other, target_point=point),
    ]


@pytest.mark.needs("vgem")
class TestDriverWithout:
    def test_it_says_who_has_them(self):
        with Vgem() as vgem:
            with pytest.raises(dmabuf.UnsupportedError, match="vgem has no sync objects") as caught:
                Syncobj(vgem)
            assert caught.value.errno == errno.EOPNOTSUPP
            assert "virtio-gpu" in str(caught.value)
            with open("/dev/null") as null, pytest.raises(dmabuf.UnsupportedError):
                Syncobj.from_fd(vgem, null)
