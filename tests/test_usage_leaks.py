"""Leak finding: what a block opened and did not close."""

import gc
import mmap
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers import drm
from helpers.peer import Peer

import dmabuf
from dmabuf import _idle, usage
from dmabuf._ioctl import dma_buf_set_name
from dmabuf.devices.drm import Device, Syncobj, Vgem


def leaks_of(body, **options):
    """Return what leak_check finds in a body; what the body returns is kept until then."""
    with pytest.raises(usage.LeakError) as caught, usage.leak_check(**options):
        kept = body()
    return caught.value, kept


def test_a_clean_block_passes(allocate):
    with usage.leak_check(), allocate(4096) as buffer, buffer.dup():
        assert buffer.memory


def test_a_buffer_left_open_is_listed(allocate):
    error, buffer = leaks_of(lambda: allocate(8192, name="ring"))
    with buffer:
        (leak,) = error.leaks
        assert leak[:4] == ("buffer", buffer.inode, 8192, "ring")
        assert leak.descriptors == (buffer.fileno(),)
        for part in (
            f"buffer {buffer.inode} 'ring'",
            "8,192 bytes",
            "trace=True",
            "DMABUF_TRACE=1",
        ):
            assert part in str(error)


def test_a_name_sends_nothing_to_a_terminal_from_the_message(allocate):
    def body():
        buffer = allocate(8192)
        dma_buf_set_name(buffer.fileno(), b"\x1b[2J\nx\xff")
        return buffer

    error, buffer = leaks_of(body)
    buffer.close()
    assert os.fsencode(error.leaks[0].name) == b"\x1b[2J\nx\xff"
    assert all(line.isprintable() for line in str(error).splitlines())
    assert str(error).count("\n") == 2


def test_a_bare_descriptor_left_open_is_listed(buffer):
    error, number = leaks_of(lambda: os.dup(buffer.fileno()))
    os.close(number)
    assert [leak.descriptors for leak in error.leaks] == [(number,)]


def test_a_duplicate_of_an_older_buffer_is_a_leak_also_if_it_was_mapped(buffer):
    def body():
        twin = buffer.dup()
        return twin, twin.memory

    error, (twin, _) = leaks_of(body)
    twin.close()
    assert error.leaks[0].descriptors


def test_the_first_mapping_of_an_older_buffer_is_none(buffer):
    with usage.leak_check():
        assert buffer.memory


@pytest.mark.needs("export")  # Linux 5.10 does not show the mapping, so its descriptor is left
def test_a_first_mapping_by_mmap_is_none(buffer):
    with usage.leak_check():
        mapping = mmap.mmap(buffer.fileno(), buffer.size)
    mapping.close()


@pytest.mark.needs("export")
def test_a_mapping_left_behind_is_a_leak(allocate):
    def body():
        with allocate(8192) as buffer:
            return buffer.memory

    error, memory = leaks_of(body)
    (leak,) = error.leaks
    assert (leak.mapped, leak.descriptors, leak.size) == (8192, (), 8192)
    del memory


def test_a_buffer_that_takes_an_older_ones_number_is_a_leak(allocate):
    older = allocate(4096)
    number = older.fileno()

    def body():
        older.close()
        return allocate(4096)

    error, buffer = leaks_of(body)
    buffer.close()
    assert [leak.descriptors for leak in error.leaks] == [(number,)]


@pytest.mark.needs("root")
def test_a_file_that_is_called_as_a_dma_buf_is_none():
    path = Path("/dmabuf:x")
    path.write_bytes(bytes(4096))
    try:
        with usage.leak_check():
            file = path.open("r+b")
            mapping = mmap.mmap(file.fileno(), 4096)
    finally:
        path.unlink()
        mapping.close()
        file.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_garbage_is_none(allocate):
    with usage.leak_check():
        circle = [allocate(4096)]
        circle.append(circle)
        del circle
    gc.collect()


def test_what_another_thread_closes_a_moment_later_is_none(allocate):
    with usage.leak_check():
        buffer = allocate(4096)
        thread = threading.Thread(target=lambda: (time.sleep(0.05), buffer.close()))
        thread.start()
    thread.join()


def test_a_buffer_of_a_device_left_open_is_listed(buffer, device):
    error, gem = leaks_of(lambda: device.import_buffer(buffer), trace=True)
    gem.close()
    (leak,) = error.leaks
    assert leak.what.startswith("<dmabuf.devices.drm.GemBuffer handle=")
    assert "device.import_buffer(buffer)" in "".join(leak.allocated)


