"""dmabuf-alloc as its user meets it: what it says, what it does, and with which exit status."""

import errno
import os
import re
import resource
import struct

import pytest
from conftest import IN_OUR_MACHINE, descriptors

import dmabuf
from dmabuf.cli import alloc, check, contents, ioctls, kernel, list, main, probe  # noqa: F401
from dmabuf.cli.size import exact, parse_size, rough

HEAP = os.path.exists("/dev/dma_heap/system")
UDMABUF = os.path.exists("/dev/udmabuf")


class Answer:
    """One run of the command, in this process."""

    def __init__(self, arguments, capfd):
        self.status = main(arguments)
        self.out, self.err = capfd.readouterr()

    def fails(self, status, *words):
        """Assert that it failed with this status and one line on standard error."""
        assert self.status == status, self.err
        assert self.err.startswith("dmabuf-alloc: ")
        assert self.err.count("\n") == 1
        for word in words:
            assert word in self.err

    def rows(self):
        """Return the lines below a table's heads, as lists of words."""
        return [line.split() for line in self.out.splitlines()]


@pytest.fixture
def run(capfd):
    return lambda *arguments: Answer(arguments, capfd)


@pytest.fixture
def unprivileged():
    """Be nobody for the kernel, with every module loaded already."""
    os.seteuid(65534)
    yield
    os.seteuid(0)


class TestCheck:
    def test_the_status_says_whether_an_exporter_works(self, run):
        answer = run()
        if HEAP or UDMABUF:
            assert answer.status == 0
            assert answer.err == ""
            assert answer.out.splitlines()[-1].startswith("works: ")
        else:
            answer.fails(1, "no exporter works here")
            assert "what to do: " in answer.out

    def test_check_is_its_name(self, run):
        assert run("check").status == (0 if HEAP or UDMABUF else 1)

    def test_the_kernel_and_the_memory_are_named(self, run):
        answer = run()
        assert os.uname().release in answer.out
        assert re.search(r"memory [\d.]+ [MG]iB, [\d.]+ [MG]iB available; (no CMA|CMA)", answer.out)

    @pytest.mark.needs("heap", "udmabuf", "root")
    def test_each_exporter_is_tried(self, run):
        lines = run().out.splitlines()
        for name in ("system", "udmabuf"):
            tried = [line for line in lines if re.match(rf"{name}\s+yes\s+yes\s+yes\s", line)]
            assert len(tried) == 1
            assert re.search(r" [mu]?s +[\d.]+ [MG]iB/s +[\d.]+ [MG]iB/s$", tried[0])

    @pytest.mark.needs("heap", "udmabuf", "root")
    def test_each_ioctl_is_tried(self, run):
        answer = run()
        found = dict(re.findall(r"^(\w+_\w+) +(yes|no|-)", answer.out, re.MULTILINE))
        assert found == dict.fromkeys(
            [
                "DMA_HEAP_IOCTL_ALLOC",
                "UDMABUF_CREATE",
                "UDMABUF_CREATE_LIST",
                "DMA_BUF_IOCTL_SYNC",
                "DMA_BUF_SET_NAME",
                "DMA_BUF_IOCTL_EXPORT_SYNC_FILE",
                "DMA_BUF_IOCTL_IMPORT_SYNC_FILE",
                "SYNC_IOC_MERGE",
                "SYNC_IOC_FILE_INFO",
                "SYNC_IOC_SET_DEADLINE",
            ],
            "yes",
        )

    @pytest.mark.needs("heap", "udmabuf", "root")
    def test_without_permission_it_says_which_one_is_missing(self, run, unprivileged):
        answer = run()
        answer.fails(1, "no exporter works here")
        assert "system: Permission denied: /dev/dma_heap/system is crw" in answer.out
        assert "udmabuf: Permission denied: /dev/udmabuf is crw" in answer.out
        assert answer.out.count("what to do: run as root, or put ") == 2
        assert "not tried: no heap to open" in answer.out

    @pytest.mark.needs("heap", "root")
    def test_an_exporter_that_loses_data_does_not_work(self, run, monkeypatch):
        def fill(buffer, index, content, advance):
            with buffer.write() as memory:
                memory[:] = bytes(buffer.size)

        monkeypatch.setattr(contents, "fill", fill)
        answer = run()
        answer.fails(1, "no exporter works here")
        assert re.search(r"system +yes +yes +no +-", answer.out)
        assert "system: Input/output error: buffer 0 differs at offset 8 (0x8)" in answer.out

    def test_a_kernel_without_heaps_is_named_as_such(self, run):
        if HEAP:
            assert "no dma-heap" not in run().out
        else:
            answer = run()
            missing = f"system: /dev/dma_heap/system: this kernel (Linux {os.uname().release})"
            assert f"{missing} has no dma-heap" in answer.out
            assert re.search(r"what to do: .*CONFIG_DMABUF_HEAPS|modprobe system_heap", answer.out)


