"""The mapping: made once, read-only where the descriptor is, and never pulled from under a view."""

import errno
import gc
import re
import textwrap
import threading

import numpy
import pytest
from helpers.leaks import descriptors
from helpers.program import run_program

import dmabuf
from dmabuf import Access


def mappings(inode: int) -> int:
    """Return how often a dma-buf is mapped into this process.

    Linux 5.10 shows a mapping of vgem's as the DRM device's own, with the file's inode.
    """
    with open("/proc/self/maps") as lines:
        return len(re.findall(rf" {inode} +/|/drm mm object", lines.read()))


def survive(body: str) -> str:
    """Run a program in a process of its own, whose death would be by SIGSEGV or SIGBUS."""
    prologue = """
        import gc, os, sys
        import numpy, dmabuf
        from helpers.buffers import allocate
    """
    run = run_program(textwrap.dedent(prologue) + textwrap.dedent(body))
    assert run.returncode == 0, f"status {run.returncode}: {run.stderr}"
    return run.stdout


class TestMapping:
    def test_memory_is_zeroed_bytes_of_the_whole_buffer(self, buffer):
        memory = buffer.memory
        assert (memory.nbytes, memory.format, memory.ndim) == (8192, "B", 1)
        assert bytes(memory) == bytes(8192)

    def test_is_made_when_first_asked_for_and_once(self, buffer):
        assert mappings(buffer.inode) == 0
        views = [buffer.memory, buffer.memory, buffer.array(8192)]
        with buffer.read() as memory:
            assert mappings(buffer.inode) == 1
            views.append(memory)
        assert mappings(buffer.inode) == 1

    def test_is_made_once_by_many_threads(self, buffer):
        barrier = threading.Barrier(8)
        views = []

        def look() -> None:
            barrier.wait()
            views.append(buffer.memory)

        threads = [threading.Thread(target=look) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(views) == 8
        assert mappings(buffer.inode) == 1

    def test_costs_no_descriptor(self, buffer):
        before = descriptors()
        assert buffer.memory
        assert descriptors() == before

    def test_is_shared_by_duplicates(self, buffer):
        with buffer.dup() as other:
            buffer.memory[4096:4101] = b"hello"
            assert bytes(other.memory[4096:4101]) == b"hello"

    def test_goes_with_the_last_view(self, allocate):
        buffer = allocate(4096)
        inode = buffer.inode
        view = buffer.memory
        array = buffer.array(16)
        buffer.close()
        assert mappings(inode) == 1
        view.release()
        assert mappings(inode) == 1
        del array
        assert mappings(inode) == 0

    def test_memory_is_a_fresh_view_each_time(self, buffer):
        first = buffer.memory
        first.release()
        assert buffer.memory[0] == 0


@pytest.mark.needs("heap")
class TestAccessMode:
    @pytest.fixture
    def heap(self):
        with dmabuf.Heap("system") as heap:
            yield heap

    def test_a_read_only_descriptor_maps_read_only(self, heap):
        with heap.allocate(4096, access=Access.READ) as buffer:
            assert buffer.memory.readonly
            with buffer.read() as memory:
                assert memory.readonly
            array = buffer.array(4096)
            assert not array.flags.writeable
            with pytest.raises(ValueError, match="WRITEABLE"):
                array.flags.writeable = True
            with pytest.raises(TypeError, match="read-only"):
                buffer.memory[0] = 1

    def test_a_write_to_a_read_only_descriptor_is_refused_before_any_ioctl(self, heap):
        with heap.allocate(4096, access=Access.READ) as buffer:
            for scope in (buffer.write(), buffer.read_write(), buffer.access(Access.WRITE)):
                with pytest.raises(PermissionError, match="READ_WRITE") as caught:
                    scope.__enter__()
                assert caught.value.errno == errno.EACCES
            with pytest.raises(PermissionError, match="READ_WRITE"):
                buffer.array(1, writable=True)

    def test_a_write_only_descriptor_can_not_be_mapped(self, heap):
        with heap.allocate(4096, access=Access.WRITE) as buffer:
            for use in (lambda: buffer.memory, lambda: buffer.write().__enter__()):
                with pytest.raises(PermissionError, match="write-only") as caught:
                    use()
                assert caught.value.errno == errno.EACCES
            buffer.begin_access(Access.WRITE)
            buffer.end_access(Access.WRITE)

    def test_a_read_only_duplicate_of_nothing_is_shared_by_all_descriptors(self, heap):
        with heap.allocate(4096, access=Access.READ) as buffer, buffer.dup() as other:
            assert other.memory.readonly


class TestArray:
    def test_is_the_memory_itself(self, buffer):
        array = buffer.array((2, 512), "<u4", offset=4096)
        array[1, 511] = 0x01020304
        assert bytes(buffer.memory[-4:]) == b"\4\3\2\1"
        assert array.flags.writeable
        assert not array.flags.owndata

    def test_shape_may_be_an_int_and_may_be_empty(self, buffer):
        assert buffer.array(8192).shape == (8192,)
        assert buffer.array(()).shape == ()
        assert buffer.array((0, 7), offset=8192).size == 0

    def test_strides_step_in_bytes_also_backwards(self, buffer):
        buffer.memory[:8] = bytes(range(8))
        assert buffer.array(4, strides=(2,)).tolist() == [0, 2, 4, 6]
        assert buffer.array(4, strides=(-1,), offset=3).tolist() == [3, 2, 1, 0]
        assert buffer.array((2, 2), strides=(0, 1)).tolist() == [[0, 1], [0, 1]]

    def test_structured_and_foreign_endian_dtypes(self, buffer):
        pixel = numpy.dtype([("r", "u1"), ("g", "u1"), ("b", "u1")])
        buffer.array((10, 10), pixel)["g"] = 9
        assert bytes(buffer.memory[:6]) == b"\0\x09\0\0\x09\0"
        buffer.array(1, ">u2", offset=100)[0] = 0x0102
        assert bytes(buffer.memory[100:102]) == b"\1\2"

    @pytest.mark.parametrize(
        ("shape", "dtype", "options"),
        [
            (8193, "u1", {}),
            (1, "u1", {"offset": 8192}),
            (1, "u1", {"offset": -1}),
            (2, "u1", {"strides": (8192,)}),
            (2, "u1", {"strides": (-1,)}),
            ((3, 4096), "u1", {}),
            ((1 << 40, 1 << 40), "u1", {}),
            (2**63, "u8", {}),
        ],
    )
    def test_what_reaches_outside_is_refused(self, buffer, shape, dtype, options):
        with pytest.raises(ValueError, match=r"the buffer has 0 to 8192|divides"):
            buffer.array(shape, dtype, **options)

    @pytest.mark.parametrize("options", [{"offset": 2}, {"strides": (6,)}])
    def test_what_is_misaligned_is_refused(self, buffer, options):
        with pytest.raises(ValueError, match="multiples of 4"):
            buffer.array(2, "u4", **options)

    @pytest.mark.parametrize(
        ("shape", "dtype", "strides", "error", "word"),
        [
            (-1, "u1", None, ValueError, "negative"),
            ((2, 2), "u1", (1,), ValueError, "2 dimensions"),
            (1, "O", None, ValueError, "shared memory"),
            (1, "V0", None, ValueError, "shared memory"),
            (1, "no such", None, TypeError, "no such"),
            (1.5, "u1", None, TypeError, "shape must be in whole numbers, not 1.5"),
            ("12", "u1", None, TypeError, "shape must be in whole numbers, not '12'"),
            (None, "u1", None, TypeError, "shape must be in whole numbers, not None"),
            (True, "u1", None, TypeError, "shape must be in whole numbers"),
            ((2, True), "u1", None, TypeError, "shape must be in whole numbers"),
            ((2, 2.0), "u1", None, TypeError, "shape must be in whole numbers"),
            (numpy.array([2.0]), "u1", None, TypeError, "shape must be in whole numbers"),
            (2, "u1", 1, TypeError, "strides must be in whole numbers, not 1"),
        ],
    )
    def test_nonsense_is_refused(self, buffer, shape, dtype, strides, error, word):
        with pytest.raises(error, match=word):
            buffer.array(shape, dtype, strides=strides)

    def test_an_offset_that_is_no_whole_number_is_refused(self, buffer):
        for offset in (1.0, "1", None, True):
            with pytest.raises(TypeError, match="offset must be in whole numbers"):
                buffer.array(1, offset=offset)

    @pytest.mark.parametrize(
        "shape", [[2, 3], numpy.array([2, 3]), (numpy.int64(2), numpy.uint8(3)), range(2, 4)]
    )
    def test_a_shape_is_any_sequence_of_whole_numbers(self, buffer, shape):
        assert buffer.array(shape).shape == (2, 3)
        assert buffer.array(2, strides=numpy.array([3])).strides == (3,)
        assert buffer.array(numpy.int64(7)).shape == (7,)
        assert buffer.array(numpy.array(7)).shape == (7,)

    def test_read_only_arrays_can_not_be_made_writable(self, buffer):
        array = buffer.array(4, writable=False)
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.setflags(write=True)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1

    def test_arrays_of_a_read_scope_are_read_only_and_stay_valid(self, buffer):
        buffer.memory[0] = 7
        with buffer.read() as memory:
            for array in (numpy.frombuffer(memory, "u1"), numpy.asarray(memory)):
                assert not array.flags.writeable
                with pytest.raises(ValueError, match="WRITEABLE"):
                    array.flags.writeable = True
        with pytest.raises(ValueError, match="released"):
            memory[0]
        assert array[0] == 7


@pytest.mark.needs("exporter")
class TestSurvival:
    def test_views_outlive_close_and_collection(self):
        assert "done" in survive("""
            views = []
            for make in (lambda b: b.memory, lambda b: b.array(4096),
                         lambda b: numpy.asarray(b.memory), lambda b: b.array(8, "u8")[2:4]):
                buffer = allocate(4096)
                view = make(buffer)
                buffer.close()
                del buffer
                gc.collect()
                allocate(1 << 20).close()
                view[0] = 5
                assert view[0] == 5
                views.append(view)
            for view in views:
                assert view[0] == 5
            print("done")
        """)

    def test_arrays_of_a_scope_outlive_it_and_the_buffer(self):
        assert "done" in survive("""
            with allocate(4096) as buffer:
                with buffer.write() as memory:
                    array = numpy.frombuffer(memory, "u4")
                    array[:] = 3
            del buffer, memory
            gc.collect()
            array[0] += 1
            assert array[0] == 4 and array[-1] == 3
            print("done")
        """)

    def test_views_outlive_fork_in_both_processes(self):
        assert "done" in survive("""
            buffer = allocate(4096)
            array = buffer.array(4096)
            memory = buffer.memory
            child = os.fork()
            if not child:
                buffer.close()
                memory[1] = 1
                array[0] = 9
                os._exit(0 if memory[0] == 9 else 1)
            assert os.waitpid(child, 0)[1] == 0
            assert array[0] == 9 and memory[1] == 1
            buffer.close()
            assert array[0] == 9
            print("done")
        """)

    def test_nothing_that_a_view_offers_unmaps_it(self):
        assert "done" in survive("""
            buffer = allocate(4096)
            array = buffer.array(4096)
            mapping = buffer.memory.obj
            for unmap in (lambda: mapping.close(), lambda: mapping.resize(8192)):
                try:
                    unmap()
                except (AttributeError, BufferError, SystemError, ValueError):
                    pass
                array[0] = 1
            array.base
            buffer.close()
            array[4095] = 1
            print("done")
        """)

    def test_views_are_collected_in_any_order(self):
        assert "done" in survive("""
            buffer = allocate(4096)
            cycle = [buffer, buffer.memory, buffer.array(10)]
            cycle.append(cycle)
            buffer.close()
            array = cycle[2]
            del cycle, buffer
            gc.collect()
            array[0] = 1
            print("done")
        """)


@pytest.mark.needs("heap")
def test_ten_thousand_buffers_cost_one_descriptor_each():
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(10_200, hard), hard))
    try:
        before = descriptors()
        with dmabuf.Heap("system") as heap:
            buffers = [heap.allocate(4096) for _ in range(10_000)]
            views = [buffer.memory for buffer in buffers]
            assert descriptors() - before == 10_001
            for buffer in buffers:
                buffer.close()
        assert descriptors() == before
        assert all(view.nbytes == 4096 for view in views)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, soft)
    del views
    gc.collect()
