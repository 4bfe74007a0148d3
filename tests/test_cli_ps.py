"""dmabuf-alloc ps: tables and trees of who holds what, on terminals and in pipes."""

import contextlib
import io
import json
import os
import pwd
import re
import subprocess
import sys

import pytest
from helpers import made_usage
from helpers.command import COMMAND, Terminal, on_terminal, run_command
from helpers.made_usage import HOSTILE_NAMES, NOTHING_KNOWN, SHARED
from helpers.peer import Peer
from helpers.process import NOBODY, in_child

from dmabuf import usage
from dmabuf.cli import main
from dmabuf.cli.console.text import columns_of
from dmabuf.usage import Usage

outside = pytest.mark.needs("outside")  # what it asks is no kernel

BUFFERS = """\
 INODE    SIZE EXPORTER    REFS   ?  DEVICES   NAME         HELD BY
   411   31.6M system         7   0  vgem      ring-1       camerad:801(5+2)
   412   31.6M system         8   0  -         ring-2       camerad:801(5+2) weston:655(1)
   377    4.0M udmabuf        1   0  -         scratch      python3:1204(map)
   355    1.0M system         3   3  vgem      preview      (not visible from here)
 4 buffers, 68.2M; held by 3 processes; 3 references unexplained
"""
PROCESSES = """\
   PID USER      COMMAND          BUFS    FDS   MAPS     SIZE    SHARE
   801 video     camerad             2     10      4    63.2M    47.4M
   655 wl        weston              1      1      0    31.6M    15.8M
  1204 root      python3             1      0      1     4.0M     4.0M
 1.0M is held by no process visible from here
"""
TREE = """\
camerad 801 (video)                                   63.2M, share 47.4M
├─ 411 ring-1            31.6M system   fds 6,10,15-17 maps 2
│  ├─ vgem (device)
│  └─ vgem queue (write fence, pending)
└─ 412 ring-2            31.6M system   fds 5,9,12-14 maps 2
   └─ weston 655                        fds 31
weston 655 (wl)                                       31.6M, share 15.8M
└─ 412 ring-2            31.6M system   fds 31
   └─ camerad 801                       fds 5,9,12-14 maps 2
python3 1204 (root)                                   4.0M, share 4.0M
└─ 377 scratch            4.0M udmabuf  maps 1
(not visible from here)
└─ 355 preview            1.0M system
   └─ vgem (device)
"""
UNSEEN = "dmabuf-alloc: 3 processes could not be read when the snapshot was taken"


@pytest.fixture
def snapshot(tmp_path):
    """Return a function that writes a look, and gives the words that read it."""

    def snapshot(made=SHARED):
        return ("--from", made_usage.write(made, tmp_path / "look.json"))

    return snapshot


