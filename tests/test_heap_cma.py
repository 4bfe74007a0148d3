"""The CMA heap: memory in one piece, from a region that the kernel lends to others meanwhile."""

import errno
import os
import re

import numpy
import pytest
from helpers.process import ABSURD, in_child, meminfo
from test_udmabuf import HUGE, HUGEPAGES, setting

import dmabuf
from dmabuf import Access
from dmabuf.cli import main

pytestmark = pytest.mark.needs("CMA heap", "own machine")
PAGE = 4096
MIB = 1 << 20


@pytest.fixture
def info():
    return next(info for info in dmabuf.heaps() if info.contiguous)


@pytest.fixture
def heap(info):
    with dmabuf.Heap(info) as heap:
        yield heap


@pytest.fixture
def region():
    """Give the bytes of all CMA regions."""
    return meminfo("CmaTotal")


class TestMemory:
    def test_is_of_the_heap_and_zeroed_also_when_it_was_used_before(self, heap):
        for _ in range(3):
            with heap.allocate(MIB + 1, name="frame") as buffer:
                assert buffer.exporter == heap.name
                assert (buffer.size, buffer.name) == (MIB + PAGE, "frame")
                with buffer.read_write() as memory:
                    assert not any(numpy.frombuffer(memory, "u8"))
                    memory[:] = b"\xff" * buffer.size

    def test_outlives_descriptor_and_heap(self, info):
        with dmabuf.Heap(info) as heap, heap.allocate(MIB) as buffer:
            array = buffer.array(MIB)
        array[:] = 7
        assert array.sum() == 7 * MIB

    def test_is_had_by_devices_and_carries_their_fences(self, heap, device):
        with heap.allocate(MIB) as buffer, device.import_buffer(buffer) as gem:
            fence = device.attach_fence(gem, Access.WRITE)
            assert not buffer.is_idle(Access.READ)
            fence.signal()
            assert buffer.wait(Access.READ_WRITE, 1)


class TestLimit:
    def test_is_the_region_which_can_be_had_again_at_once(self, heap, region):
        """Pages that were freed lately stand in no CmaFree; the kernel finds them all the same."""
        for _ in range(3):
            with heap.allocate(region) as buffer:
                assert buffer.size == region

    def test_is_not_lowered_by_files_that_the_kernel_keeps_there(self, heap, region, tmp_path):
        file = tmp_path / "cached"
        file.write_bytes(bytes(32 * MIB))
        with heap.allocate(region):
            pass
        assert file.read_bytes() == bytes(32 * MIB)

    @pytest.mark.parametrize("size", ["one more", *ABSURD])
    def test_is_refused_with_all_numbers(self, heap, region, size):
        if size == "one more":
            size = region + 1
        text = rf"{size} bytes wanted in one piece, \d+ of {region} free "
        with pytest.raises(dmabuf.AllocationError, match=text) as caught:
            heap.allocate(size)
        assert caught.value.errno == errno.ENOMEM
        assert "boot with a larger cma=" in str(caught.value)

    def test_of_what_is_taken_is_the_kernels_answer_with_the_numbers(self, heap, region):
        with heap.allocate(region) as everything:
            for size in (1, MIB, region):
                text = rf"{size} bytes wanted in one piece, \d+ of {region} free .*close buffers"
                with pytest.raises(dmabuf.AllocationError, match=text) as caught:
                    heap.allocate(size)
                assert caught.value.errno == errno.ENOMEM
            assert everything.array(1)[0] == 0
        heap.allocate(region).close()

    def test_of_one_piece_is_told_from_what_is_free_in_many(self, heap, region):
        buffers = [heap.allocate(MIB) for _ in range(region // MIB)]
        for buffer in buffers[::2]:
            buffer.close()
        words = (
            "largest free piece may be smaller, and what was just closed comes back with a delay"
            ".*; root reads the largest, in pages, in /sys/kernel/debug/cma/.*/maxchunk"
        )
        with pytest.raises(dmabuf.AllocationError, match=words) as caught:
            heap.allocate(2 * MIB)
        assert caught.value.errno == errno.ENOMEM
        heap.allocate(MIB).close()
        for buffer in buffers:
            buffer.close()

    def test_is_met_by_the_commands_too(self, info, region, capsys):
        assert main([str(region), "--heap", info.name]) == 0
        assert info.name in capsys.readouterr().out
        assert main(["--heap", info.name, "--count", "2", str(region)]) == 1
        text = rf"2 x {region // MIB} MiB: {2 * region} bytes wanted in one piece, \d+ of {region}"
        assert re.search(text, capsys.readouterr().err)


class TestBest:
    def test_is_it_before_udmabuf_where_there_is_no_system_heap(self, info):
        system = "/dev/dma_heap/system"
        os.rename(system, "/dev/system_kept_by_a_test")
        try:
            with dmabuf.allocate(PAGE) as buffer:
                assert buffer.exporter == info.name
        finally:
            os.rename("/dev/system_kept_by_a_test", system)

    def test_is_it_for_who_chooses_it(self, info):
        for chosen in ([info], [info.name], ["nope", info.path]):
            with dmabuf.allocate(PAGE, heaps=chosen, name="mine") as buffer:
                assert (buffer.exporter, buffer.name) == (info.name, "mine")


def test_what_is_free_in_the_region_is_not_for_other_buffers(region):
    """MemAvailable counts it; to ask for it would have processes killed."""

    def fill():
        with dmabuf.Heap() as system:
            buffers = []
            try:
                while True:
                    buffers.append(system.allocate(32 * MIB))
            except dmabuf.AllocationError as error:
                refused = str(error)
        with setting(HUGEPAGES / "nr_hugepages", 4):  # movable, so that they come from there
            try:
                dmabuf.udmabuf.allocate(HUGE, hugepages=HUGE).close()
            except dmabuf.AllocationError as error:
                return meminfo("CmaFree"), refused, str(error)

    left, refused, huge = in_child(fill)
    assert "less CmaFree" in refused
    assert left > region // 2
    assert "1 huge pages of 2097152 bytes wanted, 4 free, but in memory kept for CMA" in huge
    assert "boot, with hugepages=" in huge