@pytest.mark.needs("vgem")
def test_a_device_that_is_closed_takes_its_handles_with_it(buffer):
    with usage.leak_check(), Vgem() as device:
        gem = device.import_buffer(buffer)
    assert gem.closed


@pytest.mark.needs("syncobj")
def test_a_sync_object_left_open_is_listed():
    with Device(drm.node("timeline")) as gpu:
        error, syncobj = leaks_of(lambda: Syncobj(gpu))
        syncobj.close()
    assert "Syncobj" in str(error)


@pytest.mark.needs("heap")
def test_a_heap_left_open_is_listed():
    error, heap = leaks_of(lambda: dmabuf.Heap("system"))
    number = heap.fileno()
    heap.close()
    assert [leak[0] for leak in error.leaks] == ["/dev/dma_heap/system"]
    assert error.leaks[0].descriptors == (number,)


def test_a_fence_left_open_is_listed(pending):
    error, fence = leaks_of(lambda: pending.fence.dup())
    fence.close()
    assert [leak.what for leak in error.leaks] == ["anon_inode:sync_file"]


def test_a_trace_tells_where_and_equal_ones_once(allocate):
    def body():
        return [allocate(4096) for _ in range(3)]

    error, buffers = leaks_of(body, trace=True)
    for buffer in buffers:
        buffer.close()
    text = str(error)
    assert text.count("return [allocate(4096) for _ in range(3)]") >= 1
    assert "allocated 3 times here:" in text
    assert text.count("in body") == 1
    assert "leaks_of" in text, "the frame of the block is the outermost"
    assert "runpy" not in text
    assert "pluggy" not in text
    assert "trace=True), or" not in text


def test_the_environment_switches_traces_on(allocate, monkeypatch):
    monkeypatch.setenv("DMABUF_TRACE", "1")
    error, buffer = leaks_of(lambda: allocate(4096))
    buffer.close()
    assert "allocated here:" in str(error)


def test_the_bodys_own_exception_wins(allocate):
    kept = []

    @usage.leak_check()
    def body():
        kept.append(allocate(4096))
        return 1 / 0

    with pytest.raises(ZeroDivisionError):
        body()
    kept.pop().close()


def test_nested_checks_each_tell_their_own(allocate):
    with usage.leak_check():
        error, buffer = leaks_of(lambda: allocate(4096), trace=True)
        buffer.close()
    assert "allocated here:" in str(error)


def test_nothing_is_noted_outside_of_a_check(allocate):
    from dmabuf import _fd

    with usage.leak_check():
        assert _fd.on_open is not None
    assert _fd.on_open is None


def test_what_a_keeper_has_idle_is_none(allocate):
    class Shelf:
        def __init__(self):
            self.buffers = []

        def idle(self):
            return self.buffers

    shelf = Shelf()
    _idle.register(shelf)
    with usage.leak_check():
        shelf.buffers.append(allocate(4096))
        assert shelf.buffers[0].memory
    shelf.buffers.pop().close()


def test_a_check_works_as_a_decorator(allocate):
    @usage.leak_check()
    def leaky():
        kept.append(allocate(4096))

    for _ in range(2):
        kept = []
        with pytest.raises(usage.LeakError):
            leaky()
        kept.pop().close()


class TestChildren:
    def test_a_childs_new_buffer_is_a_leak_and_an_older_one_is_none(self, buffer, allocate):
        with Peer() as peer:
            with usage.leak_check(children=True):
                peer.do("import os")

            def body():
                with allocate(4096, name="passed") as passed:
                    peer.send(passed.fileno())
                    return passed.inode, peer.do("result = receive()")

            error, (inode, number) = leaks_of(body, children=True)
            (leak,) = error.leaks
            assert (leak.inode, leak.name, leak.pid) == (inode, "passed", peer.pid)
            assert leak.descriptors == (number,)
            assert f"in child process {peer.pid}" in str(error)

    def test_without_children_they_are_not_looked_at(self, allocate):
        with Peer() as peer, usage.leak_check():
            with allocate(4096) as passed:
                peer.send(passed.fileno())
            peer.do("receive()")

    def test_a_child_that_has_ended_is_none(self, allocate):
        with usage.leak_check(children=True), allocate(4096), Peer():
            pass


def test_what_is_kept_is_told_also_while_others_come_to_keep_more():
    """As other threads and signal handlers may, wherever code of Python's is run."""

    class Keeper:
        def idle(self):
            return ()

    keepers = []

    def come(*_):
        keepers.append(Keeper())
        _idle.register(keepers[-1])

    come()
    sys.setprofile(come)
    try:
        _idle.descriptors()
    finally:
        sys.setprofile(None)
    assert len(keepers) > 1
