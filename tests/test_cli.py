"""dmabuf-alloc as its user meets it: what it says, what it does, and with which exit status."""

import errno
import os
import pkgutil
import re
import resource
import stat
from pathlib import Path

import pytest
from helpers.leaks import descriptors

import dmabuf
import dmabuf.cli.checks.devices
import dmabuf.cli.commands.alloc
import dmabuf.cli.commands.list
from dmabuf.cli import commands, main
from dmabuf.cli.arguments import parse, split
from dmabuf.cli.checks import contents, exporters
from dmabuf.cli.commands import check
from dmabuf.heap import KIND
from dmabuf.udmabuf import Limits

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
    """Be nobody for the kernel; the modules that the command needs are imported above."""
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

    def test_away_from_a_terminal_it_is_plain_text(self, run):
        answer = run()
        assert answer.out.isascii()
        assert "\x1b" not in answer.out

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

    @pytest.mark.needs("heap", "udmabuf", "root", "export", "deadline")
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
        assert answer.out.count("what to do: run as root, or put ") == len(dmabuf.heaps()) + 1
        assert "not tried: no heap to open" in answer.out

    @pytest.mark.needs("heap", "udmabuf", "root", "own machine")
    def test_a_folder_that_may_not_be_searched(self, run, unprivileged):
        os.seteuid(0)
        mode = os.stat("/dev/dma_heap").st_mode
        os.chmod("/dev/dma_heap", 0o700)
        os.seteuid(65534)
        try:
            run("list").fails(1, "Permission denied: /dev/dma_heap can't be listed; run as root")
            answer = run()
        finally:
            os.seteuid(0)
            os.chmod("/dev/dma_heap", mode)
        answer.fails(1, "no exporter works here")
        assert "system is in a directory that you may not search\n" in answer.out

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
            assert f"what to do: {KIND.how_to_get('/dev/dma_heap/system')}\n" in answer.out


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
        for name, path in (("system", "/dev/dma_heap/system"), ("udmabuf", "/dev/udmabuf")):
            row = next(row for row in rows if row[:1] == [name])
            assert row[1:3] == [path, stat.filemode(os.stat(path).st_mode)]
            assert row[4] == "yes"
        assert row[-2:] == [str(dmabuf.udmabuf.limits().count), "pieces"]

    @pytest.mark.needs("heap", "udmabuf", "root")
    def test_needs_no_permission(self, run, unprivileged):
        answer = run("list")
        assert answer.status == 0
        exporters = re.findall(r"crw------- +root:root +no\b", answer.out)
        assert len(exporters) == len(dmabuf.heaps()) + 1


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
    @pytest.mark.parametrize("heap", ["udmabuf", "/dev/udmabuf"])
    def test_udmabuf_goes_by_its_name_or_path(self, run, heap):
        assert run("4K", "--heap", heap).rows()[2][1] == "udmabuf"

    def test_a_heap_that_is_not_there(self, run):
        run("4K", "--heap", "nope").fails(1, "/dev/dma_heap/nope", "the kernel has: ", "system")

    def test_a_node_that_is_no_heap(self, run):
        run("4K", "--heap", "/dev/null").fails(1, "/dev/null is not a dma-heap but mem")

    def test_without_permission(self, run, unprivileged):
        answer = run("4K")
        answer.fails(1, "no exporter could allocate 4096 bytes: system: ", "; udmabuf: ")

    @pytest.mark.needs("udmabuf", "own machine")
    def test_more_than_the_exporter_can(self, run):
        limit = Path("/sys/module/udmabuf/parameters/size_limit_mb")
        before = limit.read_text()
        limit.write_text("1")
        try:
            answer = run("2M", "--heap", "udmabuf")
        finally:
            limit.write_text(before)
        answer.fails(1, "2097152 bytes wanted, one udmabuf may have 1048576", "size_limit_mb")

    @pytest.mark.needs("own machine")  # a mistake would cost it
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
        answer.fails(
            1, " of 20 buffers were allocated, and released again: ", "Too many open files"
        )
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
        length = len(Path("/proc/version").read_bytes())
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


