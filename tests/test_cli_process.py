"""dmabuf-alloc as a process: signals, pipes, terminals, and what it costs to ask for help."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.features import FEATURES
from helpers.process import reset_signals

COMMAND = [sys.executable, "-m", "dmabuf"]
HAS_EXPORTER = FEATURES["heap"].is_there() or FEATURES["udmabuf"].is_there()


def start(*arguments, **options):
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    settings = {"text": True, "preexec_fn": reset_signals, **pipes, **options}
    return subprocess.Popen([*COMMAND, *arguments], **settings)


def run(*arguments, **options):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, **options)


def test_python_m_dmabuf_is_the_command():
    answer = run("list", "64M")
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert "unrecognized arguments: 64M" in answer.stderr


def test_what_should_be_quick_imports_nothing_heavy():
    script = (
        "import sys; from dmabuf.cli import main; main(['--help']); main(['64MB']); main(['list']);"
        "assert not {'numpy', 'rich', 'json', 'dmabuf.image'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.needs("heap", "root")
class TestHold:
    @pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
    def test_holds_until_told_to_stop(self, stop):
        with start("8K", "--count", "2", "--name", "held", "--hold") as process:
            lines = []
            while not lines or not lines[-1].startswith("holding"):
                lines.append(process.stdout.readline())
            assert lines[-1] == f"holding until Ctrl-C or kill {process.pid}\n"
            for line, name in zip(lines[2:4], ("held-0", "held-1"), strict=True):
                _, _, _, _, inode, number, shown = line.split()
                assert shown == name
                about = Path(f"/proc/{process.pid}/fdinfo/{number}").read_text()
                assert re.search(rf"^name:\s{name}$", about, re.MULTILINE)
                assert os.stat(f"/proc/{process.pid}/fd/{number}").st_ino == int(inode)
            process.send_signal(stop)
            assert process.wait() == 0
            assert process.stdout.read() == "released\n"
            assert process.stderr.read() == ""

    def test_is_stopped_where_a_shell_ignores_interrupts(self):
        """A background job of a script starts with SIGINT ignored."""
        ignore = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        command = [sys.executable, "-c", f"{ignore} os.execv(sys.argv[1], sys.argv[1:])"]
        arguments = [*command, *COMMAND, "4K", "--hold"]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            while not process.stdout.readline().startswith("holding"):
                pass
            process.send_signal(signal.SIGINT)
            assert process.wait() == 0

    def test_hold_for_is_cut_short_by_a_signal(self):
        with start("4K", "--hold-for", "1000") as process:
            while not process.stdout.readline().startswith("holding"):
                pass
            process.terminate()
            assert process.wait() == 0


def test_an_interrupt_ends_it_with_one_line(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with start("4K", "--fill-from", str(fifo)) as process, open(fifo, "w"):
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stdout.read() == ""
        assert process.stderr.read() == "dmabuf-alloc: interrupted\n"


class TestStandardStreams:
    def test_a_reader_that_is_gone_is_no_traceback(self):
        reader, writer = os.pipe()
        with start("list", stdout=writer) as process:
            os.close(writer)
            os.close(reader)
            assert process.wait() == 1
            assert process.stderr.read() == ""

    def test_a_full_disk_is_said(self):
        with open("/dev/full", "w") as full:
            answer = subprocess.run([*COMMAND, "list"], stdout=full, stderr=subprocess.PIPE)
        assert answer.returncode == 1
        reason = os.strerror(errno.ENOSPC)
        assert answer.stderr.decode() == f"dmabuf-alloc: standard output: {reason}\n"

    def test_closed_streams_are_no_traceback(self):
        answer = subprocess.run(
            ["sh", "-c", '"$@" >&- 2>&-; echo $?', "-", *COMMAND, "list"],
            capture_output=True,
            text=True,
        )
        assert answer.stdout == "0\n"

    def test_what_the_encoding_lacks_is_escaped(self):
        environment = os.environ | {"PYTHONIOENCODING": "ascii"}
        answer = run("4K", "--fill-from", "/bär", env=environment)
        assert answer.stderr == "dmabuf-alloc: /b\\xe4r: No such file or directory\n"


def on_a_terminal(*arguments, **environment):
    """Return what the command writes to a terminal of 80 columns."""
    master, slave = os.openpty()
    environment = {"TERM": "xterm", "COLUMNS": "80"} | environment
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with start(*arguments, stdout=slave, env=kept | environment) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                some = os.read(master, 4096)
            except OSError:  # EIO: the other side is closed
                break
            shown += some
    os.close(master)
    return process.returncode, shown.decode()


class TestTerminal:
    def test_tables_fit_and_are_coloured(self):
        status, shown = on_a_terminal()
        assert status == (0 if HAS_EXPORTER else 1)
        assert "\x1b[" in shown
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
        rows = [line for line in plain.splitlines() if re.match(r"(system|udmabuf) ", line)]
        assert len(rows) == 4
        assert all(len(line) <= 80 for line in rows)

    def test_no_color_is_respected(self):
        _, shown = on_a_terminal("check", NO_COLOR="1")
        assert "\x1b[3" not in shown
        assert "Exporters" in shown
