"""Buffers and their fences: who waits for whom, and fences that go from buffer to buffer."""

import contextlib
import errno
import os
from functools import partial

import pytest
from helpers.fences import POLL, once_asleep, sleeps

import dmabuf
from dmabuf import Access, FenceStatus
from dmabuf._owning import duplicate
from dmabuf.fence import own_fence

READ, WRITE, READ_WRITE = Access.READ, Access.WRITE, Access.READ_WRITE
ALL = (READ, WRITE, READ_WRITE)


# Which accesses have to wait for which pending fences: include/linux/dma-resv.h.
BUSY_FOR = {
    "nobody": (),
    "a reader": (WRITE, READ_WRITE),
    "a writer": ALL,
    "both": ALL,
}


@pytest.fixture(params=BUSY_FOR)
def busy(request, device, gem, buffer, allocate):
    """The buffer with the fences that the parameter says; gives the accesses that must wait."""
    if request.param in ("a reader", "both"):
        device.attach_fence(gem, READ)
    if request.param == "a writer":
        device.attach_fence(gem, WRITE)
    if request.param == "both":  # vgem itself excludes that: the writer comes from elsewhere
        with (
            allocate(4096) as other,
            device.import_buffer(other) as theirs,
        ):
            device.attach_fence(theirs, WRITE)
            with other.export_fence(READ) as fence:
                buffer.import_fence(fence, WRITE)
    yield BUSY_FOR[request.param]
    device.close()  # signals all
    assert all(buffer.is_idle(access) for access in ALL)


on_each = pytest.mark.parametrize("access", ALL, ids=["READ", "WRITE", "READ_WRITE"])
all_states = pytest.mark.parametrize(
    "busy",
    [
        *("nobody", "a reader", "a writer"),
        pytest.param("both", marks=pytest.mark.needs("export")),
    ],
    indirect=True,
)


@pytest.mark.needs("vgem")
@all_states
@on_each
class TestWhoWaitsForWhom:
    def test_by_poll(self, buffer, busy, access):
        assert buffer.is_idle(access) is (access not in busy)
        for timeout in (0, -1, 0.001):
            assert buffer.wait(access, timeout) is (access not in busy)

    def test_by_an_access_of_the_processor(self, buffer, busy, access):
        def begin() -> None:
            buffer.begin_access(access)
            buffer.end_access(access)

        def enter() -> None:
            with buffer.access(access):
                pass

        for begins in (begin, enter):
            assert sleeps(begins) is (access in busy)

    @pytest.mark.needs("export")
    def test_by_an_exported_fence(self, buffer, busy, access):
        with buffer.export_fence(access) as fence:
            assert fence.signaled is (access not in busy)
            assert fence.error is None

    def test_until_it_is_signalled(self, buffer, busy, access, device):
        if access in busy:
            with once_asleep(POLL, device.close):
                assert buffer.wait(access) is True
        assert buffer.wait(access) is True
        buffer.begin_access(access)
        buffer.end_access(access)


@pytest.mark.needs("vgem", "export")
class TestExport:
    def test_of_an_idle_buffer_it_is_signalled(self, buffer):
        for access in ALL:
            with buffer.export_fence(access) as fence:
                assert fence.status is FenceStatus.SIGNALED
                assert fence.wait()

    def test_is_a_snapshot(self, buffer, device, gem):
        with buffer.export_fence(READ_WRITE) as idle:
            first = device.attach_fence(gem, READ)
            with buffer.export_fence(WRITE) as one:
                assert idle.signaled
                second = device.attach_fence(gem, READ)
                with buffer.export_fence(WRITE) as two:
                    assert [len(fence.info().points) for fence in (one, two)] == [1, 2]
                    first.signal()
                    assert [one.signaled, two.signaled] == [True, False]
                    second.signal()
                    assert two.signaled

    def test_outlives_its_buffer(self, allocate, device):
        with allocate(4096) as buffer, device.import_buffer(buffer) as gem:
            attached = device.attach_fence(gem, WRITE)
            fence = buffer.export_fence(READ)
        with fence:
            assert not fence.signaled
            attached.signal()
            assert fence.wait()

    def test_does_not_wait(self, buffer, device, gem):
        device.attach_fence(gem, WRITE)
        assert not sleeps(lambda: buffer.export_fence(READ_WRITE).close())

    def test_is_closed_on_exec(self, buffer):
        with buffer.export_fence(READ) as fence:
            assert not os.get_inheritable(fence.fileno())