@outside
class TestLooks:
    @pytest.mark.parametrize(
        ("words", "expected"), [([], BUFFERS), (["-p"], PROCESSES), (["--tree"], TREE)]
    )
    def test_a_pipe_gets_whole_lines(self, snapshot, words, expected):
        answer = run_command("ps", *words, *snapshot(), PYTHONIOENCODING="utf-8")
        assert (answer.returncode, answer.stdout, answer.stderr) == (0, expected, UNSEEN + "\n")

    @pytest.mark.parametrize(
        ("words", "expected"), [([], BUFFERS), (["-p"], PROCESSES), (["--tree"], TREE)]
    )
    def test_a_wide_terminal_gets_the_same(self, snapshot, words, expected):
        status, lines = on_terminal(
            "ps", *words, *snapshot(), columns=200, PYTHONIOENCODING="utf-8"
        )
        assert (status, lines) == (0, [*expected.splitlines(), UNSEEN])

    @pytest.mark.parametrize("columns", [40, 80])
    @pytest.mark.parametrize("words", [[], ["-p"], ["--tree"], ["--bytes"]])
    @pytest.mark.parametrize("made", [SHARED, NOTHING_KNOWN, HOSTILE_NAMES])
    def test_lines_are_cut_to_the_terminal(self, snapshot, columns, words, made):
        _, lines = on_terminal(
            "ps", *words, *snapshot(made), columns=columns, PYTHONIOENCODING="utf-8"
        )
        shown = [line for line in lines if line != UNSEEN]
        assert max(map(columns_of, shown)) <= columns

    def test_at_80_columns_blanks_go_before_text_does(self, snapshot):
        _, lines = on_terminal("ps", *snapshot(), PYTHONIOENCODING="utf-8")
        assert lines[4].endswith("preview (not visible from here)")
        assert lines[0].split() == BUFFERS.splitlines()[0].split()
        assert "weston:655(1)" in lines[2]

    def test_what_is_cut_has_a_mark(self, snapshot):
        _, lines = on_terminal("ps", *snapshot(), columns=40, PYTHONIOENCODING="utf-8")
        assert lines[2].endswith("…")
        _, lines = on_terminal("ps", *snapshot(), columns=40, PYTHONIOENCODING="ascii")
        assert lines[2].endswith("~")

    def test_wide_cuts_nothing(self, snapshot):
        _, lines = on_terminal("ps", "-w", *snapshot(), columns=40)
        assert lines[:-1] == BUFFERS.splitlines()

    def test_unknown_is_a_question_mark_and_none_a_dash(self, snapshot):
        answer = run_command("ps", *snapshot(NOTHING_KNOWN))
        row, totals = answer.stdout.splitlines()[1:]
        assert row.split() == ["9", "?", "?", "?", "?", "?", "-", "x:5(map)"]
        assert totals == " 1 buffer, 0 and 1 of unknown size; held by 1 process"

    def test_ascii_is_drawn_if_asked_for_or_needed(self, snapshot):
        asked = run_command("ps", "--tree", "--ascii", *snapshot(), PYTHONIOENCODING="utf-8")
        needed = run_command("ps", "--tree", *snapshot(), PYTHONIOENCODING="ascii")
        assert asked.stdout == needed.stdout
        assert asked.stdout.isascii()
        assert "`- 412 ring-2" in asked.stdout
        lines = zip(asked.stdout.splitlines(), TREE.splitlines(), strict=True)
        assert all(len(one) == len(other) for one, other in lines)

    @pytest.mark.parametrize("more", [[], ["--bytes"]])
    def test_a_tree_has_its_columns_below_each_other_whatever_is_long(self, snapshot, more):
        long = "a-name-of-thirty-one-characters"
        ring = made_usage.buffer(
            123456,
            made_usage.RING,
            made_usage.holder(4194303, "gst-launch-1.0:", (3,)),
            made_usage.holder(801, "camerad", (5,)),
            name=long,
            exporter="videobuf2_vmalloc",
        )
        made = SHARED._replace(buffers=(*SHARED.buffers, ring))
        answer = run_command(
            "ps", "--tree", "--ascii", *more, *snapshot(made), PYTHONIOENCODING="utf-8"
        )
        lines = answer.stdout.splitlines()
        (mine,) = [line for line in lines if long in line]
        assert {line.index(" fds ") for line in lines if " fds " in line} == {mine.index(" fds ")}
        ends = {re.search(r"\d[.\d]*M?(?= (system|udmabuf|videobuf2))", line) for line in lines}
        assert len({found.end() for found in ends if found}) == 1

    def test_exact_sizes(self, snapshot):
        answer = run_command("ps", "--bytes", *snapshot())
        assert answer.stdout.splitlines()[2].split()[:2] == ["412", "33135002"]
        assert "4 buffers, 71512884;" in answer.stdout


@outside
class TestNames:
    @pytest.mark.parametrize("words", [[], ["-p"], ["--tree"], ["-w"]])
    @pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
    def test_no_name_reaches_a_terminal_as_a_command(self, snapshot, words, encoding):
        with Terminal("ps", *words, *snapshot(HOSTILE_NAMES), PYTHONIOENCODING=encoding) as one:
            status, shown = one.wait()
        assert status == 0
        assert all(character.isprintable() for character in shown.replace("\r\n", ""))

    def test_a_name_with_newlines_stays_on_its_line(self, snapshot):
        answer = run_command("ps", *snapshot(HOSTILE_NAMES), PYTHONIOENCODING="utf-8")
        assert len(answer.stdout.splitlines()) == 1 + len(HOSTILE_NAMES.buffers) + 1
        assert "two\\nlines\\r" in answer.stdout

    def test_wide_letters_keep_the_columns_places(self, snapshot):
        _, lines = on_terminal(
            "ps", "-p", *snapshot(HOSTILE_NAMES), columns=200, PYTHONIOENCODING="utf-8"
        )
        ends = {columns_of(line) for line in lines[1:]}
        assert ends == {columns_of(lines[0])}


def first_column(answer):
    assert answer.returncode == 0, answer.stderr
    return [line.split()[0] for line in answer.stdout.splitlines()[1:] if line.startswith("  ")]