class TestList:
    def test_lists_the_nodes_there_are(self, run):
        answer = run("list")
        assert answer.status == 0
        assert answer.err == ""
        for path in ("/dev/dma_heap/system", "/dev/udmabuf"):
            assert (path in answer.out) == os.path.exists(path)
        if not (HEAP or UDMABUF):
            assert "No exporter here" in answer.out

    @pytest.mark.needs("heap", "udmabuf", "root")
    def test_says_who_may_use_them(self, run):
        rows = run("list").rows()
        mode = ["crw-------", "root:root", "yes"]
        assert ["system", "/dev/dma_heap/system", *mode] in rows
        udmabuf = next(row for row in rows if row[:1] == ["udmabuf"])
        assert udmabuf[:5] == ["udmabuf", "/dev/udmabuf", *mode]
        assert udmabuf[-2:] == [str(dmabuf.udmabuf.limits().count), "pieces"]

    @pytest.mark.needs("heap", "udmabuf", "root")
    def test_needs_no_permission(self, run, unprivileged):
        answer = run("list")
        assert answer.status == 0
        assert len(re.findall(r"crw------- +root:root +no\b", answer.out)) == 2


@pytest.mark.needs("heap", "root")
class TestAlloc:
    def test_a_size_alone_allocates(self, run):
        answer = run("64K")
        assert answer.status == 0
        assert answer.err == ""
        assert ["0", "system", "64", "KiB"] in [row[:4] for row in answer.rows()]

    @pytest.mark.parametrize(
        "arguments",
        [
            ["alloc", "4096"],
            ["--heap", "system", "4096"],
            ["4096", "--heap", "system"],
            ["--count=1", "alloc", "4096"],
            ["--verify", "--", "4096"],
        ],
        ids=" ".join,
    )
    def test_the_command_may_be_left_out_and_options_may_come_first(self, run, arguments):
        answer = run(*arguments)
        assert answer.status == 0
        assert " 4 KiB " in answer.out

    def test_the_size_is_rounded_up_to_pages(self, run):
        assert " 8 KiB " in run("5000").out

    def test_several_buffers_have_numbered_names(self, run):
        answer = run("4K", "--count", "3", "--name", "cam")
        assert answer.status == 0
        assert [row[-1] for row in answer.rows()[2:5]] == ["cam-0", "cam-1", "cam-2"]
        inodes = {row[4] for row in answer.rows()[2:5]}
        assert len(inodes) == 3

    def test_one_buffer_has_the_name_itself(self, run):
        assert run("4K", "--name", "cam").rows()[2][-1] == "cam"

    def test_a_name_that_the_terminal_would_obey_is_escaped(self, run):
        assert "a\\x1b[31mb" in run("4K", "--name", "a\x1b[31mb").out

    @pytest.mark.parametrize("heap", ["system", "/dev/dma_heap/system"])
    def test_a_heap_goes_by_name_or_path(self, run, heap):
        assert run("4K", "--heap", heap).rows()[2][1] == "system"

    @pytest.mark.needs("udmabuf")
    def test_udmabuf_goes_by_its_name(self, run):
        assert run("4K", "--heap", "udmabuf").rows()[2][1] == "udmabuf"

    def test_a_heap_that_is_not_there(self, run):
        run("4K", "--heap", "nope").fails(1, "/dev/dma_heap/nope", "the kernel has: system")

    def test_a_node_that_is_no_heap(self, run):
        run("4K", "--heap", "/dev/null").fails(1, "/dev/null is not a dma-heap but mem")

    def test_without_permission(self, run, unprivileged):
        answer = run("4K")
        answer.fails(1, "no exporter could allocate 4096 bytes: system: ", "; udmabuf: ")

    @pytest.mark.needs("udmabuf")
    def test_more_than_the_exporter_can(self, run):
        limit = dmabuf.udmabuf.limits().size
        if limit > os.sysconf("SC_PHYS_PAGES") * 4096:
            pytest.skip("this kernel's udmabuf has no limit")
        answer = run(str(limit + 4096), "--heap", "udmabuf")
        answer.fails(1, f"{limit + 4096} bytes wanted", "size_limit_mb")

    @pytest.mark.skipif(not IN_OUR_MACHINE, reason="a mistake would cost the machine")
    @pytest.mark.parametrize(
        "arguments", [["1T"], ["64M", "--count", "100000"], ["1T", "--fill-from", "-"]]
    )
    def test_more_than_the_machine_has_is_refused_at_once(self, run, arguments):
        run(*arguments).fails(1, "Cannot allocate memory", "MemAvailable")

    def test_when_one_of_several_fails_it_says_how_many_there_were(self, run):
        before = descriptors()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (before + 10, hard))
        try:
            answer = run("4K", "--count", "20", "--heap", "system")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        answer.fails(1, " of 20 buffers were had, and released again: ", "Too many open files")
        assert 5 <= int(re.search(r"(\d+) of 20", answer.err)[1]) <= 10
        assert descriptors() == before

    def test_hold_for_releases_after_the_time(self, run):
        answer = run("4K", "--hold-for", "0.1")
        assert answer.status == 0
        assert f"holding for 0.1 s, or until Ctrl-C or kill {os.getpid()}\n" in answer.out
        assert answer.out.endswith("released\n")


