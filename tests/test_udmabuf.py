"""udmabuf: memory of memfds as dma-bufs, and each refusal explained before the kernel's EINVAL."""

import contextlib
import errno
import fcntl
import mmap
import os
import re
from pathlib import Path

import numpy
import pytest
from helpers.examples import examples
from helpers.process import ABSURD, NOBODY, available, descriptors_left, in_child, meminfo
from hypothesis import given
from hypothesis import strategies as st

import dmabuf
from dmabuf import Access, _ioctl, udmabuf

PAGE = 4096
MIB = 1 << 20
HUGE = 2 * MIB
PARAMETERS = Path("/sys/module/udmabuf/parameters")
HUGEPAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
SHRINK = fcntl.F_SEAL_SHRINK

needs_udmabuf = pytest.mark.needs("udmabuf")


@contextlib.contextmanager
def memfd(size=4 * PAGE, *, seals=SHRINK, flags=0):
    """Give a memfd of stamped pages: the first two bytes of each are its number."""
    number = os.memfd_create("test", os.MFD_ALLOW_SEALING | flags)
    try:
        os.ftruncate(number, size)
        if size and not flags:
            stamps = numpy.zeros((size // PAGE, PAGE // 2), "<u2")
            stamps[:, 0] = range(size // PAGE)
            os.pwrite(number, stamps.tobytes(), 0)
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, seals)
        yield number
    finally:
        os.close(number)


def stamps(buffer):
    """Return the number of each page, in the buffer's order."""
    return buffer.array((buffer.size // PAGE, PAGE // 2), "<u2", writable=False)[:, 0].tolist()


@contextlib.contextmanager
def setting(path, value):
    """Set a parameter of the kernel for a while."""
    before = path.read_text()
    path.write_text(str(value))
    try:
        yield
    finally:
        path.write_text(before)


@pytest.fixture(scope="module")
def reserved():
    """Reserve four huge pages, once: 6.12 miscounts its reserves after a udmabuf of such pages."""
    with contextlib.ExitStack() as pages:
        with cma_taken():  # a page that the kernel reserves there can't be had
            pages.enter_context(setting(HUGEPAGES / "nr_hugepages", 4))
        yield


@contextlib.contextmanager
def cma_taken():
    """Hold all memory for CMA, if there is any."""
    contiguous = next((info for info in dmabuf.heaps() if info.contiguous), None)
    if contiguous is None:
        yield
    else:
        with dmabuf.Heap(contiguous) as heap, heap.allocate(meminfo("CmaTotal")):
            yield


@pytest.fixture
def huge(reserved):
    """Have four free huge pages."""
    assert free_huge_pages() == 4
    yield
    assert free_huge_pages() == 4


def free_huge_pages():
    return int((HUGEPAGES / "free_hugepages").read_text())


def no_memfd_stays_open():
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return not [link for link in links if os.path.islink(link) and "memfd" in os.readlink(link)]


@needs_udmabuf
class TestLimits:
    def test_are_the_modules_parameters(self):
        limits = udmabuf.limits()
        megabytes = int((PARAMETERS / "size_limit_mb").read_text())
        if megabytes == 2**31 - 1:  # INT_MAX, the default from Linux 7.3 on
            assert limits.size is None
        else:
            assert limits.size == megabytes * MIB >= 64 * MIB
        assert limits.count == int((PARAMETERS / "list_limit").read_text())
        assert tuple(limits) == (limits.size, limits.count)

    @pytest.mark.needs("root")
    def test_need_no_permission(self):
        assert in_child(udmabuf.limits, user=NOBODY) == udmabuf.limits()

    @pytest.mark.needs("own machine")
    def test_are_read_anew_each_time(self):
        with setting(PARAMETERS / "size_limit_mb", 3), setting(PARAMETERS / "list_limit", 7):
            assert udmabuf.limits() == (3 * MIB, 7)

    @pytest.mark.needs("own machine")
    def test_of_size_are_kept_to_the_byte(self):
        with setting(PARAMETERS / "size_limit_mb", 1):
            udmabuf.allocate(MIB).close()
            with memfd(2 * MIB) as number:
                udmabuf.from_memfd(number, 0, MIB).close()
                for allocate in (
                    lambda: udmabuf.allocate(MIB + 1),
                    lambda: udmabuf.from_memfd(number),
                    lambda: udmabuf.from_memfds([(number, 0, MIB), (number, 0, PAGE)]),
                ):
                    text = (
                        r"\d{7} bytes wanted, one udmabuf may have 1048576; raise .*size_limit_mb"
                    )
                    with pytest.raises(dmabuf.AllocationError, match=text) as caught:
                        allocate()
                    assert caught.value.errno == errno.EINVAL
                self.kernel_refuses([(number, 0, MIB), (number, 0, PAGE)])

    @pytest.mark.needs("own machine")
    def test_of_pieces_are_kept_to_the_piece(self):
        with setting(PARAMETERS / "list_limit", 3), memfd() as number:
            udmabuf.from_memfds([(number, 0, PAGE)] * 3).close()
            text = "4 pieces wanted, one udmabuf may have 3; raise .*list_limit"
            with pytest.raises(dmabuf.AllocationError, match=text) as caught:
                udmabuf.from_memfds([(number, 0, PAGE)] * 4)
            assert caught.value.errno == errno.EINVAL
            self.kernel_refuses([(number, 0, PAGE)] * 4)

    def kernel_refuses(self, pieces):
        device = os.open("/dev/udmabuf", os.O_RDWR)
        try:
            with pytest.raises(OSError, match="Invalid argument"):
                _ioctl.udmabuf_create_list(device, pieces, [])
        finally:
            os.close(device)


@needs_udmabuf
class TestAllocation:
    @given(size=st.integers(1, MIB) | st.sampled_from([PAGE - 1, PAGE, PAGE + 1]))
    @examples(20)
    def test_rounds_up_to_whole_pages(self, size):
        with udmabuf.allocate(size) as buffer:
            assert buffer.size == os.lseek(buffer.fileno(), 0, os.SEEK_END)
            assert 0 <= buffer.size - size < PAGE
            assert buffer.size % PAGE == 0

    def test_gives_zeroed_memory_that_reads_back(self):
        for _ in range(3):
            with udmabuf.allocate(MIB) as buffer:
                assert buffer.exporter == "udmabuf"
                with buffer.read_write() as memory:
                    assert not any(numpy.frombuffer(memory, "u8"))
                    memory[:] = bytes(range(256)) * (MIB // 256)
                with buffer.read() as memory:
                    assert memory == bytes(range(256)) * (MIB // 256)

    def test_names_the_buffer_if_asked_to(self):
        with udmabuf.allocate(PAGE) as buffer:
            assert buffer.name is None
        for name in ("frame", "ä" * 15, "with space/and slash"):
            with udmabuf.allocate(PAGE, name=name) as buffer:
                assert buffer.name == name

    def test_leaves_one_descriptor_that_may_be_written_and_is_closed_on_exec(self):
        before = set(os.listdir("/proc/self/fd"))
        with udmabuf.allocate(PAGE) as buffer:
            after = set(os.listdir("/proc/self/fd"))
            assert len(after) - len(before) == 1
            assert no_memfd_stays_open()
            assert fcntl.fcntl(buffer.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
            assert not os.get_inheritable(buffer.fileno())

    @pytest.mark.needs("own machine")
    @pytest.mark.parametrize("size", ABSURD)
    def test_of_what_is_not_there_is_refused_with_both_numbers(self, size):
        rounded = -(-size // PAGE) * PAGE
        for limit in (64, 2**31 - 1):
            with setting(PARAMETERS / "size_limit_mb", limit):
                text = rf"{rounded} bytes wanted, (one udmabuf may have )?\d+.*; (raise|free)"
                with pytest.raises(dmabuf.AllocationError, match=text) as caught:
                    udmabuf.allocate(size)
            assert caught.value.errno in (errno.ENOMEM, errno.EINVAL)

    @pytest.mark.needs("own machine")
    def test_of_a_little_more_than_there_is_is_refused(self):
        with (
            setting(PARAMETERS / "size_limit_mb", 2**31 - 1),
            pytest.raises(dmabuf.AllocationError, match=r"MemAvailable.*; free memory") as caught,
        ):
            in_child(lambda: udmabuf.allocate(available() + 32 * MIB).size)
        assert caught.value.errno == errno.ENOMEM

    @pytest.mark.needs("own machine")
    def test_of_what_the_machine_does_not_commit_says_where_it_stands(self):
        committed = int(re.search(r"Committed_AS: +(\d+)", Path("/proc/meminfo").read_text())[1])
        vm = Path("/proc/sys/vm")
        with (
            setting(vm / "overcommit_kbytes", committed + 32 * 1024),
            setting(vm / "overcommit_memory", 2),
            pytest.raises(dmabuf.AllocationError, match="CommitLimit") as caught,
        ):
            udmabuf.allocate(63 * MIB)
        assert caught.value.errno in (errno.ENOMEM, errno.ENOSPC)

    def test_without_a_descriptor_left_loses_none(self):
        for left in range(3):  # the memfd's, the device's, the buffer's
            with (
                descriptors_left(left),
                pytest.raises(OSError, match="Too many open files") as caught,
            ):
                udmabuf.allocate(PAGE, name="one too many")
            assert caught.value.errno == errno.EMFILE
        with descriptors_left(3):
            udmabuf.allocate(PAGE).close()


@needs_udmabuf
@pytest.mark.needs("own machine")
class TestHugePages:
    @pytest.mark.parametrize(
        ("size", "pages"), [(1, 1), (HUGE, 1), (HUGE + 1, 2), (4 * HUGE - 5, 4)]
    )
    def test_round_up_to_themselves(self, huge, size, pages):
        with udmabuf.allocate(size, hugepages=HUGE, name="huge") as buffer:
            assert buffer.size == pages * HUGE
            assert buffer.name == "huge"
            assert free_huge_pages() == 4 - pages
            assert no_memfd_stays_open()

    def test_are_zeroed_and_read_back(self, huge):
        for _ in range(2):
            with udmabuf.allocate(3 * HUGE, hugepages=numpy.int64(HUGE)) as buffer:
                assert not buffer.array(3 * HUGE // 8, "u8").any()
                with buffer.write() as memory:
                    numpy.frombuffer(memory, "u8")[:] = range(3 * HUGE // 8)
                with buffer.read() as memory:
                    assert numpy.frombuffer(memory, "u8").sum() == sum(range(3 * HUGE // 8))

    def test_that_are_not_reserved_are_asked_for(self, huge):
        text = r"5 huge pages of 2097152 bytes wanted, 4 free; reserve .*2048kB/nr_hugepages"
        with pytest.raises(dmabuf.AllocationError, match=text) as caught:
            udmabuf.allocate(4 * HUGE + 1, hugepages=HUGE)
        assert caught.value.errno == errno.ENOMEM
        udmabuf.allocate(4 * HUGE, hugepages=HUGE).close()

    def test_that_are_in_use_are_not_had(self, huge):
        with udmabuf.allocate(3 * HUGE, hugepages=HUGE) as buffer:
            with pytest.raises(dmabuf.AllocationError, match=r"2 huge pages .* 1 free"):
                udmabuf.allocate(2 * HUGE, hugepages=HUGE)
            assert buffer.memory[-1] == 0

    @pytest.mark.parametrize(
        ("hugepages", "error", "word"),
        [
            (PAGE, ValueError, r"one of this machine's sizes: (\d+, )*2097152"),
            (0, ValueError, "2097152"),
            (-HUGE, ValueError, "2097152"),
            (3 * MIB, ValueError, "2097152"),
            (2**70, ValueError, "2097152"),
            ("2M", TypeError, "hugepages must be a number of bytes, not str"),
            (float(HUGE), TypeError, "not float"),
            (True, TypeError, "not bool"),
        ],
    )
    def test_of_no_such_size_are_refused(self, hugepages, error, word):
        with pytest.raises(error, match=word):
            udmabuf.allocate(PAGE, hugepages=hugepages)

    def test_beyond_the_limit_are_refused(self):
        with (
            setting(PARAMETERS / "size_limit_mb", 1),
            pytest.raises(dmabuf.AllocationError, match=r"2097152 bytes wanted, .*size_limit_mb"),
        ):
            udmabuf.allocate(1, hugepages=HUGE)

    def test_of_ones_own_memfd_are_shared_in_small_pieces(self, huge):
        flags = os.MFD_HUGETLB | 21 << os.MFD_HUGE_SHIFT
        with memfd(2 * HUGE, flags=flags) as number, mmap.mmap(number, 2 * HUGE) as view:
            numbers = [3, 511, 512, 600]
            for page in numbers:
                view[page * PAGE : page * PAGE + 2] = page.to_bytes(2, "little")
            with udmabuf.from_memfds([(number, page * PAGE, PAGE) for page in numbers]) as buffer:
                assert stamps(buffer) == numbers

    def test_of_ones_own_memfd_that_are_not_there_are_asked_for(self, huge):
        flags = os.MFD_HUGETLB | 21 << os.MFD_HUGE_SHIFT
        with (
            memfd(5 * HUGE, flags=flags) as number,
            pytest.raises(dmabuf.AllocationError, match=r"4 free; .*nr_hugepages") as caught,
        ):
            udmabuf.from_memfd(number)
        assert caught.value.errno == errno.ENOMEM


@needs_udmabuf
class TestMemfd:
    def test_and_buffer_are_the_same_memory_both_ways(self):
        with memfd() as number, udmabuf.from_memfd(number) as buffer:
            assert buffer.size == 4 * PAGE
            os.pwrite(number, b"to the buffer", PAGE)
            with buffer.read() as memory:
                assert bytes(memory[PAGE : PAGE + 13]) == b"to the buffer"
            with buffer.write() as memory:
                memory[-9:] = b"to memfd!"
            assert os.pread(number, 9, 4 * PAGE - 9) == b"to memfd!"

    def test_may_be_given_in_part(self):
        with memfd(6 * PAGE) as number:
            for offset, size, pages in (
                (2 * PAGE, None, [2, 3, 4, 5]),
                (PAGE, PAGE, [1]),
                (0, 6 * PAGE, [0, 1, 2, 3, 4, 5]),
                (numpy.int64(4 * PAGE), numpy.uint32(PAGE), [4]),
            ):
                with udmabuf.from_memfd(number, offset, size) as buffer:
                    assert stamps(buffer) == pages
                    assert buffer.name is None

    def test_may_be_any_object_with_a_descriptor(self):
        with memfd() as number, open(number, "rb", closefd=False) as file:
            with udmabuf.from_memfd(file) as buffer:
                assert stamps(buffer) == [0, 1, 2, 3]
            with udmabuf.from_memfds([(file, PAGE, PAGE), (number, 0, PAGE)]) as buffer:
                assert stamps(buffer) == [1, 0]

    def test_stays_the_callers_and_may_be_closed_first(self):
        with memfd() as number:
            buffer = udmabuf.from_memfd(number)
            assert os.pread(number, 2, PAGE) == b"\1\0"
        with buffer:
            assert stamps(buffer) == [0, 1, 2, 3]

    def test_keeps_its_position(self):
        with memfd() as number:
            os.lseek(number, 123, os.SEEK_SET)
            udmabuf.from_memfd(number).close()
            assert os.lseek(number, 0, os.SEEK_CUR) == 123

    def test_can_not_be_sealed_against_writing_afterwards(self):
        with memfd() as number:
            with udmabuf.from_memfd(number):
                with pytest.raises(OSError, match="busy") as caught:
                    fcntl.fcntl(number, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
                assert caught.value.errno == errno.EBUSY
            os.pwrite(number, b"x", 0)

    def test_may_grow_afterwards(self):
        with memfd(PAGE) as number, udmabuf.from_memfd(number) as buffer:
            os.ftruncate(number, 2 * PAGE)
            assert buffer.size == PAGE
            with udmabuf.from_memfd(number) as larger:
                assert larger.size == 2 * PAGE
                assert larger != buffer

    def test_holes_are_filled_with_zeros(self):
        with memfd(0, seals=0) as number:
            os.ftruncate(number, 64 * PAGE)
            os.pwrite(number, b"x", 63 * PAGE)
            fcntl.fcntl(number, fcntl.F_ADD_SEALS, SHRINK)
            with udmabuf.from_memfd(number) as buffer:
                assert bytes(buffer.memory) == bytes(63 * PAGE) + b"x" + bytes(PAGE - 1)

    @pytest.mark.needs("own machine")
    def test_with_more_holes_than_there_is_memory_is_refused(self):
        # The kernel would fill them, and have the OOM killer make room for it.
        with (
            setting(PARAMETERS / "size_limit_mb", 2**31 - 1),
            memfd(0, seals=0) as sparse,
            memfd(2 * PAGE) as full,
        ):
            size = available() // PAGE * PAGE + 32 * MIB
            os.ftruncate(sparse, 2 * size)
            fcntl.fcntl(sparse, fcntl.F_ADD_SEALS, SHRINK)
            for pieces in (
                [(sparse, 0, size)],
                [(full, 0, PAGE), (sparse, PAGE, size), (full, 0, PAGE)],
                [(sparse, 0, size // 2 // PAGE * PAGE)] * 3,
            ):
                with pytest.raises(dmabuf.AllocationError, match=r"wanted, \d+ avail") as caught:
                    in_child(lambda pieces=pieces: udmabuf.from_memfds(pieces).size)
                assert caught.value.errno == errno.ENOMEM
            assert os.fstat(sparse).st_blocks == 0

    @pytest.mark.needs("own machine")
    def test_may_come_so_often_that_it_seems_more_than_there_is(self):
        piece = available() // 1000 // PAGE * PAGE + PAGE
        with (
            setting(PARAMETERS / "size_limit_mb", 2**31 - 1),
            memfd(piece) as number,
            udmabuf.from_memfds([(number, 0, piece)] * 1024) as buffer,
        ):
            assert buffer.size == 1024 * piece > available()
            os.pwrite(number, b"!", piece - 1)
            assert buffer.memory[-1] == ord("!")


@needs_udmabuf
class TestSeveralMemfds:
    @pytest.mark.parametrize("count", [2, 42, 43, 44, 1000, 1024])
    def test_come_in_their_order(self, count):
        with memfd(64 * PAGE) as one, memfd(64 * PAGE) as two:
            wanted = [(index * 37) % 64 for index in range(count)]
            pieces = [
                (two if index % 3 else one, page * PAGE, PAGE) for index, page in enumerate(wanted)
            ]
            with udmabuf.from_memfds(pieces) as buffer:
                assert buffer.size == count * PAGE
                assert stamps(buffer) == wanted
                os.pwrite(one, b"\xff\xff", 0)
                assert stamps(buffer)[0] == 0xFFFF
                assert not os.get_inheritable(buffer.fileno())

    def test_beyond_the_limit_are_refused(self):
        count = udmabuf.limits().count + 1
        text = f"{count} pieces wanted, one udmabuf may have {count - 1}; raise .*list_limit"
        with memfd() as number, pytest.raises(dmabuf.AllocationError, match=text):
            udmabuf.from_memfds((number, 0, PAGE) for _ in range(count))

    def test_may_be_one_memfd_twice(self):
        with (
            memfd(PAGE) as number,
            udmabuf.from_memfds([(number, 0, PAGE), (number, 0, PAGE)]) as buffer,
            buffer.read_write() as memory,
        ):
            memory[5] = 7
            assert memory[PAGE + 5] == 7

    @given(
        pieces=st.lists(
            st.tuples(st.integers(0, 2), st.integers(0, 7), st.integers(1, 8)).filter(
                lambda piece: piece[1] + piece[2] <= 8
            ),
            min_size=1,
            max_size=60,
        )
    )
    @examples(20)
    def test_give_the_memory_that_their_pieces_name(self, pieces):
        with contextlib.ExitStack() as stack:
            memfds = [stack.enter_context(memfd(8 * PAGE)) for _ in range(3)]
            for index, number in enumerate(memfds):
                for page in range(8):
                    os.pwrite(number, bytes([page, index]), page * PAGE)
            wanted = [(memfds[which], first * PAGE, size * PAGE) for which, first, size in pieces]
            buffer = stack.enter_context(udmabuf.from_memfds(wanted))
            assert stamps(buffer) == [
                page + 256 * which
                for which, first, size in pieces
                for page in range(first, first + size)
            ]


class TestRefusal:
    """The same on each kernel: what is wrong with a memfd is said before udmabuf is asked for."""

    @pytest.mark.parametrize(
        ("seals", "word"),
        [
            (0, r"could shrink .*fcntl.fcntl\(memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK\)"),
            (fcntl.F_SEAL_GROW, "could shrink"),
            (fcntl.F_SEAL_SEAL, r"could shrink .*does not allow seals; .*MFD_ALLOW_SEALING"),
            (SHRINK | fcntl.F_SEAL_WRITE, "has F_SEAL_WRITE, .*use one without"),
            (SHRINK | 0x10, "has F_SEAL_FUTURE_WRITE, .*use one without"),
        ],
    )
    def test_of_seals_says_which(self, seals, word):
        with memfd(seals=seals) as number:
            for use in (
                lambda: udmabuf.from_memfd(number),
                lambda: udmabuf.from_memfd(number, 0, PAGE),
                lambda: udmabuf.from_memfds([(number, 0, PAGE)] * 2),
            ):
                with pytest.raises(dmabuf.RefusedError, match=f"memfd {number} {word}") as caught:
                    use()
                assert caught.value.errno == errno.EINVAL
            assert os.pread(number, 2, PAGE) == b"\1\0"

    def test_of_a_memfd_as_python_makes_it_says_how_to_make_it(self):
        number = os.memfd_create("as python makes it")
        try:
            os.ftruncate(number, PAGE)
            with pytest.raises(dmabuf.RefusedError, match="MFD_ALLOW_SEALING"):
                udmabuf.from_memfd(number)
        finally:
            os.close(number)

    @pytest.mark.parametrize(
        ("offset", "size", "word"),
        [
            (1, PAGE, "offset 1 is not a multiple of the page size, 4096 bytes"),
            (PAGE - 1, None, "offset 4095 is not a multiple"),
            (-1, PAGE, "offset -1 is not a multiple"),
            (0, 1, "size 1 is not a multiple of the page"),
            (0, PAGE + 2048, "size 6144 is not a multiple"),
            (0, 0, "0 bytes at offset 0 lie outside of memfd"),
            (0, -PAGE, "-4096 bytes at offset 0 lie outside"),
            (-PAGE, PAGE, "4096 bytes at offset -4096 lie outside"),
            (0, 5 * PAGE, r"20480 bytes at offset 0 lie outside of memfd \d+ of 16384 bytes"),
            (4 * PAGE, PAGE, "4096 bytes at offset 16384 lie outside"),
            (4 * PAGE, None, "0 bytes at offset 16384 lie outside"),
            (8 * PAGE, None, "-16384 bytes at offset 32768 lie outside"),
            (2**63, PAGE, "lie outside"),
            (2**64, PAGE, "lie outside"),
            (PAGE, 2**64 - PAGE, "lie outside"),
            (2**64 - PAGE, 2 * PAGE, "lie outside"),
        ],
    )
    def test_of_a_piece_says_which_number_is_wrong(self, offset, size, word):
        with memfd() as number:
            with pytest.raises(dmabuf.RefusedError, match=word) as caught:
                udmabuf.from_memfd(number, offset, size)
            assert caught.value.errno == errno.EINVAL
            assert isinstance(caught.value, ValueError)
            if size is not None:
                with pytest.raises(dmabuf.RefusedError, match=word):
                    udmabuf.from_memfds([(number, 0, PAGE), (number, offset, size)])
            os.fstat(number)

    def test_of_a_memfd_that_is_no_whole_pages_says_so(self):
        with memfd(0, seals=0) as number:
            os.ftruncate(number, 5000)
            fcntl.fcntl(number, fcntl.F_ADD_SEALS, SHRINK)
            with pytest.raises(dmabuf.RefusedError, match="size 5000 is not a multiple"):
                udmabuf.from_memfd(number)

    def test_of_an_empty_memfd_says_so(self):
        with (
            memfd(0) as number,
            pytest.raises(dmabuf.RefusedError, match=f"outside of memfd {number} of 0 bytes"),
        ):
            udmabuf.from_memfd(number)

    def test_of_no_pieces_says_so(self):
        for pieces in ([], (), iter([])):
            with pytest.raises(dmabuf.RefusedError, match="at least one piece") as caught:
                udmabuf.from_memfds(pieces)
            assert caught.value.errno == errno.EINVAL

    @pytest.mark.parametrize("kind", ["pipe", "file", "null", "shm"])
    @pytest.mark.parametrize("size", [None, PAGE])
    def test_of_what_is_no_memfd_leaves_it_open(self, kind, size, tmp_path):
        numbers = []
        if kind == "pipe":
            numbers += os.pipe()
        elif kind == "null":
            numbers.append(os.open("/dev/null", os.O_RDWR))
        else:
            folder = "/dev/shm" if kind == "shm" else tmp_path
            path = os.path.join(folder, "dmabuf-test")
            numbers.append(os.open(path, os.O_RDWR | os.O_CREAT))
            os.ftruncate(numbers[0], PAGE)
            os.unlink(path)
        try:
            with pytest.raises(dmabuf.RefusedError, match="MFD_ALLOW_SEALING") as caught:
                udmabuf.from_memfd(numbers[0], 0, size)
            # A file of a tmpfs takes seals in principle, and so may be a memfd for all we know.
            tmpfs = caught.value.errno == errno.EINVAL
            assert tmpfs or caught.value.errno == errno.EBADFD
            assert not (tmpfs and kind in ("pipe", "null"))
            for number in numbers:
                os.fstat(number)
        finally:
            for number in numbers:
                os.close(number)

    def test_of_a_dma_buf_says_that_it_is_no_memfd(self, buffer):
        with pytest.raises(dmabuf.RefusedError, match="is not a memfd") as caught:
            udmabuf.from_memfd(buffer)
        assert caught.value.errno == errno.EBADFD
        assert not buffer.closed

    def test_of_a_closed_descriptor_says_which(self):
        for size in (None, PAGE):
            with pytest.raises(OSError, match="Bad file descriptor: memfd 987654") as caught:
                udmabuf.from_memfd(987654, 0, size)
            assert caught.value.errno == errno.EBADF

    def test_of_a_closed_file_is_pythons_own(self):
        with memfd() as number:
            with open(number, "rb", closefd=False) as file:
                pass
            with pytest.raises(ValueError, match="closed file"):
                udmabuf.from_memfd(file)

    @pytest.mark.parametrize(
        ("arguments", "error", "word"),
        [
            (("3",), TypeError, "a descriptor must be an int or have a fileno"),
            ((None,), TypeError, "descriptor"),
            ((True,), TypeError, "descriptor"),
            ((-1,), ValueError, "a descriptor must be from 0 to"),
            (("memfd", "0"), TypeError, "offset must be a number of bytes, not str"),
            (("memfd", None), TypeError, "offset .* not NoneType"),
            (("memfd", 0.0), TypeError, "offset .* not float"),
            (("memfd", 0, "4096"), TypeError, "size must be a number of bytes, not str"),
            (("memfd", 0, 4096.0), TypeError, "size .* not float"),
            (("memfd", False, PAGE), TypeError, "offset .* not bool"),
        ],
    )
    def test_of_nonsense_names_it(self, arguments, error, word):
        with memfd() as number:
            given = tuple(number if argument == "memfd" else argument for argument in arguments)
            with pytest.raises(error, match=word):
                udmabuf.from_memfd(*given)

    @pytest.mark.parametrize(
        ("pieces", "words"),
        [
            (3, "iterable"),
            ([3], "pieces are .*, and 3 is not one"),
            ([(0, 0)], r"and \(0, 0\) is not one"),
            ([(0, 0, 0, 0)], r"and \(0, 0, 0, 0\) is not one"),
        ],
    )
    def test_of_pieces_that_are_none_says_what_they_are(self, pieces, words):
        with pytest.raises(TypeError, match=words):
            udmabuf.from_memfds(pieces)

    @needs_udmabuf
    def test_without_a_descriptor_left_loses_none(self):
        with memfd() as number:
            for left in range(2):  # the device's, the buffer's
                with (
                    descriptors_left(left),
                    pytest.raises(OSError, match="Too many open files") as caught,
                ):
                    udmabuf.from_memfds([(number, 0, PAGE)] * 2)
                assert caught.value.errno == errno.EMFILE
            with descriptors_left(2):
                udmabuf.from_memfds([(number, 0, PAGE)] * 2).close()


@needs_udmabuf
class TestPermission:
    @pytest.mark.needs("root", "own machine")
    def test_missing_says_mode_owner_group_and_the_rule_that_mends_it(self):
        text = r"/dev/udmabuf is crw------- root:root; run as root"
        for use in (
            lambda: udmabuf.allocate(PAGE),
            lambda: udmabuf.from_memfd(number),
        ):
            with memfd() as number, pytest.raises(PermissionError, match=text) as caught:
                in_child(use, user=NOBODY)
            assert caught.value.errno == errno.EACCES
            for word in ('KERNEL=="udmabuf", GROUP="kvm", MODE="0660"', "join the group kvm"):
                assert word in str(caught.value)

    @pytest.mark.needs("own machine")
    def test_of_the_node_is_all_that_is_needed(self):
        def use():
            with udmabuf.allocate(PAGE, name="x") as buffer:
                with buffer.write() as memory:
                    memory[:4] = b"mine"
                return buffer.name, bytes(buffer.memory[:4])

        mode = os.stat("/dev/udmabuf").st_mode
        os.chmod("/dev/udmabuf", 0o666)
        try:
            assert in_child(use, user=NOBODY) == ("x", b"mine")
        finally:
            os.chmod("/dev/udmabuf", mode)

    @pytest.mark.needs("own machine")
    def test_of_a_node_that_a_container_lacks_says_how_to_pass_it(self):
        os.rename("/dev/udmabuf", "/dev/udmabuf_kept_by_a_test")
        try:
            text = "--device /dev/udmabuf"
            with memfd() as number:
                for use in (
                    lambda: udmabuf.allocate(PAGE),
                    lambda: udmabuf.from_memfd(number),
                    lambda: udmabuf.from_memfds([(number, 0, PAGE)] * 2),
                ):
                    with pytest.raises(FileNotFoundError, match=text) as caught:
                        use()
                    assert not isinstance(caught.value, dmabuf.UnsupportedError)
            assert udmabuf.limits().count
        finally:
            os.rename("/dev/udmabuf_kept_by_a_test", "/dev/udmabuf")


@needs_udmabuf
class TestAccess:
    def test_the_kernel_refuses_an_end_before_the_first_start(self):
        with udmabuf.allocate(PAGE) as buffer, pytest.raises(OSError, match="Invalid argument"):
            _ioctl.dma_buf_sync(buffer.fileno(), _ioctl.SYNC_READ | _ioctl.SYNC_END)

    @pytest.mark.parametrize("access", list(Access.__members__.values()))
    def test_an_end_that_nobody_began_never_reaches_the_kernel(self, access):
        with udmabuf.allocate(PAGE) as buffer:
            with pytest.raises(ValueError, match="no access") as caught:
                buffer.end_access(access)
            assert not isinstance(caught.value, OSError)
            with pytest.raises(ValueError, match="not open"):
                buffer.access(access).__exit__(None, None, None)

    @pytest.mark.parametrize("access", list(Access.__members__.values()))
    def test_the_first_access_of_a_buffer_is_bracketed(self, access):
        with udmabuf.allocate(PAGE) as buffer:
            buffer.begin_access(access)
            buffer.end_access(access)
        with udmabuf.allocate(PAGE) as buffer, buffer.access(access):
            pass
        with udmabuf.allocate(PAGE) as buffer, buffer.dup() as other:
            other.begin_access(access)
            with pytest.raises(ValueError, match="no access"):
                buffer.end_access(access)
            other.end_access(access)


@pytest.mark.needs("no udmabuf")
class TestKernelWithoutUdmabuf:
    @pytest.mark.parametrize(
        "use",
        [
            "limits",
            "allocate",
            pytest.param("huge", marks=pytest.mark.needs("huge pages")),
            "from_memfd",
            "from_memfds",
        ],
    )
    def test_names_the_version_and_the_option_that_have_it(self, use):
        with memfd() as number:
            uses = {
                "limits": udmabuf.limits,
                "allocate": lambda: udmabuf.allocate(PAGE, name="x"),
                "huge": lambda: udmabuf.allocate(PAGE, hugepages=HUGE),
                "from_memfd": lambda: udmabuf.from_memfd(number),
                "from_memfds": lambda: udmabuf.from_memfds([(number, 0, PAGE)] * 2),
            }
            with pytest.raises(dmabuf.UnsupportedError, match="has no udmabuf device") as caught:
                uses[use]()
        assert caught.value.errno == errno.ENOENT
        for word in (os.uname().release, "Linux 4.20", "CONFIG_UDMABUF"):
            assert word in str(caught.value)
        assert str(caught.value).endswith(f"; {udmabuf.KIND.how_to_get(udmabuf.PATH)}")