@outside
class TestChoice:
    @pytest.mark.parametrize(
        ("words", "inodes"),
        [
            ("--sort size", "411 412 377 355"),
            ("--sort size -r", "355 377 411 412"),
            ("--sort count", "412 411 355 377"),
            ("--sort name", "355 411 412 377"),
            ("--sort inode", "355 377 411 412"),
            ("--sort inode -r", "412 411 377 355"),
            ("--sort exporter", "355 411 412 377"),
            ("--sort holders", "412 377 411 355"),
            ("--pid 655", "412"),
            ("--pid 655 --pid 1204", "412 377"),
            ("--command camer*", "411 412"),
            ("--user root", "377"),
            ("--exporter udma*", "377"),
            ("--name ring-?", "411 412"),
            ("--name ring-1 --name scratch", "411 377"),
            ("--min-size 2M", "411 412 377"),
            ("--unheld", "355"),
            ("--user video --name *2", "412"),
        ],
    )
    def test_of_buffers(self, snapshot, words, inodes):
        answer = run_command("ps", *words.split(), *snapshot())
        assert first_column(answer) == inodes.split()

    @pytest.mark.parametrize(
        ("words", "pids"),
        [
            ("", "801 655 1204"),
            ("--sort size", "801 655 1204"),
            ("--sort buffers", "801 655 1204"),
            ("--sort fds -r", "1204 655 801"),
            ("--sort pid", "655 801 1204"),
            ("--sort command", "801 1204 655"),
            ("--user video", "801"),
            ("--exporter udmabuf", "1204"),
            ("--name ring-2", "655 801"),
        ],
    )
    def test_of_processes(self, snapshot, words, pids):
        answer = run_command("ps", "-p", *words.split(), *snapshot())
        assert first_column(answer) == pids.split()

    def test_processes_are_summed_over_what_was_chosen(self, snapshot):
        answer = run_command("ps", "-p", "--name", "ring-2", "--bytes", *snapshot())
        rows = [line.split() for line in answer.stdout.splitlines()[1:]]
        assert rows == [
            ["655", "wl", "weston", "1", "1", "0", "33135002", "16567501"],
            ["801", "video", "camerad", "1", "5", "2", "33135002", "16567501"],
        ]

    def test_nothing_that_matches_is_said(self, snapshot):
        answer = run_command("ps", "--name", "x", *snapshot())
        assert (answer.returncode, answer.stdout) == (0, "No buffer matches.\n")

    @pytest.mark.parametrize("words", ["ps", "ps -p --json", "graph", "watch"])
    def test_a_process_that_is_not_there_is_one_line(self, words):
        answer = run_command(*words.split(), "--pid", "1", "--pid", str(1 << 22))
        assert answer.returncode == 1
        assert answer.stderr == "dmabuf-alloc: there is no process 4194304\n"

    @pytest.mark.parametrize(
        "words",
        [
            "ps foo",
            "ps --sort share",
            "ps -p --sort name",
            "ps -p --tree",
            "ps --pid 0",
            "ps --min-size 64MB",
            "ps --unheld --pid 4194304",
            "watch --unheld --pid 4194304",
            "graph --unheld --user root --from missing",
        ],
    )
    def test_what_makes_no_sense_is_one_line(self, words):
        answer = run_command(*words.split())
        assert (answer.returncode, answer.stdout) == (2, "")
        assert answer.stderr.startswith("dmabuf-alloc: ")
        assert answer.stderr.count("\n") == 1


@outside
class TestDocuments:
    def test_json_is_the_look_and_comes_back(self, snapshot):
        answer = run_command("ps", "--json", *snapshot(HOSTILE_NAMES))
        assert Usage.from_json(answer.stdout) == HOSTILE_NAMES

    def test_filters_choose_what_stands_in_it(self, snapshot):
        answer = run_command("ps", "--json", "--pid", "655", *snapshot())
        document = json.loads(answer.stdout)
        (buffer,) = document["buffers"]
        assert [holder["pid"] for holder in buffer["holders"]] == [655, 801]
        assert [process["pid"] for process in document["processes"]] == [655]
        assert document["total"] == {"bytes": made_usage.RING, "buffers": 1, "unsized": 0}

    def test_standard_input_can_be_shown(self):
        answer = run_command("ps", "--from", "-", text=SHARED.to_json())
        assert answer.stdout == BUFFERS

    @pytest.mark.parametrize("text", ["", "{}", "nonsense", "\x00"])
    def test_what_is_no_look_is_one_line(self, text):
        answer = run_command("ps", "--from", "-", text=text)
        assert (answer.returncode, answer.stdout) == (1, "")
        assert answer.stderr.startswith("dmabuf-alloc: -: this is not a snapshot")
        assert answer.stderr.endswith("; dmabuf-alloc ps --json > FILE writes one\n")
        assert answer.stderr.count("\n") == 1

    def test_a_file_without_an_end_is_read_up_to_a_limit(self):
        answer = run_command("ps", "--from", "/dev/zero")
        assert (answer.returncode, answer.stdout) == (1, "")
        words = "dmabuf-alloc: /dev/zero: this is not a snapshot of dmabuf.usage: it has over "
        assert answer.stderr.startswith(words)

    def test_a_file_that_is_not_there_is_one_line(self):
        answer = run_command("ps", "--from", "/nonexistent", "--json")
        assert answer.returncode == 1
        assert json.loads(answer.stdout)["errno"] == "ENOENT"
        assert answer.stderr == "dmabuf-alloc: /nonexistent: No such file or directory\n"


