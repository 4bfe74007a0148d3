"""Fences: what they own, what they know of themselves, and what they refuse."""

import contextlib
import copy
import errno
import os
import pickle
import socket
import time
import warnings

import pytest
from helpers.fences import is_open
from helpers.process import in_child

import dmabuf
from dmabuf import Access, FenceStatus, _ioctl
from dmabuf.devices.drm import Vgem

ENDS = [dmabuf.Fence, dmabuf.Fence.from_fd]


@contextlib.contextmanager
def opened(kind, tmp_path, buffer):
    """Give a descriptor of something else than a fence."""
    others = []
    if kind == "pipe":
        number, *others = os.pipe()
    elif kind == "file":
        number = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    elif kind == "memfd":
        number = os.memfd_create("fence")
    elif kind == "socket":
        number = socket.socket().detach()
    elif kind == "dma-buf":
        number = os.dup(buffer.fileno())
    else:
        number = os.open("/dev/dma_heap/system", os.O_RDWR)
    try:
        yield number
    finally:
        for one in (number, *others):
            os.close(one)


class TestConstruction:
    def test_owns_the_descriptor_that_it_was_given(self, pending):
        number = os.dup(pending.fence.fileno())
        with dmabuf.Fence(number) as other:
            assert other.fileno() == number
            assert not other.signaled
            pending.signal()
            assert other.signaled
        assert not is_open(number)

    def test_from_fd_leaves_the_descriptor_to_the_caller(self, pending):
        for source in (pending.fence, pending.fence.fileno()):
            with dmabuf.Fence.from_fd(source) as other:
                assert other.fileno() != pending.fence.fileno()
                assert not os.get_inheritable(other.fileno())
            assert not pending.fence.signaled

    @pytest.mark.parametrize(
        "kind",
        [
            *("pipe", "file", "memfd", "socket", "dma-buf"),
            pytest.param("heap", marks=pytest.mark.needs("heap")),
        ],
    )
    @pytest.mark.parametrize("make", ENDS)
    def test_something_else_is_refused_and_left_open(self, kind, make, tmp_path, buffer):
        with opened(kind, tmp_path, buffer) as number:
            what = os.readlink(f"/proc/self/fd/{number}")
            with pytest.raises(dmabuf.NotASyncFileError, match="left open") as caught:
                make(number)
            assert isinstance(caught.value, ValueError)
            assert what in str(caught.value)
            assert is_open(number)

    @pytest.mark.parametrize("make", ENDS)
    def test_a_descriptor_that_is_not_open_is_refused(self, make):
        with pytest.raises(OSError, match="987654") as caught:
            make(987654)
        assert caught.value.errno == errno.EBADF

    @pytest.mark.parametrize(
        ("wrong", "error"),
        [
            (-1, ValueError),
            ("3", TypeError),
            (None, TypeError),
            (True, TypeError),
            (2.0, TypeError),
        ],
    )
    @pytest.mark.parametrize("make", ENDS)
    def test_what_is_no_descriptor_is_refused(self, make, wrong, error):
        with pytest.raises(error, match="descriptor"):
            make(wrong)

    def test_an_object_is_not_taken_for_its_descriptor(self, pending, buffer):
        """It would be closed twice."""
        for make, owner in ((dmabuf.Fence, pending.fence), (dmabuf.Buffer, buffer)):
            with pytest.raises(TypeError, match=rf"{make.__name__} owns its descriptor.*from_fd"):
                make(owner)
            assert not owner.closed

    def test_a_closed_fence_gives_no_descriptor(self, pending):
        other = pending.fence.dup()
        other.close()
        with pytest.raises(ValueError, match="closed"):
            dmabuf.Fence.from_fd(other)

    def test_a_buffer_is_not_mistaken_for_a_fence(self, buffer):
        with pytest.raises(dmabuf.NotASyncFileError, match="/dmabuf:"):
            dmabuf.Fence.from_fd(buffer)
        assert buffer.size == 8192