class TestListOfDevices:
    def test_each_node_has_a_line(self, run):
        answer = run("list", "--devices")
        assert (answer.status, answer.err) == (0, "")
        for device in dmabuf.devices.find():
            assert re.search(rf"^{device.kind} +{device.path} ", answer.out, re.MULTILINE)
            assert re.search(rf"^{device.path} +crw.* (yes|no)$", answer.out, re.MULTILINE)

    @pytest.mark.needs("vgem", "root")
    def test_it_says_what_they_can(self, run):
        out = run("list", "--devices").out
        assert re.search(r"^drm +/dev/dri/card\d+ +vgem +imports, exports, dumb$", out, re.M)
        assert re.search(r"^/dev/dri/renderD\d+ +crw.* yes$", out, re.MULTILINE)

    @pytest.mark.needs("vivid", "root")
    def test_it_says_what_cameras_can(self, run):
        out = run("list", "--devices").out
        assert re.search(r"^v4l2 +/dev/video\d+ +vivid +capture, MMAP, .*DMABUF$", out, re.M)

    @pytest.mark.needs("vgem", "root", "own machine")
    def test_it_says_once_a_kind_what_would_open_them(self, run, unprivileged):
        answer = run("list", "--devices")
        assert (answer.status, answer.err) == (0, "")
        reasons = [line for line in answer.out.splitlines() if ": Permission denied: " in line]
        kinds = [line.split(":")[0] for line in reasons]
        assert len(kinds) == len(set(kinds))
        (reason,) = [line for line in reasons if line.startswith("drm: ")]
        assert "/dev/dri/card0 is crw" in reason
        assert "join the group video" in reason


MISUSE = [
    ("64MB", "decimal or binary"),
    ("0", "at least 1 byte"),
    ("-5", "is not a size"),
    ("nonsense", "'nonsense' is neither a size nor a command (check, alloc, list"),
    ("--count 2 nonsense", "is neither a size nor a command"),
    ("--debug nonsense --verify", "is neither a size nor a command"),
    ("alloc nonsense", "'nonsense' is neither a size nor a command"),
    ("alloc list", "'list' is a command, not a size; write dmabuf-alloc list alone"),
    ("alloc --name cam nonsense", "'nonsense' is neither a size nor a command"),
    ("alloc --hape system 4K", "unrecognized arguments: --hape; did you mean --heap?; see"),
    ("--hape system 4K", "unrecognized arguments: --hape; did you mean --heap?; see"),
    ("--jason", "unrecognized arguments: --jason; did you mean --json?; see dmabuf-alloc --help"),
    ("list --device", "unrecognized arguments: --device; did you mean --devices?; see"),
    ("list --nothing-like-it=1", "unrecognized arguments: --nothing-like-it=1; see"),
    ("help nonsense", "'nonsense' is neither a size nor a command"),
    ("check 64M", "unrecognized"),
    ("list 64M", "unrecognized"),
    ("list --count 2", "unrecognized"),
    ("list --device", "unrecognized"),
    ("--devices", "unrecognized"),
    ("64M --devices", "unrecognized"),
    ("64M 64M", "unrecognized"),
    ("--bogus", "--bogus"),
    ("64M --bogus", "--bogus"),
    ("64M --verif", "--verif"),
    ("alloc", "SIZE"),
    ("--count 2", "SIZE"),
    ("4K --count", "--count"),
    ("4K --count 0", "is not a count"),
    ("4K --count -1", "is not a count"),
    ("4K --count x", "is not a count"),
    ("4K --heap=", "can't be empty"),
    ("4K --name=", "can't be empty"),
    (f"4K --name {'x' * 32}", "at most 31 bytes"),
    (f"4K --count 11 --name {'x' * 29}", "at most 31 bytes"),
    ("4K --fill 256", "is not a byte"),
    ("4K --fill -1", "is not a byte"),
    ("4K --fill 0x100", "is not a byte"),
    ("4K --fill x", "is not a byte"),
    ("4K --fill 1 --fill-pattern", "not allowed with"),
    ("4K --fill-from f --fill 1", "not allowed with"),
    ("4K --fill-pattern --fill-from f", "not allowed with"),
    ("4K --hold --hold-for 1", "not allowed with"),
    ("4K --hold-for -1", "is not a time"),
    ("4K --hold-for nan", "is not a time"),
    ("4K --hold-for inf", "is not a time"),
    ("4K --hold-for soon", "is not a time"),
]


class TestMisuse:
    @pytest.mark.parametrize(("line", "word"), MISUSE, ids=[line for line, _ in MISUSE])
    def test_wrong_usage(self, run, line, word):
        answer = run(*line.split())
        answer.fails(2, word)
        assert answer.out == ""

    @pytest.mark.parametrize(
        ("word", "near"), [("alocate", "alloc"), ("lst", "list"), ("CHECK", "check")]
    )
    def test_a_word_that_is_nearly_a_command(self, run, word, near):
        for words in ([word], ["alloc", word], ["help", word], ["--json", word]):
            answer = run(*words)
            answer.fails(2, "is neither a size nor a command", f"; did you mean {near}?\n")

    def test_a_word_that_is_like_no_command_gets_no_guess(self, run):
        assert "did you mean" not in run("nonsense").err

    def test_a_name_with_a_newline(self, run):
        run("4K", "--name", "a\nb").fails(2, "must not contain a newline")

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

    def test_a_file_whose_bytes_cannot_be_read_is_named(self, run):
        run("4K", "--fill-from", "/proc/self/mem").fails(1, "/proc/self/mem: Input/output error")

    def test_a_filename_with_a_newline_stays_on_one_line(self, run):
        run("4K", "--fill-from", "a\nb").fails(1, "a\\nb: No such file or directory")

    def test_without_an_exporter_an_allocation_says_why(self, run):
        if not (HEAP or UDMABUF):
            run("4K").fails(1, "no exporter could allocate 4096 bytes: system: ", "; udmabuf: ")