@pytest.mark.needs("heap", "root")
class TestFilling:
    @pytest.mark.parametrize("byte", ["0xaa", "170"])
    def test_a_byte(self, run, byte):
        answer = run("5M", "--count", "2", "--fill", byte, "--verify")
        assert answer.status == 0
        assert "filled with 0xaa in " in answer.out
        assert "verified in " in answer.out

    def test_the_pattern(self, run):
        answer = run("5M", "--count", "2", "--fill-pattern", "--verify")
        assert answer.status == 0
        assert "filled with the pattern in " in answer.out

    def test_fresh_memory_is_verified_to_be_zero(self, run):
        answer = run("5M", "--verify")
        assert answer.status == 0
        assert "filled" not in answer.out
        assert "verified in " in answer.out

    def test_a_file_of_the_buffers_size(self, run, tmp_path):
        path = tmp_path / "frame.raw"
        path.write_bytes(os.urandom(5 << 20))
        answer = run("5M", "--count", "2", "--fill-from", str(path), "--verify")
        assert answer.status == 0
        assert f"filled with {path} in " in answer.out

    def test_a_shorter_file_leaves_zeros(self, run, tmp_path):
        path = tmp_path / "short"
        path.write_bytes(b"x" * 5000)
        answer = run("8K", "--fill-from", str(path), "--verify")
        assert answer.status == 0
        assert f"filled with {path} (5000 bytes, then zeros) in " in answer.out

    def test_a_file_of_proc_which_knows_no_size(self, run):
        answer = run("1M", "--fill-from", "/proc/version", "--verify")
        assert answer.status == 0
        length = len(open("/proc/version").read())
        assert f"/proc/version ({length} bytes, then zeros)" in answer.out

    def test_a_device_gives_as_much_as_fits(self, run):
        answer = run("64K", "--count", "2", "--fill-from", "/dev/urandom", "--verify")
        assert answer.status == 0
        assert "filled with /dev/urandom in " in answer.out

    def test_what_was_lost_is_found(self, run, monkeypatch):
        fill = contents.fill

        def lossy(buffer, index, content, advance):
            fill(buffer, index, content, advance)
            if index == 1:
                with buffer.read_write() as memory:
                    memory[(4 << 20) + 5] = 0x33

        monkeypatch.setattr(contents, "fill", lossy)
        answer = run("5M", "--count", "2", "--fill", "0xaa", "--verify")
        answer.fails(1, "buffer 1 differs at offset 4194309 (0x400005): expected 0xaa, found 0x33")


def advance(step):
    """Take note of nothing."""