@outside
class TestStreams:
    def test_a_reader_that_is_gone_is_no_traceback(self, snapshot):
        reader, writer = os.pipe()
        os.close(reader)
        answer = subprocess.run(
            [*COMMAND, "ps", *snapshot()], stdout=writer, stderr=subprocess.PIPE, text=True
        )
        os.close(writer)
        assert (answer.returncode, answer.stderr) == (1, "")

    @pytest.mark.parametrize("words", ["ps", "diff -", "graph", "graph --tree"])
    def test_closed_streams_are_no_traceback(self, words):
        script = '"$@" <&- >&- 2>&-; echo $?'
        answer = subprocess.run(
            ["sh", "-c", script, "-", *COMMAND, *words.split()], capture_output=True, text=True
        )
        assert answer.stdout == ("1\n" if words == "diff -" else "0\n")

    def test_it_imports_no_packages_that_it_does_not_need(self):
        script = (
            "import sys; from dmabuf.cli import main; main(['ps']);"
            "print(*sys.modules, file=sys.stderr)"
        )
        answer = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        modules = set(answer.stderr.splitlines()[-1].split())
        assert not {"numpy", "rich", "pyudev", "dmabuf.devices", "subprocess"} & modules


def rows(answer):
    """Return the rows of a table by their first word."""
    return {line.split()[0]: line for line in answer.stdout.splitlines()[1:]}


@pytest.mark.needs("root")
class TestThisMachine:
    def test_a_buffer_and_its_holders_are_shown_as_they_are(self, allocate):
        with allocate(8192, name="shown") as buffer, buffer.dup(), Peer() as peer:
            row = rows(run_command("ps", "--name", "shown"))[str(buffer.inode)]
            assert row.split()[1] == "8.0K"
            assert f":{os.getpid()}(2)" in row
            assert f":{peer.pid}(2)" in row
            processes = rows(run_command("ps", "-p", "--name", "shown"))
            assert {str(os.getpid()), str(peer.pid)} == set(processes) - {"0"}
            name = pwd.getpwuid(0).pw_name
            assert processes[str(peer.pid)].split()[1] == name
            assert processes[str(peer.pid)].split()[-2:] == ["8.0K", "4.0K"]

    @pytest.mark.needs("export")
    def test_who_has_it_mapped_alone_is_seen(self, allocate):
        buffer = allocate(8192, name="mapped")
        memory, inode = buffer.memory, buffer.inode
        buffer.close()
        assert f":{os.getpid()}(map)" in rows(run_command("ps"))[str(inode)]
        del memory

    @pytest.mark.needs("bufinfo")
    def test_devices_are_named_and_what_they_hold_is_unexplained(self, buffer, attached):
        row = rows(run_command("ps"))[str(buffer.inode)].split()
        assert int(row[4]) > 0
        assert row[5] == attached

    def test_a_tree_has_who_shares_it(self, allocate):
        with allocate(8192, name="tree") as buffer, Peer() as peer:
            lines = run_command("ps", "--tree", "--ascii", "--name", "tree").stdout.splitlines()
            mine = next(n for n, line in enumerate(lines) if f" {os.getpid()} (" in line)
            assert lines[mine + 1].startswith(f"`- {buffer.inode} tree")
            assert f" {peer.pid} " in lines[mine + 2]
            assert lines[mine + 2].endswith(f"fds {buffer.fileno()}")

    def test_who_is_not_root_is_told_what_could_not_be_read(self, buffer):
        def look(*words):
            with (
                contextlib.redirect_stdout(io.StringIO()) as out,
                contextlib.redirect_stderr(io.StringIO()) as err,
            ):
                return main(["ps", *words]), out.getvalue(), err.getvalue()

        def look_without_it():
            buffer.close()  # which a forked child has, too
            return look()

        look("--name", "nobody's")  # imports what a user who isn't root may not be able to read
        status, out, err = in_child(look_without_it, user=NOBODY)
        assert status == 0
        assert err.startswith("dmabuf-alloc: ")
        assert err.endswith("can't be read; to see what they hold, run this as root\n")
        assert err.count("\n") == 1
        assert not any(line.split()[:1] == [str(buffer.inode)] for line in out.splitlines())

    def test_json_is_what_a_scan_sees(self, buffer):
        document = Usage.from_json(run_command("ps", "--json").stdout)
        (seen,) = [one for one in document.buffers if one.inode == buffer.inode]
        (now,) = [one for one in usage.scan().buffers if one.inode == buffer.inode]
        assert seen == now


def test_nothing_to_list_is_one_line():
    if usage.scan().buffers:
        pytest.fail("this test wants a machine whose buffers are all closed")
    answer = run_command("ps")
    assert answer.returncode == 0
    assert answer.stdout.count("\n") == 1
    assert answer.stdout.split()[0] in ("No", "This")