class TestStandardInput:
    @pytest.fixture
    def give(self):
        """Return a function that puts bytes into a pipe on standard input."""
        kept = os.dup(0)

        def give(data):
            reader, writer = os.pipe()
            os.write(writer, data)
            os.close(writer)
            os.dup2(reader, 0)
            os.close(reader)

        yield give
        os.dup2(kept, 0)
        os.close(kept)

    def test_too_much_of_it(self, run, give):
        give(b"x" * 5000)
        answer = run("4K", "--fill-from", "-")
        answer.fails(1, "standard input is longer than the buffer, 4 KiB")

    @pytest.mark.needs("heap", "root")
    def test_fills_each_buffer(self, run, give):
        give(b"x" * 4096)
        answer = run("4K", "--count", "2", "--fill-from", "-", "--verify")
        assert answer.status == 0
        assert "filled with standard input in " in answer.out


class TestHelp:
    @pytest.mark.parametrize(
        "arguments", [["--help"], ["-h"], ["alloc", "--help"], ["--help", "list"], ["check", "-h"]]
    )
    def test_help(self, run, arguments):
        answer = run(*arguments)
        assert answer.status == 0
        assert answer.out.startswith("usage: dmabuf-alloc")
        assert all(len(line) <= 100 for line in answer.out.splitlines())

    def test_the_common_help_has_a_line_of_each_command(self, run):
        out = run("--help").out
        for name in commands.NAMES:
            summary = commands.load(name).SUMMARY
            assert re.search(rf"^  {name} +{re.escape(summary)}$", out, re.MULTILINE)

    @pytest.mark.parametrize("words", [[], ["list"], ["alloc"], ["--json"], ["--debug", "ps"]])
    def test_help_is_a_command_too(self, run, words):
        names = [word for word in words if not word.startswith("-")]
        assert run("help", *words).out == run(*names, "--help").out
        assert run("--json", "help", *words).out == run(*names, "--help").out

    def test_version(self, run):
        assert run("--version").out == f"dmabuf {dmabuf.__version__}\n"


class TestCommands:
    def test_each_module_is_in_the_table(self):
        modules = {module.name for module in pkgutil.iter_modules(commands.__path__)}
        assert modules == set(commands.NAMES)

    @pytest.mark.parametrize("name", commands.NAMES)
    def test_each_takes_what_all_share_before_and_behind_its_name(self, name):
        own = commands.load(name).EXAMPLES[-1][0].split()
        own = own[1:] if own[:1] == [name] else own
        for words in (["--json", "--debug", name, *own], [name, *own, "--debug", "--json"]):
            found, rest = split(words)
            arguments = parse(found, commands.load(found), rest)
            assert (found, arguments.json, arguments.debug) == (name, True, True)

    @pytest.mark.parametrize("name", commands.NAMES)
    def test_each_example_can_be_parsed(self, name):
        for words, _ in commands.load(name).EXAMPLES:
            assert split(words.split())[0] == name
            parse(name, commands.load(name), split(words.split())[1])


class TestUnreadable:
    """Files of the kernel that a container hides."""

    def test_check_goes_on_without_meminfo(self, run, monkeypatch):
        def unreadable():
            raise PermissionError(errno.EACCES, "Permission denied", "/proc/meminfo")

        monkeypatch.setattr(check._memory, "meminfo", unreadable)
        answer = run()
        assert "memory unknown: /proc/meminfo can't be read\n" in answer.out
        assert "DMA_HEAP_IOCTL_ALLOC" in answer.out

    def test_check_goes_on_with_a_meminfo_that_lacks_fields(self, run, monkeypatch):
        monkeypatch.setattr(check, "_meminfo", lambda: {"MemTotal": 1 << 30, "CmaTotal": 1 << 20})
        answer = run()
        assert "memory 1.0 GiB, unknown available; CMA 1.0 MiB, unknown free\n" in answer.out

    def test_check_goes_on_where_sysfs_may_not_be_listed(self, run, monkeypatch, tmp_path):
        (tmp_path / "file").touch()
        monkeypatch.setattr(exporters, "_CLASS", str(tmp_path / "file"))
        assert re.search(r"^system +(yes|no) ", run().out, re.MULTILINE)


def test_limits_without_a_size_tell_the_pieces():
    assert exporters.about_limits(Limits(None, 1024)) == "up to 1024 pieces"
    assert exporters.about_limits(Limits(64 << 20, 1024)) == "up to 64 MiB, 1024 pieces"