class TestContents:
    def test_a_fill_reaches_every_byte(self, allocate):
        with allocate(5 << 20) as buffer:
            contents.fill(buffer, 0, contents.constant(0xAA), advance)
            with buffer.read() as memory:
                assert bytes(memory) == b"\xaa" * (5 << 20)

    def test_the_pattern_holds_offsets_and_the_index(self, allocate):
        with allocate(5 << 20) as buffer:
            contents.fill(buffer, 3, contents.pattern, advance)
            with buffer.read() as memory:
                for offset in (0, 8, 4096, 65536, (4 << 20) - 8, 4 << 20, (5 << 20) - 8):
                    word = struct.unpack_from("<Q", memory, offset)[0]
                    assert word == offset | 3 << 48

    @pytest.mark.parametrize("size", [4096, 5 << 20])
    def test_swapped_pages_are_a_difference(self, allocate, size):
        with allocate(2 * size) as buffer:
            contents.fill(buffer, 0, contents.pattern, advance)
            assert contents.difference(buffer, 0, contents.pattern, advance) is None
            with buffer.read_write() as memory:
                first, second = bytes(memory[:4096]), bytes(memory[size : size + 4096])
                memory[:4096], memory[size : size + 4096] = second, first
            found = contents.difference(buffer, 0, contents.pattern, advance)
            assert found.offset < 4096

    def test_another_buffers_pattern_is_a_difference(self, allocate):
        with allocate(8192) as buffer:
            contents.fill(buffer, 1, contents.pattern, advance)
            found = contents.difference(buffer, 2, contents.pattern, advance)
            assert found == (2, 6, 2, 1)

    def test_the_last_byte_counts(self, allocate):
        with allocate(8192) as buffer:
            with buffer.write() as memory:
                memory[8191] = 1
            assert contents.difference(buffer, 0, contents.constant(0), advance) == (0, 8191, 0, 1)

    def test_a_file_that_shrinks_is_an_error(self, tmp_path):
        path = tmp_path / "file"
        path.write_bytes(b"x" * 100)
        source = contents.FileContent(str(path), 4096)
        path.write_bytes(b"x")
        with pytest.raises(contents.Failure, match="has become shorter than 100 bytes"):
            source(0, 0, 4096)
        source.close()


class TestSize:
    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("1", 1),
            ("4096", 4096),
            ("4096B", 4096),
            ("0x1000", 4096),
            ("64K", 64 << 10),
            ("64k", 64 << 10),
            ("64KiB", 64 << 10),
            ("64M", 64 << 20),
            ("64Mi", 64 << 20),
            ("64mib", 64 << 20),
            ("1.5G", 3 << 29),
            ("0.1K", 103),
            ("2T", 2 << 40),
            ("99999999999999999999T", 99999999999999999999 << 40),
        ],
    )
    def test_what_is_understood(self, text, size):
        assert parse_size(text) == size

    @pytest.mark.parametrize("text", ["64MB", "1.5gb", "1KB"])
    def test_what_could_be_two_things_is_refused(self, text):
        with pytest.raises(ValueError, match=r"decimal or binary; write [\d.]+[KMG] or"):
            parse_size(text)

    @pytest.mark.parametrize(
        "text",
        ["", " ", "abc", "M", "-1", "+1", "1.5", "1.M", ".5M", "1e6", "1_000", "64 M", "64Q"]
        + ["0x", "0x1K", "inf", "nan", "٣", "1\u212a", "9" * 5000, "4K4K"],
    )
    def test_nonsense_is_refused(self, text):
        with pytest.raises(ValueError, match="is no size"):
            parse_size(text)

    @pytest.mark.parametrize("text", ["0", "0M", "0.0K", "0x0"])
    def test_nothing_is_refused(self, text):
        with pytest.raises(ValueError, match="at least 1 byte"):
            parse_size(text)

    def test_sizes_are_shown_as_they_are(self):
        assert [exact(size) for size in (1, 5000, 8192, 3 << 29)] == [
            "1 bytes",
            "5000 bytes",
            "8 KiB",
            "1536 MiB",
        ]

    def test_figures_are_shown_with_few_digits(self):
        assert [rough(size) for size in (999, 1000, 2_300_000, 25_276_510_208)] == [
            "999 bytes",
            "1.0 KiB",
            "2.2 MiB",
            "23.5 GiB",
        ]


