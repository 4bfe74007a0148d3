"""Allocations inside of the kernel that fail, one after the other: an error, and nothing lost."""

import contextlib
import errno
import itertools
import os
from pathlib import Path

import pytest
from helpers.features import INJECTED
from helpers.leaks import kernel_buffers
from test_udmabuf import setting

import dmabuf
from dmabuf import Access
from dmabuf.sw_sync import Timeline

pytestmark = pytest.mark.needs("injected failures", "own machine")
PAGES = "/sys/kernel/debug/fail_page_alloc"
SIZE = 64 << 10
LACK = (errno.ENOMEM, errno.ENOSPC)  # the second for shared memory: mm/shmem.c


@pytest.fixture(autouse=True)
def every_kind():
    """Have all allocations fail that may, in silence (lib/fault-inject.c)."""
    with contextlib.ExitStack() as settings:
        for path, value in (
            (f"{INJECTED}/ignore-gfp-wait", "N"),
            (f"{INJECTED}/verbose", "0"),
            (f"{PAGES}/ignore-gfp-wait", "N"),
            (f"{PAGES}/ignore-gfp-highmem", "N"),
            (f"{PAGES}/min-order", "0"),
            (f"{PAGES}/verbose", "0"),
        ):
            settings.enter_context(setting(Path(path), value))
        yield


def fail_each(call):
    """Call with the first allocation failing, then the second, until there are no more.

    Returns the errors. The kernel may do without an allocation, and then there is none.
    """
    call()  # which imports what it needs
    errors = []
    nth = os.open("/proc/thread-self/fail-nth", os.O_RDWR)
    try:
        for number in itertools.count(1):
            buffers, descriptors = kernel_buffers(), os.listdir("/proc/self/fd")
            os.pwrite(nth, str(number).encode(), 0)
            try:
                call()
            except (OSError, MemoryError) as error:
                errors.append(error)
            finally:
                left = int(os.pread(nth, 16, 0).strip(b"\0\n"))
                os.pwrite(nth, b"0", 0)
            assert kernel_buffers() == buffers, errors[-1:]
            assert os.listdir("/proc/self/fd") == descriptors, errors[-1:]
            if left:
                return errors
    finally:
        os.close(nth)


def closed(make):
    """Return a call that closes at once what it makes."""

    def call() -> None:
        made = make()
        made.close()

    return call


def assert_no_memory(errors, kind):
    """Assert that there were errors of this kind, and each says that memory lacks."""
    assert any(isinstance(error, kind) for error in errors), errors
    for error in errors:
        assert isinstance(error, MemoryError) or error.errno in LACK


@pytest.mark.parametrize(
    "name", ["system", pytest.param("reserved", marks=pytest.mark.needs("CMA heap"))]
)
def test_a_heap_says_that_memory_lacks(name):
    with dmabuf.Heap(name) as heap:
        errors = fail_each(closed(lambda: heap.allocate(SIZE, name="frame")))
        assert_no_memory(errors, dmabuf.AllocationError)
        heap.allocate(SIZE).close()


def test_udmabuf_says_that_memory_lacks():
    errors = fail_each(closed(lambda: dmabuf.udmabuf.allocate(SIZE)))
    assert_no_memory(errors, OSError)
    dmabuf.udmabuf.allocate(SIZE).close()


def test_opening_an_exporter_loses_nothing():
    assert_no_memory(fail_each(closed(dmabuf.Heap)), OSError)


def test_a_mapping_loses_nothing(allocate):
    def look() -> None:
        with buffer.dup() as other, other.read_write() as memory:
            memory[0] = 1

    with allocate(SIZE) as buffer:
        assert_no_memory(fail_each(look), OSError)
        look()


@pytest.mark.needs("sw_sync")
class TestFences:
    @pytest.fixture
    def timeline(self):
        with Timeline() as timeline:
            yield timeline

    def test_a_timeline_and_its_fences(self, timeline):
        assert_no_memory(fail_each(closed(Timeline)), OSError)
        assert_no_memory(fail_each(closed(lambda: timeline.fence(1))), OSError)

    def test_a_merge_of_many(self, timeline):
        with contextlib.ExitStack() as stack:
            others = [stack.enter_context(Timeline()) for _ in range(7)]
            fences = [stack.enter_context(one.fence(1)) for one in (timeline, *others)]
            errors = fail_each(closed(lambda: fences[0].merge(*fences[1:], name="all")))
            assert_no_memory(errors, OSError)
            assert len(errors) > 7
            with fences[0].merge(*fences[1:]) as merged:
                assert len(merged.info().points) == 8

    def test_info(self, timeline):
        with (
            Timeline() as other,
            timeline.fence(1) as one,
            other.fence(1) as two,
            one & two as merged,
        ):
            assert_no_memory(fail_each(merged.info), OSError)

    def test_export_and_import(self, timeline, buffer):
        with timeline.fence(1) as fence:
            buffer.import_fence(fence, Access.WRITE)
            errors = fail_each(closed(lambda: buffer.export_fence(Access.READ)))
            assert_no_memory(errors, OSError)
            fail_each(lambda: buffer.import_fence(fence, Access.READ))
        timeline.advance()
        assert buffer.is_idle(Access.WRITE)

    def test_a_wait(self, timeline):
        with timeline.fence(1) as fence:
            fail_each(lambda: fence.wait(0))
            assert fence.wait(0) is False


@pytest.mark.needs("vgem")
def test_devices_lose_nothing(buffer, device):
    def work() -> None:
        with device.import_buffer(buffer) as gem:
            fence = device.attach_fence(gem, Access.WRITE)
            fence.signal()

    assert_no_memory(fail_each(work), OSError)
    work()
    assert buffer.is_idle(Access.WRITE)
