"""Heaps: what there is, opening, allocation, the best exporter, and memory that is not there."""

import contextlib
import copy
import errno
import fcntl
import gc
import os
import pickle
import re
import socket
import stat
import subprocess
import threading
import warnings
from pathlib import Path

import numpy
import pytest
from helpers.examples import examples
from helpers.process import ABSURD, NOBODY, available, descriptors_left, in_child, opened_paths
from hypothesis import given
from hypothesis import strategies as st

import dmabuf
from dmabuf import Access, HeapInfo
from dmabuf.heap import KIND

SYSTEM = "/dev/dma_heap/system"
PAGE = 4096
MIB = 1 << 20
OTHERS = sorted({os.path.basename(info.path) for info in dmabuf.heaps()} - {"system"})


@pytest.fixture
def heap():
    with dmabuf.Heap("system") as heap:
        yield heap


@pytest.fixture
def node():
    """Give a function that makes nodes of the system heap, which go with the test."""
    made = []

    def make(path, *, mode=0o600, minor=0):
        major = os.major(os.stat(SYSTEM).st_rdev)
        made.append(path)
        os.mknod(path, stat.S_IFCHR, os.makedev(major, minor))
        os.chmod(path, mode)

    yield make
    for path in made:
        os.unlink(path)


@pytest.fixture
def no_nodes():
    """Take the heaps' nodes away, as in a container that was not given them."""
    paths = [info.path for info in dmabuf.heaps()]
    for number, path in enumerate(paths):
        os.rename(path, f"/dev/heap_{number}_kept_by_a_test")
    yield
    for number, path in enumerate(paths):
        os.rename(f"/dev/heap_{number}_kept_by_a_test", path)


@contextlib.contextmanager
def linked(path, target):
    os.symlink(target, path)
    try:
        yield
    finally:
        os.unlink(path)


@contextlib.contextmanager
def placed(path):
    """Have a file that stands for a node of which sysfs says nothing."""
    Path(path).touch()
    try:
        yield
    finally:
        os.unlink(path)


class TestListing:
    @pytest.mark.needs("heap")
    def test_gives_names_and_paths(self):
        assert HeapInfo("system", SYSTEM) in dmabuf.heaps()
        assert [info.path for info in dmabuf.heaps()] == sorted(
            str(path) for path in Path("/dev/dma_heap").iterdir()
        )

    @pytest.mark.needs("heap")
    def test_opens_no_node(self):
        opened = opened_paths(dmabuf.heaps)
        assert not [path for path in opened if path.startswith("/dev/")]

    @pytest.mark.needs("heap", "root")
    def test_needs_no_permission(self):
        assert in_child(dmabuf.heaps, user=NOBODY) == dmabuf.heaps()

    @pytest.mark.needs("heap", "own machine")
    def test_reports_the_kernels_name_whatever_the_node_is_called(self, node):
        node("/dev/dma_heap/renamed")
        node("/dev/dma_heap/protected,not")
        with linked("/dev/dma_heap/link", "renamed"):
            infos = {info.path: info for info in dmabuf.heaps()}
        for name in ("renamed", "protected,not", "link"):
            info = infos[f"/dev/dma_heap/{name}"]
            assert info.name == "system"
            assert not info.protected

    @pytest.mark.needs("heap", "own machine")
    def test_reports_the_nodes_name_where_the_kernel_knows_none(self):
        with placed("/dev/dma_heap/protected,gone"):
            infos = {info.path: info for info in dmabuf.heaps()}
        assert infos["/dev/dma_heap/protected,gone"].protected

    @pytest.mark.parametrize(
        ("name", "contiguous", "protected"),
        [
            ("system", False, False),
            ("system-uncached", False, False),
            ("system_cc_shared", False, False),
            ("linux,cma", True, False),
            ("reserved", True, False),
            ("default_cma_region", True, False),
            ("default-pool", True, False),
            ("video@42000000", True, False),
            ("protected,secure-video", False, True),
            ("protected,trusted-ui", False, True),
        ],
    )
    def test_judges_memory_by_the_heaps_name(self, name, contiguous, protected):
        info = HeapInfo(name, f"/dev/dma_heap/{name}")
        assert (info.contiguous, info.protected) == (contiguous, protected)

    @pytest.mark.needs("no heap")
    def test_is_empty_where_the_kernel_has_none(self):
        assert dmabuf.heaps() == []