MISUSE = [
    ("64MB", "decimal or binary"),
    ("0", "at least 1 byte"),
    ("-5", "is no size"),
    ("nonsense", "is no size"),
    ("check 64M", "unrecognized"),
    ("list 64M", "unrecognized"),
    ("list --count 2", "unrecognized"),
    ("64M 64M", "unrecognized"),
    ("--bogus", "--bogus"),
    ("64M --bogus", "--bogus"),
    ("64M --verif", "--verif"),
    ("alloc", "SIZE"),
    ("--count 2", "SIZE"),
    ("4K --count", "--count"),
    ("4K --count 0", "is no count"),
    ("4K --count -1", "is no count"),
    ("4K --count x", "is no count"),
    ("4K --heap=", "can't be empty"),
    ("4K --name=", "can't be empty"),
    (f"4K --name {'x' * 32}", "at most 31 bytes"),
    (f"4K --count 11 --name {'x' * 29}", "at most 31 bytes"),
    ("4K --fill 256", "is no byte"),
    ("4K --fill -1", "is no byte"),
    ("4K --fill 0x100", "is no byte"),
    ("4K --fill x", "is no byte"),
    ("4K --fill 1 --fill-pattern", "not allowed with"),
    ("4K --fill-from f --fill 1", "not allowed with"),
    ("4K --fill-pattern --fill-from f", "not allowed with"),
    ("4K --hold --hold-for 1", "not allowed with"),
    ("4K --hold-for -1", "is no time"),
    ("4K --hold-for nan", "is no time"),
    ("4K --hold-for inf", "is no time"),
    ("4K --hold-for soon", "is no time"),
]


class TestMisuse:
    @pytest.mark.parametrize(("line", "word"), MISUSE, ids=[line for line, _ in MISUSE])
    def test_wrong_usage(self, run, line, word):
        answer = run(*line.split())
        answer.fails(2, word)
        assert answer.out == ""

    def test_a_name_with_a_newline(self, run):
        run("4K", "--name", "a\nb").fails(2, "no newline")

    @pytest.mark.parametrize(
        ("path", "word"),
        [("/nonexistent", "No such file or directory"), ("/tmp", "Is a directory")],
    )
    def test_a_file_that_cannot_be_read(self, run, path, word):
        run("4K", "--fill-from", path).fails(1, path, word)

    @pytest.mark.parametrize("path", ["/proc/self/maps", "file"])
    def test_a_file_that_is_too_long(self, run, path, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "file").write_bytes(bytes(101))
        run("100", "--fill-from", path).fails(1, f"{path} is longer than the buffer, 100 bytes")

    def test_a_filename_with_a_newline_stays_on_one_line(self, run):
        run("4K", "--fill-from", "a\nb").fails(1, "a\\nb: No such file or directory")

    def test_without_an_exporter_an_allocation_says_why(self, run):
        if not (HEAP or UDMABUF):
            run("4K").fails(1, "no exporter could allocate 4096 bytes: system: ", "; udmabuf: ")


class TestHelp:
    @pytest.mark.parametrize(
        "arguments", [["--help"], ["-h"], ["alloc", "--help"], ["--help", "list"], ["check", "-h"]]
    )
    def test_help(self, run, arguments):
        answer = run(*arguments)
        assert answer.status == 0
        assert answer.out.startswith("usage: dmabuf-alloc")
        assert all(len(line) <= 100 for line in answer.out.splitlines())

    def test_version(self, run):
        assert run("--version").out == f"dmabuf {dmabuf.__version__}\n"


class TestRemedy:
    def missing(self, kind):
        return check.candidates()[0 if kind == "heap" else -1]

    def lacking(self):
        return dmabuf.UnsupportedError(errno.ENOENT, "no such thing; it needs more; try this")

    def test_an_option_that_is_off_means_another_kernel(self, monkeypatch):
        monkeypatch.setattr(kernel, "has_module", lambda name: False)
        built = kernel.Configuration("/proc/config.gz", {"CONFIG_UDMABUF": "n"})
        advice = kernel.advise(self.missing("udmabuf"), self.lacking(), built)
        assert advice.error == "no such thing"
        assert advice.remedy == (
            "boot a kernel with CONFIG_UDMABUF; /proc/config.gz says that it was built without"
        )

    def test_a_module_that_is_there_is_to_be_loaded(self, monkeypatch):
        monkeypatch.setattr(kernel, "has_module", lambda name: name == "udmabuf")
        advice = kernel.advise(self.missing("udmabuf"), self.lacking(), None)
        assert advice.remedy == "run modprobe udmabuf"

    def test_without_knowledge_both_are_named(self, monkeypatch):
        monkeypatch.setattr(kernel, "has_module", lambda name: False)
        advice = kernel.advise(self.missing("heap"), self.lacking(), None)
        assert advice.remedy == (
            "run modprobe system_heap, or boot a kernel with"
            " CONFIG_DMABUF_HEAPS and CONFIG_DMABUF_HEAPS_SYSTEM"
        )