class TestAttributes:
    def test_of_an_active_fence(self, pending, source):
        fence = pending.fence
        assert fence.status is FenceStatus.ACTIVE
        assert fence.signaled is False
        assert fence.error is None
        assert fence.signaled_at is None
        info = fence.info()
        assert info.status is FenceStatus.ACTIVE
        assert source.driver in info.name
        [point] = info.points
        assert point.driver == source.driver
        assert point.timeline
        assert (point.status, point.timestamp_ns) == (FenceStatus.ACTIVE, 0)

    def test_of_a_signalled_fence(self, pending):
        before = time.monotonic()
        pending.signal()
        after = time.monotonic()
        fence = pending.fence
        assert fence.status is FenceStatus.SIGNALED
        assert fence.signaled is True
        assert fence.error is None
        assert before <= fence.signaled_at <= after
        info = fence.info()
        assert info.status is FenceStatus.SIGNALED
        [point] = info.points
        assert point.status is FenceStatus.SIGNALED
        assert point.timestamp_ns / 1e9 == fence.signaled_at

    def test_the_last_point_says_when_all_were_done(self, source):
        pendings = source.many(3)
        with pendings[0].fence.merge(*(one.fence for one in pendings[1:])) as merged:
            for one in pendings:
                assert merged.signaled_at is None
                one.signal()
            assert merged.signaled_at == max(one.fence.signaled_at for one in pendings)
            assert merged.signaled_at > pendings[0].fence.signaled_at
        for one in pendings:
            one.fence.close()

    def test_points_tell_which_of_them_is_late(self, source):
        first, second = source.many(2)
        with first.fence, second.fence, first.fence & second.fence as merged:
            first.signal()
            info = merged.info()
            states = sorted(point.status.value for point in info.points)
            assert states == ["active", "signaled"]
            assert info.status is merged.status is FenceStatus.ACTIVE
            second.signal()
            assert merged.status is FenceStatus.SIGNALED

    @pytest.mark.needs("vgem", "export")
    def test_info_lists_thousands_of_points(self, buffer):
        with Vgem() as device, device.import_buffer(buffer) as gem:
            for _ in range(2500):
                device.attach_fence(gem, Access.READ)
            with buffer.export_fence(Access.WRITE) as fence:
                points = fence.info().points
                assert len(points) == 2500
                assert {point.driver for point in points} == {"vgem"}
                assert {point.status for point in points} == {FenceStatus.ACTIVE}
                device.close()
                assert {point.status for point in fence.info().points} == {FenceStatus.SIGNALED}

    def test_info_is_right_when_the_number_of_points_changes_meanwhile(self, source, monkeypatch):
        pendings = source.many(3)
        few, ask = pendings[0].fence, _ioctl.sync_file_info
        with few.merge(*(one.fence for one in pendings)) as many:
            for before, after, points in ((few, many, 3), (many, few, 1)):
                with before.dup() as fence:
                    asked = []

                    def change(number: int, fence=fence, after=after, asked=asked):
                        about = ask(number)
                        asked.append(about.num_fences)
                        if len(asked) == 2:  # of the question for the points
                            os.dup2(after.fileno(), fence.fileno(), inheritable=False)
                        return about

                    monkeypatch.setattr(_ioctl, "sync_file_info", change)
                    assert len(fence.info().points) == points
                    assert len(asked) == (3 if points == 3 else 2)
        for one in pendings:
            one.fence.close()

    def test_reports_can_not_be_changed(self, pending):
        info = pending.fence.info()
        for report, field in ((info, "name"), (info.points[0], "status")):
            with pytest.raises(AttributeError):
                setattr(report, field, None)
        for attribute in ("status", "signaled", "error", "signaled_at", "closed", "other"):
            with pytest.raises(AttributeError):
                setattr(pending.fence, attribute, 1)