@pytest.mark.needs("export")
class TestImport:
    @on_each
    def test_a_fence_makes_another_buffer_busy(self, buffer, pending, access):
        buffer.import_fence(pending.fence, access)
        assert buffer.is_idle(READ) is (access is READ)
        assert not buffer.is_idle(WRITE)
        assert not buffer.is_idle(READ_WRITE)
        with pending.fence.dup() as fence:
            pending.fence.close()  # the buffer has it by now
            assert not buffer.is_idle(WRITE)
            with once_asleep(POLL, pending.signal):
                assert buffer.wait(WRITE)
            assert fence.signaled

    def test_readers_gather_and_writers_gather(self, buffer, source):
        pendings = source.many(4)
        for one, access in zip(pendings, (READ, READ, WRITE, WRITE), strict=True):
            buffer.import_fence(one.fence, access)
            one.fence.close()
        with buffer.export_fence(READ) as writers, buffer.export_fence(WRITE) as everybody:
            assert [len(f.info().points) for f in (writers, everybody)] == [2, 4]
            for number, one in enumerate(pendings):
                assert not everybody.signaled
                assert not writers.signaled, number
                one.signal()
            assert everybody.signaled
            assert writers.signaled
        assert buffer.is_idle(WRITE)

    def test_what_has_signalled_keeps_nobody_waiting(self, buffer, pending):
        pending.signal()
        buffer.import_fence(pending.fence, WRITE)
        assert buffer.is_idle(READ)
        assert buffer.is_idle(WRITE)

    def test_a_merged_fence_holds_until_all_have_signalled(self, buffer, source):
        first, second = source.many(2)
        with first.fence, second.fence, first.fence & second.fence as merged:
            buffer.import_fence(merged, WRITE)
        for one in (first, second):
            assert not buffer.is_idle(READ)
            one.signal()
        assert buffer.is_idle(READ)

    def test_the_same_fence_in_many_buffers(self, allocate, pending):
        with contextlib.ExitStack() as stack:
            buffers = [stack.enter_context(allocate(4096)) for _ in range(16)]
            for buffer in buffers:
                buffer.import_fence(pending.fence, WRITE)
            assert not any(buffer.is_idle(READ) for buffer in buffers)
            pending.signal()
            assert all(buffer.is_idle(READ) for buffer in buffers)

    def test_only_a_fence_is_imported(self, buffer, pending):
        for wrong in (buffer, None, pending.fence.fileno(), "fence"):
            with pytest.raises(TypeError, match=f"Fence, not {type(wrong).__name__}"):
                buffer.import_fence(wrong, WRITE)
        for wrong, error in ((0, ValueError), (4, ValueError), (True, TypeError), ("w", TypeError)):
            with pytest.raises(error, match="access must be"):
                buffer.import_fence(pending.fence, wrong)
        assert buffer.is_idle(WRITE)

    def test_a_closed_fence_and_a_closed_buffer_are_refused(self, buffer, pending):
        fence = pending.fence.dup()
        fence.close()
        with pytest.raises(ValueError, match=r"closed Fence"):
            buffer.import_fence(fence, WRITE)
        other = buffer.dup()
        other.close()
        with pytest.raises(ValueError, match=r"closed Buffer"):
            other.import_fence(pending.fence, WRITE)
        assert buffer.is_idle(WRITE)


class TestRefusals:
    @pytest.mark.parametrize(
        "use",
        [
            lambda b, a: b.is_idle(a),
            lambda b, a: b.wait(a),
            lambda b, a: b.wait(a, 0),
            lambda b, a: b.export_fence(a),
            lambda b, a: b.begin_access(a),
        ],
    )
    def test_of_what_is_no_access_and_of_a_closed_buffer(self, buffer, use):
        for wrong, error in ((0, ValueError), (4, ValueError), (True, TypeError), ("r", TypeError)):
            with pytest.raises(error, match="access must be"):
                use(buffer, wrong)
        other = buffer.dup()
        other.close()
        for access in ALL:
            with pytest.raises(ValueError, match=r"closed.*\[closed\]"):
                use(other, access)

    def test_of_a_timeout_that_is_no_number(self, buffer):
        with pytest.raises(ValueError, match="nan"):
            buffer.wait(READ, float("nan"))
        with pytest.raises(TypeError):
            buffer.wait(READ, "1")

    @pytest.mark.needs("vgem", "no export")
    def test_of_export_and_import_before_linux_6_0(self, buffer):
        for access in ALL:
            with pytest.raises(dmabuf.UnsupportedError, match=r"needs Linux 6\.0") as caught:
                buffer.export_fence(access)
            assert caught.value.errno == errno.ENOTTY
            assert os.uname().release in str(caught.value)
        fence = own_fence(partial(duplicate, buffer.fileno()))  # there are no real ones here
        with fence, pytest.raises(dmabuf.UnsupportedError, match=r"needs Linux 6\.0") as caught:
            buffer.import_fence(fence, READ)
        assert caught.value.errno == errno.ENOTTY


@pytest.mark.needs("vgem")
class TestReadersAndWriters:
    def test_readers_hold_writers_back_until_the_last(self, buffer, device, gem):
        readers = [device.attach_fence(gem, READ) for _ in range(32)]
        for reader in readers:
            assert buffer.is_idle(READ)
            assert not buffer.is_idle(WRITE)
            reader.signal()
        assert buffer.is_idle(WRITE)

    @pytest.mark.needs("export")
    def test_a_writer_among_readers_holds_everybody_back(self, buffer, device, gem, source):
        readers = [device.attach_fence(gem, READ) for _ in range(32)]
        writer = source.pending()
        with writer.fence:
            buffer.import_fence(writer.fence, WRITE)
        with buffer.export_fence(READ) as writers, buffer.export_fence(WRITE) as everybody:
            assert len(writers.info().points) == 1
            assert len(everybody.info().points) == 33
            for reader in readers[:16]:
                reader.signal()
            assert not buffer.is_idle(READ)
            writer.signal()
            assert buffer.is_idle(READ)
            assert not buffer.is_idle(WRITE)
            assert writers.signaled
            assert not everybody.signaled
            for reader in readers[16:]:
                reader.signal()
            assert buffer.is_idle(WRITE)
            assert everybody.signaled


@pytest.mark.needs("vgem")
@pytest.mark.parametrize("several", [False, True])
def test_a_wait_goes_on_when_another_thread_closes_the_buffer(buffer, device, gem, several):
    fence = device.attach_fence(gem, WRITE)
    other = buffer.dup()
    number = other.fileno()

    def close_and_signal() -> None:
        other.close()
        assert os.fstat(number).st_ino == buffer.inode  # the wait's hold keeps it
        fence.signal()

    with once_asleep(POLL, close_and_signal):
        if several:
            assert dmabuf.wait_any([(other, READ)], 30) == (other, READ)
        else:
            assert other.wait(READ, 30)
    with pytest.raises(ValueError, match="closed"):
        other.wait(READ, 0)