@pytest.mark.needs("heap")
class TestOpening:
    def test_takes_a_name_a_path_and_what_heaps_lists(self):
        listed = next(info for info in dmabuf.heaps() if info.path == SYSTEM)
        for given_as in ("system", SYSTEM, Path(SYSTEM), os.fsencode(SYSTEM), b"system", listed):
            with dmabuf.Heap(given_as) as heap:
                assert (heap.name, heap.path) == ("system", SYSTEM)
        with dmabuf.Heap() as heap:
            assert heap.path == SYSTEM

    @pytest.mark.needs("own machine")
    def test_reports_the_real_name_through_links_and_renamed_nodes(self, tmp_path, node):
        link, renamed = tmp_path / "link", tmp_path / "renamed"
        link.symlink_to(SYSTEM)
        node(renamed)
        for path in (link, renamed):
            with dmabuf.Heap(path) as heap, heap.allocate(PAGE) as buffer:
                assert (heap.name, heap.path) == ("system", str(path))
                assert buffer.exporter == "system"

    def test_of_an_unknown_name_lists_what_there_is(self):
        for name in ("nope", "/dev/dma_heap/nope", "/nowhere/system"):
            with pytest.raises(FileNotFoundError, match=r"no such dma-heap.* has:.* system") as it:
                dmabuf.Heap(name)
            assert it.value.errno == errno.ENOENT
            assert not isinstance(it.value, dmabuf.UnsupportedError)

    @pytest.mark.needs("own machine")
    def test_of_a_node_that_a_container_lacks_says_how_to_pass_it(self, no_nodes):
        with pytest.raises(FileNotFoundError, match=f"--device {SYSTEM}") as caught:
            dmabuf.Heap()
        assert not isinstance(caught.value, dmabuf.UnsupportedError)

    @pytest.mark.parametrize(
        "kind", ["/dev/null", "/dev/zero", "/dev", "/etc/passwd", "fifo", "socket"]
    )
    def test_something_else_is_refused_and_never_opened(self, kind, tmp_path):
        path = str(tmp_path / kind) if "/" not in kind else kind
        listener = socket.socket(socket.AF_UNIX)
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            listener.bind(path)
        with listener:
            with pytest.raises(OSError, match=f"{path} is not a dma-heap but ") as caught:
                dmabuf.Heap(path)
            assert caught.value.errno == errno.ENOTTY
            assert path not in opened_paths(lambda: dmabuf.Heap(path))

    @pytest.mark.needs("own machine")
    def test_of_a_stale_node_says_that_no_driver_stands_behind_it(self, tmp_path, node):
        node(tmp_path / "stale", minor=77)
        with pytest.raises(OSError, match="no driver") as caught:
            dmabuf.Heap(tmp_path / "stale")
        assert caught.value.errno == errno.ENOTTY

    def test_of_a_dangling_link_is_refused(self, tmp_path):
        (tmp_path / "system").symlink_to("nowhere")
        with pytest.raises(FileNotFoundError, match="no such dma-heap"):
            dmabuf.Heap(tmp_path / "system")

    @pytest.mark.parametrize(
        ("wrong", "error", "word"),
        [
            ("", ValueError, "empty"),
            (b"", ValueError, "empty"),
            ("nul\0", ValueError, "null"),
            (3, TypeError, "str, bytes or os.PathLike.* not int"),
            (None, TypeError, "not NoneType"),
            (["system"], TypeError, "not list"),
            ("/dev/null/system", NotADirectoryError, "/dev/null/system"),
            ("x" * 5000, OSError, "name too long"),
        ],
    )
    def test_nonsense_is_refused(self, wrong, error, word):
        with pytest.raises(error, match=word):
            dmabuf.Heap(wrong)

    def test_without_a_descriptor_left_says_so(self):
        with descriptors_left(0), pytest.raises(OSError, match="Too many open files") as caught:
            dmabuf.Heap()
        assert caught.value.errno == errno.EMFILE
        dmabuf.Heap().close()