class TestIdentity:
    def test_each_fence_is_itself_alone(self, pending):
        with pending.fence.dup() as same:
            assert same != pending.fence
            assert len({same, pending.fence, pending.fence}) == 2
            assert pending.fence == pending.fence

    def test_identity_outlives_close(self, pending):
        other = pending.fence.dup()
        known = {other: "known"}
        other.close()
        assert known[other] == "known"

    def test_repr_says_what_a_debugger_wants(self, pending):
        fence = pending.fence
        for part in (f"fd={fence.fileno()} ", "active", f"name={fence.info().name!r}"):
            assert part in repr(fence)
        pending.signal()
        assert "signaled" in repr(fence)
        other = fence.dup()
        other.close()
        assert repr(other) == "<dmabuf.Fence [closed]>"

    def test_repr_of_a_failed_construction_does_not_raise(self):
        assert "not opened" in repr(dmabuf.Fence.__new__(dmabuf.Fence))


class TestOwnership:
    def test_close_is_idempotent_and_leaves_duplicates(self, pending):
        other = pending.fence.dup()
        number = other.fileno()
        for _ in range(3):
            other.close()
            assert other.closed
        assert not is_open(number)
        assert not pending.fence.closed
        pending.signal()
        assert pending.fence.signaled

    def test_with_closes(self, pending):
        with pending.fence.dup() as other:
            assert not other.closed
        assert other.closed
        with pytest.raises(ValueError, match="closed"), other:
            pass

    def test_detach_gives_the_number_away(self, pending):
        other = pending.fence.dup()
        number = other.fileno()
        assert other.detach() == number
        assert other.closed
        other.close()
        with dmabuf.Fence(number) as again:
            assert not again.signaled

    @pytest.mark.parametrize(
        "use",
        [
            lambda f: f.fileno(),
            lambda f: f.detach(),
            lambda f: f.dup(),
            lambda f: f.status,
            lambda f: f.signaled,
            lambda f: f.error,
            lambda f: f.signaled_at,
            lambda f: f.info(),
            lambda f: f.wait(),
            lambda f: f.wait(0),
            lambda f: f.merge(),
            lambda f: f & f,
            lambda f: f.set_deadline(1.0),
            lambda f: f.__enter__(),
            dmabuf.Fence.from_fd,
        ],
    )
    def test_a_closed_fence_can_not_be_used(self, pending, use):
        other = pending.fence.dup()
        other.close()
        with pytest.raises(ValueError, match=r"closed.*\[closed\]"):
            use(other)

    def test_a_collected_fence_warns_and_closes(self, pending):
        other = pending.fence.dup()
        number = other.fileno()
        with pytest.warns(ResourceWarning, match=rf"unclosed Fence with descriptor {number}"):
            del other
        assert not is_open(number)

    def test_closed_and_detached_fences_are_collected_in_silence(self, pending):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            other = pending.fence.dup()
            other.close()
            del other
            other = pending.fence.dup()
            os.close(other.detach())
            del other

    def test_descriptors_are_closed_on_exec(self, pending):
        with pending.fence.dup() as other, other & pending.fence as merged:
            for fence in (pending.fence, other, merged):
                assert not os.get_inheritable(fence.fileno())

    def test_copies_and_pickles_are_refused(self, pending):
        for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="descriptor has one owner"):
                duplicate(pending.fence)

    def test_a_fence_goes_over_a_socket_to_another_process(self, pending):
        left, right = socket.socketpair()
        with left, right:
            socket.send_fds(left, [b"x"], [pending.fence.fileno()])

            def receive() -> str:
                _, numbers, _, _ = socket.recv_fds(right, 1, 1)
                with dmabuf.Fence(numbers[0]) as received:
                    before = received.status
                    pending.signal()
                    return f"{before.value}, then {received.status.value}"

            assert in_child(receive) == "active, then signaled"
            assert pending.fence.signaled
