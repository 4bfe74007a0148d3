"""dmabuf-alloc top: the live view, its keys and signals, its tables in a log, and what grows."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers.command import COMMAND, Terminal, on_terminal, run_command
from helpers.made_usage import HOSTILE_NAMES, MIB, SHARED, buffer, holder, process, usage
from helpers.peer import Peer
from helpers.process import reset_signals

from dmabuf.cli.console.text import Page, columns_of
from dmabuf.cli.views import picture
from dmabuf.cli.views.growth import History

outside = pytest.mark.needs("outside")  # what it asks is no kernel

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
HEADS = ["PID", "USER", "COMMAND", "BUFS", "FDS", "SHARE", "GREW", "RATE"]
FAST = ("top", "-d", "0.2")


def looks(history, sizes, every=10.0):
    """Return what the last of several looks tells, at which one process holds so much."""
    for at, size in enumerate(sizes):
        held = (buffer(1, size, holder(801, "camerad", (3,))),) if size else ()
        processes = (process(801, "camerad", "video", 1, 1, 0, size, size),) if size else ()
        change = history.add(usage(held, processes), at * every)
    return change


@outside
class TestGrowth:
    def test_the_first_look_grows_by_nothing(self):
        change = looks(History(), [8 * MIB])
        assert (change.seconds, change.window, change.grew, change.came) == (0, 0, 0, 0)
        assert change.processes[0][1:] == (0, 0.0, False)

    def test_growth_is_told_of_the_time_since_the_first_look(self):
        change = looks(History(), [4 * MIB, 6 * MIB, 9 * MIB])
        (one,) = change.processes
        assert (change.window, change.grew) == (20, 5 * MIB)
        assert (one.grew, one.rate) == (5 * MIB, 5 * MIB / 20)

    def test_what_was_more_than_a_minute_ago_is_forgotten(self):
        change = looks(History(), [MIB, *[2 * MIB] * 10])
        assert (change.window, change.grew, change.processes[0].grew) == (60, 0, 0)

    def test_who_came_later_held_nothing_before(self):
        change = looks(History(), [0, 0, 3 * MIB])
        assert change.processes[0].grew == 3 * MIB

    def test_who_shrinks_grows_by_less_than_nothing(self):
        assert looks(History(), [5 * MIB, 3 * MIB]).processes[0].grew == -2 * MIB

    @pytest.mark.parametrize(
        ("sizes", "keeps"),
        [
            ([1, 2, 3, 4], True),
            ([1, 1, 2, 3], True),
            ([1, 2, 3], False),  # too early to tell
            ([1, 5, 5, 5, 5, 5], False),  # once, at the start
            ([1, 3, 2, 4], False),  # up and down
            ([4, 4, 4, 4], False),
        ],
    )
    def test_who_keeps_growing_did_in_both_halves_and_never_shrank(self, sizes, keeps):
        change = looks(History(), [size * MIB for size in sizes])
        assert change.processes[0].keeps_growing is keeps

    def test_what_came_and_went_is_since_the_look_before(self):
        history = History()
        history.add(SHARED, 0.0)
        change = history.add(SHARED._replace(buffers=(*SHARED.buffers[1:], buffer(7, 1))), 2.0)
        assert (change.came, change.went, change.seconds) == (1, 1, 2.0)


@outside
class TestPicture:
    def test_is_as_its_users_know_it(self, monkeypatch):
        monkeypatch.setenv("TZ", "UTC")
        time.tzset()
        history = History()
        history.add(SHARED._replace(buffers=SHARED.buffers[:-1], processes=()), 0.0)
        for at in (20.0, 40.0):
            history.add(SHARED._replace(processes=()), at)
        change = history.add(SHARED, 60.0)
        page = Page(wide=True)
        lines = picture.heads(change, 2.0, page, exact=False)
        lines += picture.process_lines(
            picture.in_order(change.processes, "share", backwards=False), page, exact=False
        )
        assert lines == [
            "dmabuf-alloc top - 22:13:20, every 2 s        68.2M in 4 buffers   +31.6M in 60 s",
            "system 64.2M  udmabuf 4.0M               came 0/s  went 0/s   unexplained 3 refs",
            "   PID USER      COMMAND          BUFS    FDS     SHARE      GREW     RATE",
            "   801 video     camerad             2     10     47.4M    +63.2M  +1.1M/s",
            "   655 wl        weston              1      1     15.8M    +31.6M  +0.5M/s",
            "  1204 root      python3             1      0      4.0M     +4.0M +68.3K/s",
        ]

    def test_many_exporters_leave_room_for_what_is_unexplained(self):
        page = Page(wide=True)
        page.width = 80
        more = [buffer(n, MIB, name=None, exporter=f"exporter-{n}") for n in range(9)]
        usage = SHARED._replace(buffers=(*SHARED.buffers, *more))
        _, line = picture.heads(History().add(usage, 0.0), 2.0, page, exact=False)
        assert line.startswith("system 64.2M  udmabuf 4.0M")
        assert line.endswith("…  came 0/s  went 0/s   unexplained 3 refs")

    def test_who_keeps_growing_is_marked(self):
        change = looks(History(), [MIB, 2 * MIB, 3 * MIB, 4 * MIB])
        (row,) = picture.process_lines(change.processes, Page(wide=True), exact=False)[1:]
        assert row.endswith("+3.0M  +0.1M/s  <<")

    @pytest.mark.parametrize("columns", [40, 80, 200])
    def test_hostile_names_stay_in_their_lines(self, columns):
        page = Page(wide=True)
        page.width = columns
        change = History().add(HOSTILE_NAMES, 0.0)
        lines = picture.heads(change, 2.0, page, exact=False)
        lines += picture.process_lines(change.processes, page, exact=False)
        lines += picture.device_lines(HOSTILE_NAMES.buffers, page, exact=False)
        assert len(lines) == 2 + 2 * (1 + len(HOSTILE_NAMES.buffers))
        assert all(line.isprintable() and columns_of(line) <= columns for line in lines)


@outside
class TestLog:
    def test_a_pipe_gets_tables_one_after_the_other(self):
        answer = run_command(*FAST, "--count", "3")
        assert answer.returncode == 0
        assert "\x1b" not in answer.stdout
        tables = answer.stdout.split("\n\n")
        assert len(tables) == 3
        for table in tables:
            lines = table.splitlines()
            assert re.match(r"dmabuf-alloc top - \d\d:\d\d:\d\d, every 0.2 s  ", lines[0])
            assert lines[2].split() == HEADS

    def test_so_does_a_terminal_that_can_not_be_drawn_on(self):
        status, lines = on_terminal(*FAST, "--count", "2", TERM="dumb")
        assert status == 0
        assert sum(line.split() == HEADS for line in lines) == 2
        assert "\x1b" not in "".join(lines)

    def test_json_is_a_document_a_line(self):
        answer = run_command(*FAST, "--count", "2", "--json")
        first, second = map(json.loads, answer.stdout.splitlines())
        assert (first["schema"], first["command"], first["seconds"]) == (1, "top", 0)
        assert second["seconds"] > 0
        assert first["devices"] is None

    @pytest.mark.parametrize(
        "words", ["top foo", "top -d 0", "top --count 0", "top --sort x", "top -b --sort share"]
    )
    def test_what_makes_no_sense_is_one_line(self, words):
        answer = run_command(*words.split())
        assert (answer.returncode, answer.stdout) == (2, "")
        assert answer.stderr.count("\n") == 1

    def test_a_reader_that_goes_ends_it(self):
        reader, writer = os.pipe()
        with subprocess.Popen([*COMMAND, *FAST], stdout=writer, stderr=subprocess.PIPE) as process:
            os.close(writer)
            os.read(reader, 10)
            os.close(reader)
            assert process.wait() == 1
            assert b"Traceback" not in process.stderr.read()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_a_log(self, number):
        with subprocess.Popen(
            [*COMMAND, *FAST], stdout=subprocess.PIPE, text=True, preexec_fn=reset_signals
        ) as process:
            process.stdout.readline()
            process.send_signal(number)
            assert process.wait() == 0


def pictures(shown):
    """Return how many times the picture was drawn."""
    return shown.count(b"\x1b[H")


@outside
class TestScreen:
    @pytest.mark.parametrize("columns", [40, 80, 200])
    def test_each_line_fits_and_the_last_picture_stays(self, columns):
        with Terminal(*FAST, "--count", "2", columns=columns) as terminal:
            status, shown = terminal.wait()
        assert status == 0
        live, _, after = shown.partition(LEAVE.decode())
        assert live.startswith(ENTER.decode())
        drawn = re.sub(r"\x1b\[[?0-9]*[a-zA-Z]", "\n", live)
        assert max(map(len, drawn.splitlines())) <= columns
        assert "\x1b" not in after
        assert after.startswith("dmabuf-alloc top - ")

    def test_no_more_lines_than_the_terminal_has(self):
        with Terminal(*FAST, "--count", "1", lines=2) as terminal:
            _, shown = terminal.wait()
        assert shown.partition(LEAVE.decode())[0].count("\r\n") == 1

    def test_q_ends_it_and_the_terminal_is_as_before(self):
        with Terminal("top", "-d", "600") as terminal:
            terminal.read_until(pictures)
            assert terminal.settings_now() != terminal.settings
            terminal.press("q")
            status, shown = terminal.wait()
            assert terminal.settings_now() == terminal.settings
        assert status == 0
        assert shown.count(LEAVE.decode()) == 1

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_ends_it_and_the_terminal_is_as_before(self, number):
        with Terminal("top", "-d", "600") as terminal:
            terminal.read_until(pictures)
            terminal.send(number)
            status, shown = terminal.wait()
            assert terminal.settings_now() == terminal.settings
        assert status == 0
        assert shown.rindex(LEAVE.decode()) > shown.rindex("\x1b[H")
        assert "\x1b[?25h" in shown
        assert "Traceback" not in shown

    def test_ctrl_c_does_too(self):
        with Terminal("top", "-d", "600") as terminal:
            terminal.read_until(pictures)
            terminal.press("\x03")
            assert terminal.wait()[0] == 0
            assert terminal.settings_now() == terminal.settings

    def test_an_error_gives_the_terminal_back(self):
        script = (
            "import sys; from dmabuf.cli import main; from dmabuf.cli.views import growth\n"
            "def fail(*_): raise OSError(5, 'the disk is on fire')\n"
            "growth.History.add = fail\n"
            "sys.exit(main(['top']))"
        )
        with Terminal(command=(COMMAND[0], "-c", script)) as terminal:
            status, shown = terminal.wait()
            assert terminal.settings_now() == terminal.settings
        assert status == 1
        assert shown.endswith(f"{LEAVE.decode()}dmabuf-alloc: the disk is on fire\r\n")

    def test_while_it_is_stopped_the_terminal_is_as_before(self):
        # A shell stands between: nobody may stop who has no shell to have it go on.
        shell = ("bash", "-mic", '"$@"; echo Stopped; fg', "-")
        with Terminal("top", "-d", "600", command=(*shell, *COMMAND)) as t:
            t.read_until(pictures)
            t.press("\x1a")
            shown = t.read_until(
                lambda shown: (
                    b"Stopped" in shown
                    and shown.index(b"Stopped") < shown.rindex(ENTER) < shown.rindex(b"\x1b[H")
                )
            )
            assert shown.index(ENTER) < shown.index(LEAVE) < shown.index(b"Stopped")
            t.press("q")
            t.wait()
            assert t.settings_now() == t.settings

    def test_space_looks_at_once_and_other_keys_change_the_view(self):
        with Terminal("top", "-d", "600", "--bytes") as terminal:
            terminal.read_until(pictures)
            terminal.press("b")
            terminal.read_until(lambda shown: b"HELD BY" in shown)
            terminal.press("p")
            terminal.read_until(lambda shown: shown.rindex(b"SHARE") > shown.rindex(b"HELD BY"))
            drawn = pictures(terminal.shown)
            clocks = set(re.findall(rb"top - (\S+),", terminal.shown))
            terminal.press("x\x1b[Asr")
            terminal.read_until(lambda shown: pictures(shown) > drawn)
            assert set(re.findall(rb"top - (\S+),", terminal.shown)) == clocks

            def has_looked_again(shown):
                terminal.press(" ")
                return len(set(re.findall(rb"top - (\S+),", shown))) > len(clocks)

            terminal.read_until(has_looked_again)
            terminal.press("q")
            assert terminal.wait()[0] == 0

    def test_another_size_of_the_terminal_is_drawn_for_at_once(self):
        with Terminal("top", "-d", "600", columns=80) as terminal:
            before = len(terminal.read_until(pictures))
            terminal.resize(columns=20)
            shown = terminal.read_until(lambda shown: b"\x1b[J" in shown[before:])
            terminal.press("q")
            terminal.wait()
        drawn = re.sub(r"\x1b\[[?0-9]*[a-zA-Z]", "\n", shown[before:].decode())
        assert max(map(len, drawn.splitlines())) == 20

    def test_without_a_keyboard_it_goes_on(self):
        command = ("sh", "-c", '"$@" < /dev/null', "-", *COMMAND)
        with Terminal(*FAST, "--count", "2", command=command) as terminal:
            status, shown = terminal.wait()
        assert status == 0
        assert shown.count("\x1b[H") == 2


@pytest.mark.needs("root")
class TestThisMachine:
    def test_a_process_that_grows_is_seen_to_grow(self, allocate):
        command = [*COMMAND, *FAST, "--json"]
        held = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as top:
            for _ in range(4):
                top.stdout.readline()
                held.append(allocate(MIB))
            line = ""
            for _ in range(3):
                line = top.stdout.readline()
            top.terminate()
            document = json.loads(line)
            top.stdout.read()
        (mine,) = [one for one in document["processes"] if one["pid"] == os.getpid()]
        assert (mine["buffers"], mine["grew"]) == (4, 4 * MIB)
        assert mine["rate"] > 0
        for buffer_ in held:
            buffer_.close()

    def test_the_table_has_who_holds_it(self, buffer):
        with Peer() as peer:
            pid = str(peer.pid)
            answer = run_command("top", "--count", "1")
        rows = {line.split()[0]: line.split() for line in answer.stdout.splitlines()[3:]}
        assert rows[str(os.getpid())][-3:] == ["4.0K", "-", "-"]
        assert rows[pid][3:5] == ["1", "1"]

    @pytest.mark.needs("bufinfo")
    def test_devices_are_told_of_if_asked_for(self, buffer, attached):
        answer = run_command("top", "--count", "1", "--devices", "--json")
        (line,) = answer.stdout.splitlines()
        assert json.loads(line)["devices"][attached]["buffers"] > 0

    @pytest.mark.needs("bufinfo")
    def test_without_devices_the_kernels_list_is_not_read(self, tmp_path):
        trace = tmp_path / "trace"
        subprocess.run(
            ["strace", "-f", "-e", "openat", "-o", str(trace), *COMMAND, *FAST, "--count", "2"],
            check=True,
            capture_output=True,
        )
        assert "bufinfo" not in trace.read_text()
        assert Path("/sys/kernel/debug/dma_buf/bufinfo").exists()