@pytest.mark.needs("heap", "root")
class TestPermission:
    def test_missing_says_mode_owner_group_and_the_rule_that_mends_it(self):
        mode = re.escape(f"{stat.filemode(os.stat(SYSTEM).st_mode)} root:root")
        with pytest.raises(PermissionError, match=mode) as caught:
            in_child(lambda: dmabuf.Heap("system"), user=NOBODY)
        assert caught.value.errno == errno.EACCES
        for word in (
            SYSTEM,
            "root",
            'SUBSYSTEM=="dma_heap", GROUP="video", MODE="0660"',
            "/etc/udev/rules.d/",
            "udevadm trigger",
            "join the group video",
        ):
            assert word in str(caught.value)

    @pytest.mark.needs("own machine")
    def test_names_owners_that_have_no_name_by_number(self, tmp_path, node):
        node("/dev/numbered", mode=0o640)
        os.chown("/dev/numbered", 12345, 54321)
        with pytest.raises(PermissionError, match="crw-r----- 12345:54321"):
            in_child(lambda: dmabuf.Heap("/dev/numbered"), user=NOBODY)

    @pytest.mark.needs("own machine")
    def test_of_the_node_is_all_that_is_needed(self, node):
        node("/dev/dma_heap/open", mode=0o444)

        def use():
            with dmabuf.Heap("open") as heap, heap.allocate(PAGE, name="mine") as buffer:
                with buffer.write() as memory:
                    memory[:5] = b"hello"
                return heap.name, buffer.name, bytes(buffer.memory[:5])

        assert in_child(use, user=NOBODY) == ("system", "mine", b"hello")

    def test_to_search_its_directory_is_asked_for(self, tmp_path):
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        with pytest.raises(PermissionError, match="directory that you may not search"):
            in_child(lambda: dmabuf.Heap(closed / "system"), user=NOBODY)

    def test_is_not_needed_for_buffers_that_were_inherited(self, heap):
        with heap.allocate(PAGE, name="root's") as buffer:

            def use():
                with buffer.write() as memory:
                    memory[:5] = b"hello"
                buffer.name = "nobody's"
                with buffer.read() as memory:
                    return bytes(memory[:5]), buffer.array(2).tolist()

            assert in_child(use, user=NOBODY) == (b"hello", [104, 101])
            assert buffer.name == "nobody's"
            assert bytes(buffer.memory[:5]) == b"hello"

    def test_is_not_needed_for_a_heap_that_was_inherited(self, heap):
        def use():
            with heap.allocate(2 * PAGE) as buffer:
                return buffer.size

        assert in_child(use, user=NOBODY) == 2 * PAGE

    @pytest.mark.needs("own machine", "device rules")
    def test_refused_by_a_containers_device_rules_is_told_from_the_mode(self, tmp_path):
        # The devices controller is one of cgroup v1; v2 has none but what a BPF program does.
        subprocess.run(["mount", "-t", "cgroup", "-o", "devices", "none", tmp_path], check=True)
        group = tmp_path / "container"
        try:
            group.mkdir()
            (group / "devices.deny").write_text("a")

            def use():
                (group / "tasks").write_text(str(os.getpid()))
                return dmabuf.Heap()

            with pytest.raises(PermissionError, match=f"--device {SYSTEM}") as caught:
                in_child(use)
            assert caught.value.errno == errno.EPERM
            assert "udev" not in str(caught.value)
        finally:
            group.rmdir()
            subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.needs("heap")
class TestOwnership:
    def test_with_closes_and_close_is_idempotent(self):
        with dmabuf.Heap() as heap:
            number = heap.fileno()
            assert not heap.closed
            assert not os.get_inheritable(number)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)
        for _ in range(3):
            assert heap.closed
            heap.close()

    def test_a_closed_heap_knows_its_name_and_does_nothing_else(self):
        heap = dmabuf.Heap()
        heap.close()
        assert (heap.name, heap.path) == ("system", SYSTEM)
        assert repr(heap) == f"<dmabuf.Heap 'system' [closed] path='{SYSTEM}'>"
        for use in (
            lambda: heap.allocate(PAGE),
            lambda: heap.allocate(PAGE, name="x", access=Access.READ),
            heap.fileno,
            heap.detach,
            heap.__enter__,
        ):
            with pytest.raises(ValueError, match="operation on a closed Heap"):
                use()

    def test_repr_says_what_a_debugger_wants(self, heap):
        assert repr(heap) == f"<dmabuf.Heap 'system' fd={heap.fileno()} path='{SYSTEM}'>"

    def test_buffers_outlive_their_heap(self):
        heap = dmabuf.Heap()
        buffer = heap.allocate(PAGE)
        heap.close()
        del heap
        with buffer, buffer.write() as memory:
            memory[:] = b"x" * PAGE

    def test_a_collected_heap_warns_and_closes(self):
        heap = dmabuf.Heap()
        number = heap.fileno()
        with pytest.warns(ResourceWarning, match=f"unclosed Heap with descriptor {number}"):
            del heap
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)

    def test_a_heap_that_could_not_be_opened_is_collected_in_silence(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with contextlib.suppress(OSError):
                dmabuf.Heap("nope")
            gc.collect()

    def test_detach_gives_the_number_away(self):
        heap = dmabuf.Heap()
        number = heap.detach()
        os.close(number)
        assert heap.closed

    def test_is_made_once(self, heap):
        with pytest.raises(TypeError, match="a Heap can be initialised only once"):
            heap.__init__("system")
        heap.allocate(PAGE).close()

    def test_copies_and_pickles_are_refused(self, heap):
        for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=r"descriptor has one owner.*dmabuf\.share\.send"):
                duplicate(heap)


