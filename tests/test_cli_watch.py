"""dmabuf-alloc watch: a line for each buffer and each device that comes and goes."""

import json
import os
import re
import signal
import subprocess
from fcntl import ioctl
from pathlib import Path

import pytest
from helpers.buffers import has_heap
from helpers.command import COMMAND, Terminal, run_command
from helpers.made_usage import HOSTILE
from helpers.process import reset_signals

MIB = 1 << 20
FAST = ("watch", "-d", "0.1")
VIVID = Path("/sys/bus/platform/drivers/vivid")
DMA_BUF_SET_NAME = 0x40086201


class Watching:
    """A running watch in a pipe, which has told what is there already."""

    def __init__(self, *words):
        self._process = subprocess.Popen(
            [*COMMAND, *FAST, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=reset_signals,
        )
        self.first = self.line()

    def line(self):
        return self._process.stdout.readline()

    def end(self, number=signal.SIGTERM):
        """Return the status that a signal ends it with, and what it still wrote."""
        self._process.send_signal(number)
        rest = self._process.stdout.read()
        return self._process.wait(), rest

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


class TestWords:
    @pytest.mark.parametrize("words", ["watch foo", "watch -d 0", "watch --count x", "watch --pid"])
    def test_what_makes_no_sense_is_one_line(self, words):
        answer = run_command(*words.split())
        assert (answer.returncode, answer.stdout) == (2, "")
        assert answer.stderr.count("\n") == 1


class TestEnd:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_ends_it_without_a_word(self, number):
        with Watching() as watching:
            assert watching.end(number) == (0, "")

    def test_it_ends_with_its_reader(self):
        """At once, and not with the next line: `watch | head -1`."""
        reader, writer = os.pipe()
        process = subprocess.Popen(
            [*COMMAND, "watch", "-d", "86400", "--name", "no buffer has this name"],
            stdout=writer,
            stderr=subprocess.PIPE,
            preexec_fn=reset_signals,
        )
        with process:
            os.close(writer)
            assert os.read(reader, 1)
            os.close(reader)
            assert process.wait() == 1
            told = process.stderr.read()
            assert not re.search(b"Traceback|standard output", told), told

    def test_a_terminal_gets_plain_lines(self):
        with Terminal(*FAST) as terminal:
            terminal.read_until(lambda shown: b"buffer" in shown)
            terminal.press("\x03")
            status, shown = terminal.wait()
        assert status == 0
        assert "\x1b" not in shown
        assert re.match(r"\d\d:\d\d:\d\d  ?\d+ buffers?, ", shown)

    def test_the_first_document_is_what_there_is(self):
        with Watching("--json") as watching:
            document = json.loads(watching.first)
        assert (document["command"], document["event"]) == ("watch", "began")
        assert set(document["total"]) == {"bytes", "buffers", "unsized"}


@pytest.mark.needs("root")
class TestBuffers:
    def test_what_comes_and_goes_has_a_line_each(self, allocate):
        with Watching("--name", "seen") as watching:
            with allocate(2 * MIB, name="seen") as buffer:
                clock, sign, kind, inode, size, exporter, name, held = watching.line().split()
            assert re.fullmatch(r"\d\d:\d\d:\d\d", clock)
            assert (sign, kind, inode, size) == ("+", "buffer", str(buffer.inode), "2.0M")
            assert (exporter, name) == ("system" if has_heap() else "drm", "seen")
            assert f":{os.getpid()}(1)" in held
            assert watching.line().split()[1:5] == ["-", "buffer", inode, "2.0M"]
            assert watching.end() == (0, "")

    def test_json_has_the_whole_record(self, allocate):
        with Watching("--json", "--count", "2", "--name", "seen") as watching:
            with allocate(2 * MIB, name="seen") as buffer:
                came = json.loads(watching.line())
            went = json.loads(watching.line())
            assert watching.line() == ""  # two were asked for
        assert (came["event"], went["event"]) == ("came", "went")
        for document in (came, went):
            assert document["buffer"]["inode"] == buffer.inode
            assert document["buffer"]["size"] == 2 * MIB
            assert document["device"] is None
        assert came["time"] <= went["time"]

    def test_filters_are_those_of_ps(self, allocate):
        with Watching("--min-size", "2M") as watching, allocate(MIB):
            with allocate(2 * MIB):
                assert " + buffer " in (line := watching.line())
                assert " 2.0M " in line
            assert " - buffer " in watching.line()

    def test_a_hostile_name_stays_on_its_line(self, allocate):
        with Watching("--min-size", "2M") as watching:
            with allocate(2 * MIB) as buffer:
                watching.line()
                ioctl(buffer.fileno(), DMA_BUF_SET_NAME, bytearray(HOSTILE[0].encode() + b"\0"))
                with allocate(2 * MIB):
                    watching.line()
                watching.line()
            gone = watching.line()
        assert "\\x1b[31mred\\x1b]0;title\\x07" in gone
        assert "\x1b" not in gone


@pytest.mark.needs("vivid", "root", "own machine")
def test_a_device_that_goes_and_comes_back_has_a_line_each():
    with Watching("--name", "no buffer has this name") as watching:
        (VIVID / "unbind").write_text("vivid.0")
        gone = watching.line()
        (VIVID / "bind").write_text("vivid.0")
        lines = iter(watching.line, "")
        come = next(line for line in lines if " + " in line)
    assert re.search(r"^\S+ - device v4l2 /dev/video\d+$", gone)
    assert re.search(r"^\S+ \+ device v4l2 /dev/video\d+$", come)