@pytest.mark.needs("heap")
class TestAllocation:
    @given(size=st.integers(1, MIB) | st.sampled_from([PAGE - 1, PAGE, PAGE + 1]))
    @examples(20)
    def test_rounds_up_to_whole_pages_as_the_kernel_says(self, size):
        with dmabuf.Heap() as heap, heap.allocate(size) as buffer:
            assert buffer.size % PAGE == 0
            assert 0 <= buffer.size - size < PAGE
            assert buffer.size == os.lseek(buffer.fileno(), 0, os.SEEK_END)
            assert len(buffer.memory) == buffer.size

    def test_gives_zeroed_memory_again_after_it_was_used(self, heap):
        for _ in range(5):
            with heap.allocate(MIB) as buffer, buffer.read_write() as memory:
                assert not any(numpy.frombuffer(memory, "u8"))
                memory[:] = b"\xff" * MIB

    def test_takes_whatever_is_an_index_for_its_size(self, heap):
        class Size:
            def __index__(self):
                return PAGE + 1

        for size in (numpy.int64(PAGE + 1), numpy.uint8(200), Size()):
            with heap.allocate(size) as buffer:
                assert buffer.size == dmabuf._memory.rounded(size.__index__())

    def test_names_the_buffer_if_asked_to(self, heap):
        with heap.allocate(PAGE) as buffer:
            assert buffer.name is None
        for name in ("camera 0", "x" * 31, "ä" * 15, "\udcff"):
            with heap.allocate(PAGE, name=name) as buffer:
                assert buffer.name == name

    @pytest.mark.parametrize(
        ("access", "mode"),
        [
            (Access.READ, os.O_RDONLY),
            (Access.WRITE, os.O_WRONLY),
            (Access.READ_WRITE, os.O_RDWR),
            (Access.READ | Access.WRITE, os.O_RDWR),
        ],
    )
    def test_gives_the_descriptor_the_access_that_was_asked_for(self, heap, access, mode):
        with heap.allocate(PAGE, access=access, name="x") as buffer:
            flags = fcntl.fcntl(buffer.fileno(), fcntl.F_GETFL)
            assert flags & os.O_ACCMODE == mode
            assert not os.get_inheritable(buffer.fileno())
        with heap.allocate(PAGE) as buffer:
            assert fcntl.fcntl(buffer.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR

    @pytest.mark.parametrize(
        ("size", "error", "word"),
        [
            (0, ValueError, "at least 1 byte, not 0"),
            (-1, ValueError, "at least 1 byte, not -1"),
            (-(2**64), ValueError, "at least 1 byte"),
            ("4096", TypeError, "size must be a number of bytes, not str"),
            (1.5, TypeError, "not float"),
            (4096.0, TypeError, "not float"),
            (None, TypeError, "not NoneType"),
            (True, TypeError, "not bool"),
            (b"\x10", TypeError, "not bytes"),
        ],
    )
    def test_of_no_size_is_refused(self, heap, size, error, word):
        for allocate in (heap.allocate, dmabuf.allocate, dmabuf.udmabuf.allocate):
            with pytest.raises(error, match=word):
                allocate(size)

    @pytest.mark.parametrize(
        ("name", "error", "word"),
        [
            ("x" * 32, ValueError, "at most 31 bytes"),
            ("ä" * 16, ValueError, "at most 31 bytes"),
            ("two\nlines", ValueError, "newline"),
            ("nul\0", ValueError, "NUL"),
            (b"bytes", TypeError, "name must be a str, not bytes"),
            (7, TypeError, "not int"),
        ],
    )
    def test_with_a_bad_name_is_refused_before_anything_is_allocated(self, heap, name, error, word):
        for allocate in (heap.allocate, dmabuf.allocate, dmabuf.udmabuf.allocate):
            with descriptors_left(0), pytest.raises(error, match=word):
                allocate(PAGE, name=name)

    @pytest.mark.parametrize(
        ("access", "error"),
        [(0, ValueError), (4, ValueError), (-1, ValueError), ("r", TypeError), (None, TypeError)],
    )
    def test_with_no_access_is_refused(self, heap, access, error):
        with pytest.raises(error, match="access must be"):
            heap.allocate(PAGE, access=access)

    def test_by_many_threads_from_one_heap_gives_each_its_own(self, heap):
        barrier = threading.Barrier(8)
        buffers = []

        def work(thread):
            barrier.wait()
            for index in range(25):
                buffers.append(heap.allocate((index + 1) * PAGE, name=f"{thread} {index}"))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({buffer.inode for buffer in buffers}) == 200
        assert {(buffer.name, buffer.size) for buffer in buffers} == {
            (f"{thread} {index}", (index + 1) * PAGE) for thread in range(8) for index in range(25)
        }
        for buffer in buffers:
            buffer.close()

    def test_from_a_heap_that_another_thread_closes_ends_in_value_error(self):
        heap = dmabuf.Heap()
        under_way = threading.Event()
        ends = []

        def work():
            try:
                while True:
                    heap.allocate(PAGE).close()
                    under_way.set()
            except BaseException as error:
                ends.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        under_way.wait()
        heap.close()
        for thread in threads:
            thread.join()
        assert [type(error) for error in ends] == [ValueError] * 4

    def test_beyond_the_descriptor_limit_says_so_and_goes_on_afterwards(self, heap):
        heap.allocate(PAGE).close()
        with descriptors_left(3):
            buffers = [heap.allocate(PAGE) for _ in range(3)]
            for _ in range(3):
                with pytest.raises(dmabuf.AllocationError, match="ulimit -n") as caught:
                    heap.allocate(PAGE, name="one too many")
                assert caught.value.errno == errno.EMFILE
            buffers.pop().close()
            buffers.append(heap.allocate(PAGE))
            text = (
                r"system: Too many .*: /dev/dma_heap/system; .*ulimit -n"
                r"\n  /dev/dma_heap: Too many .*: /dev/dma_heap can't be listed; .*ulimit -n"
                r"\n  udmabuf: .*Too many .*; .*ulimit -n"
            )
            with pytest.raises(dmabuf.AllocationError, match=text) as caught:
                dmabuf.allocate(PAGE)
            assert caught.value.errno == errno.EMFILE
        heap.allocate(PAGE).close()
        for buffer in buffers:
            buffer.close()


@pytest.fixture(scope="class")
def most():
    """Give a buffer of three quarters of the memory, and what was available before."""
    before = available()
    with dmabuf.Heap() as heap, heap.allocate(before * 3 // 4, name="most") as buffer:
        yield before, buffer


@pytest.mark.needs("heap", "own machine")
class TestMemoryThatIsNotThere:
    """The kernel refuses nothing here: it kills processes, the parent first."""

    @pytest.mark.parametrize("size", ABSURD)
    def test_is_refused_with_both_numbers(self, heap, size):
        with pytest.raises(dmabuf.AllocationError, match=f"heap system: {size} bytes") as caught:
            heap.allocate(size)
        assert caught.value.errno == errno.ENOMEM
        assert "MemAvailable in /proc/meminfo" in str(caught.value)
        said = int(re.search(r"wanted, (\d+) available", str(caught.value))[1])
        assert abs(said - available()) < 64 * MIB

    @pytest.mark.parametrize("size", ABSURD)
    def test_is_refused_by_every_exporter(self, size):
        with pytest.raises(dmabuf.AllocationError, match=f"could allocate {size} bytes") as caught:
            dmabuf.allocate(size)
        assert caught.value.errno == errno.ENOMEM
        for exporter in ("system", *OTHERS, "udmabuf"):
            both = rf"\n  {exporter}: .*\d{{13,}} bytes wanted.*, .*\d"
            assert re.search(both, str(caught.value))
        assert len(caught.value.attempts) == 2 + len(OTHERS)

    def test_is_refused_when_it_is_a_little_more_than_there_is(self, heap):
        with pytest.raises(dmabuf.AllocationError, match="free memory or ask for less"):
            in_child(lambda: heap.allocate(available() + 32 * MIB).size)

    def test_is_had_when_it_is_most_of_what_there_is(self, most):
        before, buffer = most
        assert buffer.size >= before * 3 // 4
        memory = buffer.memory
        assert (memory[0], memory[-1]) == (0, 0)
        memory[-1] = 1

    def test_is_refused_to_many_small_buffers_too(self, most, heap):
        def fill():
            buffers = []
            try:
                while True:
                    buffers.append(heap.allocate(8 * MIB))
            except dmabuf.AllocationError as error:
                return len(buffers), error.errno, available(), str(error)

        count, number, left, text = in_child(fill)
        assert count > 0
        assert number == errno.ENOMEM
        assert left < 64 * MIB
        assert f"{8 * MIB} bytes wanted" in text


class TestBest:
    @pytest.mark.needs("heap")
    def test_is_the_system_heap(self):
        with dmabuf.allocate(PAGE + 1, name="best") as buffer:
            assert (buffer.exporter, buffer.size, buffer.name) == ("system", 2 * PAGE, "best")
            assert fcntl.fcntl(buffer.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR

    @pytest.mark.needs("heap", "udmabuf", "own machine")
    def test_is_udmabuf_without_a_heap(self, no_nodes):
        with dmabuf.allocate(PAGE + 1, name="best") as buffer:
            assert (buffer.exporter, buffer.size, buffer.name) == ("udmabuf", 2 * PAGE, "best")

    @pytest.mark.needs("heap", "udmabuf", "own machine")
    def test_is_another_heap_before_udmabuf(self, node, no_system_node_but_another):
        with dmabuf.allocate(PAGE) as buffer:
            assert buffer.exporter == "system"

    @pytest.fixture
    def no_system_node_but_another(self, node):
        os.rename(SYSTEM, "/dev/dma_heap/another")
        yield
        os.rename("/dev/dma_heap/another", SYSTEM)

    @pytest.mark.needs("heap", "udmabuf", "own machine")
    def test_is_never_a_protected_heap(self, node):
        node("/dev/dma_heap/vendor")
        with (
            placed("/dev/dma_heap/protected,video"),
            placed("/dev/dma_heap/secure"),
            pytest.raises(dmabuf.AllocationError) as caught,
        ):
            in_child(lambda: dmabuf.allocate(PAGE), user=NOBODY)
        tried = re.findall(r"^  ([^:]+): ", str(caught.value), re.MULTILINE)
        assert tried == ["system", *sorted([*OTHERS, "vendor"]), "udmabuf"]
        assert len(caught.value.attempts) == len(tried)

    @pytest.mark.needs("heap", "udmabuf", "root")
    def test_failing_gives_each_candidates_own_reason_and_remedy(self):
        with pytest.raises(dmabuf.AllocationError, match="could allocate 4096 bytes") as caught:
            in_child(lambda: dmabuf.allocate(PAGE), user=NOBODY)
        error = caught.value
        assert error.errno == errno.EACCES
        assert {type(attempt) for attempt in error.attempts} == {PermissionError}
        assert len(error.attempts) == 2 + len(OTHERS)
        for word in ('SUBSYSTEM=="dma_heap", GROUP="video"', 'KERNEL=="udmabuf", GROUP="kvm"'):
            assert word in str(error)
        for attempt in error.attempts:
            assert attempt.strerror in str(error)
        assert str(error).index("\n  system: ") < str(error).index("\n  udmabuf: ")

    @pytest.mark.needs("heap", "udmabuf", "own machine")
    def test_failing_for_several_reasons_gives_each(self, no_nodes):
        text = r"system: .*--device /dev/dma_heap/system\)\n  udmabuf: .*MODE"
        with pytest.raises(dmabuf.AllocationError, match=text) as caught:
            in_child(lambda: dmabuf.allocate(PAGE), user=NOBODY)
        missing, forbidden = caught.value.attempts
        assert isinstance(missing, FileNotFoundError)
        assert isinstance(forbidden, PermissionError)
        assert caught.value.errno == errno.EACCES

    @pytest.mark.needs("no heap", "no udmabuf")
    def test_without_any_exporter_says_what_kernel_has_them(self):
        text = (
            r"no exporter could allocate 4096 bytes:"
            r"\n  system: .*no dma-heap: it needs Linux 5.6 with CONFIG_DMABUF_HEAPS.*; .*"
            r"\n  udmabuf: .*no udmabuf device: it needs Linux 4.20 with CONFIG_UDMABUF; "
        )
        with pytest.raises(dmabuf.AllocationError, match=text) as caught:
            dmabuf.allocate(PAGE)
        assert caught.value.errno == errno.ENODEV
        assert [type(attempt) for attempt in caught.value.attempts] == [dmabuf.UnsupportedError] * 2


@pytest.mark.needs("heap")
class TestChosenHeaps:
    def test_are_tried_in_their_order(self):
        with dmabuf.allocate(PAGE, heaps=["nope", SYSTEM, "/nowhere"], name="x") as buffer:
            assert (buffer.exporter, buffer.name) == ("system", "x")
        with pytest.raises(dmabuf.AllocationError) as caught:
            dmabuf.allocate(PAGE, heaps=iter([Path("/nowhere/b"), "/nowhere/a", "nope"]))
        tried = re.findall(r"^  ([^:]+): ", str(caught.value), re.MULTILINE)
        assert tried == ["/nowhere/b", "/nowhere/a", "nope"]

    def test_are_all_that_is_tried(self):
        with pytest.raises(dmabuf.AllocationError, match="nope: No such file") as caught:
            dmabuf.allocate(PAGE, heaps=("nope",))
        assert caught.value.errno == errno.ENODEV
        assert "udmabuf" not in str(caught.value)
        assert len(caught.value.attempts) == 1

    def test_may_be_what_heaps_lists(self):
        with dmabuf.allocate(PAGE, heaps=dmabuf.heaps()) as buffer:
            assert buffer.exporter == dmabuf.heaps()[0].name

    def test_may_be_none_at_all(self):
        with pytest.raises(dmabuf.AllocationError, match="heaps is empty") as caught:
            dmabuf.allocate(PAGE, heaps=[])
        assert caught.value.errno == errno.ENODEV
        assert caught.value.attempts == ()

    @pytest.mark.parametrize(
        ("heaps", "word"),
        [
            ("system", r"\['system'\]"),
            (b"system", r"\[b'system'\]"),
            (Path("system"), r"\[PosixPath\('system'\)\]"),
            (["system", 3], "not int"),
            (3, "heaps must be several names or paths"),
            ([None], "not NoneType"),
        ],
    )
    def test_must_be_several_names(self, heaps, word):
        with pytest.raises(TypeError, match=word):
            dmabuf.allocate(PAGE, heaps=heaps)

    def test_that_are_something_else_are_refused_unopened(self):
        with pytest.raises(dmabuf.AllocationError, match="/dev/null is not a dma-heap") as caught:
            dmabuf.allocate(PAGE, heaps=["/dev/null"])
        assert caught.value.errno == errno.ENOTTY
        assert "/dev/null" not in opened_paths(lambda: dmabuf.allocate(PAGE, heaps=["/dev/null"]))


@pytest.mark.needs("no heap")
class TestKernelWithoutHeaps:
    @pytest.mark.parametrize("heap", ["system", "nope", SYSTEM])
    def test_names_the_version_and_the_option_that_have_them(self, heap):
        with pytest.raises(dmabuf.UnsupportedError, match="has no dma-heap") as caught:
            dmabuf.Heap(heap)
        assert caught.value.errno == errno.ENOENT
        for word in (os.uname().release, "Linux 5.6", "CONFIG_DMABUF_HEAPS_SYSTEM"):
            assert word in str(caught.value)
        assert str(caught.value).endswith(KIND.how_to_get("/dev/dma_heap/system"))

    def test_refuses_other_paths_as_what_they_are(self):
        with pytest.raises(OSError, match="/dev/null is not a dma-heap but mem") as caught:
            dmabuf.Heap("/dev/null")
        assert caught.value.errno == errno.ENOTTY
        with pytest.raises(FileNotFoundError, match="/nowhere/system") as caught:
            dmabuf.Heap("/nowhere/system")
        assert not isinstance(caught.value, dmabuf.UnsupportedError)
