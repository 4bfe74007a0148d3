"""dmabuf-alloc as a process: signals, pipes, terminals, and what it costs to ask for help."""

import errno
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command import on_terminal
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


@pytest.mark.parametrize("module", ["dmabuf", "dmabuf._fd", "dmabuf.cli"])
def test_an_interrupt_while_it_is_imported_ends_it_without_a_word(module):
    script = (
        "import signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from dmabuf_alloc import main\n"
        "sys.exit(main())\n"
    )
    command = [sys.executable, "-c", script]
    answer = subprocess.run(command, capture_output=True, text=True, preexec_fn=reset_signals)
    assert (answer.returncode, answer.stdout, answer.stderr) == (-signal.SIGINT, "", "")


def test_an_interrupt_in_a_finalizer_ends_it_too():
    """Python drops what is raised there, so that a watch would go on for ever."""
    script = (
        "import signal, sys\n"
        "class Left:\n"
        "    def __del__(self):\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "class Leaving:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'dmabuf.cli.commands.watch':\n"
        "            Left()\n"
        "sys.meta_path.insert(0, Leaving())\n"
        "from dmabuf.cli import main\n"
        "sys.argv[1:] = ['watch']\n"
        "sys.exit(main())\n"
    )
    command = [sys.executable, "-c", script]
    answer = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=reset_signals, timeout=60
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (-signal.SIGINT, "", "")


HEAVY = {"numpy", "rich", "json", "logging", "asyncio", "difflib", "dmabuf.image", "dmabuf.devices"}


def imported(*words):
    """Return the modules that a run of the command imports."""
    script = (
        "import sys; from dmabuf.cli import main; main(sys.argv[1:]);"
        "print(*sys.modules, file=sys.stderr)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True
    )
    return set(answer.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("words", ["--help", "64MB", "list", "list --help", "--verify --help"])
def test_what_should_be_quick_imports_nothing_heavy(words):
    assert not HEAVY & imported(*words.split())


def test_without_rich_a_terminal_gets_plain_tables_and_a_word(tmp_path):
    (tmp_path / "rich.py").write_text("raise ImportError('it is missing')\n")
    _, lines = on_terminal("check", columns=200, PYTHONPATH=str(tmp_path))
    word = "dmabuf-alloc: tables are drawn with rich, which is missing here: pip install rich"
    assert lines.count(word) == 1
    assert any(line.split()[:3] == ["exporter", "node", "permissions"] for line in lines)
    assert not [line for line in lines if "Traceback" in line or "\x1b" in line]


def test_a_command_imports_no_other_command():
    modules = imported("list")
    assert {name for name in modules if name.startswith("dmabuf.cli.commands.")} == {
        "dmabuf.cli.commands.list"
    }


def logged(*words, **environment):
    """Return what a run of the command on nothing leaves of a message to the package's log."""
    script = (
        "import sys; from dmabuf.cli import main; main(sys.argv[1:]);"
        "import logging; logging.getLogger('dmabuf.ioctl').debug('SYNC on 3')"
    )
    return subprocess.run(
        [sys.executable, "-c", script, *words],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    ).stderr


class TestDebug:
    @pytest.mark.parametrize("words", ["--debug list", "list --debug"])
    def test_shows_the_log_on_standard_error(self, words):
        assert logged(*words.split()).endswith("dmabuf.ioctl: SYNC on 3\n")

    def test_so_does_the_environment(self):
        assert logged("list", DMABUF_LOG="debug").endswith("dmabuf.ioctl: SYNC on 3\n")

    def test_nothing_is_shown_unasked(self):
        assert logged("list") == ""


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


class TestEnd:
    """Ctrl-C behind the answer has nothing left to stop, and must not show Python's insides."""

    def test_as_a_process_it_ends_it_without_a_word(self):
        script = (
            "import os, signal; from dmabuf.cli import main; status = main();"
            "os.kill(os.getpid(), signal.SIGINT)"
        )
        command = [sys.executable, "-c", script, "list"]
        answer = subprocess.run(command, capture_output=True, preexec_fn=reset_signals)
        assert answer.returncode == -signal.SIGINT
        assert answer.stderr == b""

    def test_where_interrupts_are_ignored_they_stay_so(self):
        script = (
            "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN);"
            "from dmabuf.cli import main; main();"
            "assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN"
        )
        subprocess.run([sys.executable, "-c", script, "list"], check=True, capture_output=True)

    def test_called_with_words_it_leaves_signals_alone(self):
        script = (
            "import signal; from dmabuf.cli import main; main(['list']);"
            "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
        )
        command = [sys.executable, "-c", script]
        subprocess.run(command, check=True, capture_output=True, preexec_fn=reset_signals)

    def test_a_second_one_while_the_first_is_answered(self):
        script = (
            "import sys; from dmabuf.cli import main, Output\n"
            "def interrupted(*words, **fields): raise KeyboardInterrupt\n"
            "Output.line = Output.error = interrupted\n"
            "sys.exit(main())"
        )
        answer = subprocess.run([sys.executable, "-c", script, "check"], capture_output=True)
        assert (answer.returncode, answer.stderr) == (130, b"")


def test_too_little_memory_is_one_line():
    """A device is kept in memory, so that each buffer gets, and is held against, the same."""
    limit = 1 << 29
    answer = run(
        *("256M", "--fill-from", "/dev/zero"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith("dmabuf-alloc: ")
    assert answer.stderr.count("\n") == 1


def main_job(tmp_path, **environment):
    """Return the lines that scripts/main-job says itself, around a command that says nothing."""
    command = tmp_path / "dmabuf-alloc"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    path = Path(__file__).parent.parent / "scripts" / "main-job"
    kept = {name: value for name, value in os.environ.items() if name != "DMABUF_VM"}
    return subprocess.run(
        [path, tmp_path], env=kept | environment, capture_output=True, text=True, check=True
    ).stdout


class TestMainJob:
    def test_in_the_virtual_machine_it_says_so_first(self, tmp_path):
        head = " ".join(main_job(tmp_path, DMABUF_VM="6.12").split())
        assert head.startswith("This report is of the virtual machine")
        assert head.endswith(f"For the machine's own report run {tmp_path}/dmabuf-alloc.")

    def test_on_the_machine_itself_it_says_nothing_of_that(self, tmp_path):
        assert main_job(tmp_path) == ""


class TestStandardStreams:
    def test_a_full_disk_is_said_of_help_too(self):
        for words in (["--help"], ["--version"], ["list", "--help"], ["--json"]):
            with open("/dev/full", "w") as full:
                answer = subprocess.run([*COMMAND, *words], stdout=full, stderr=subprocess.PIPE)
            assert answer.returncode == 1
            last = answer.stderr.decode().splitlines()[-1]
            assert last == f"dmabuf-alloc: standard output: {os.strerror(errno.ENOSPC)}"

    def test_errors_that_nobody_can_read_change_no_status(self, monkeypatch):
        monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # which leaves nothing to be flushed
        for words, status in (("list", 0), ("64MB", 2)):
            with open("/dev/full", "w") as full:
                answer = subprocess.run([*COMMAND, words], stdout=subprocess.DEVNULL, stderr=full)
            assert answer.returncode == status

    @pytest.mark.parametrize("words", ["--help", "--version", "alloc --help", "check --json"])
    def test_a_reader_that_is_gone_gets_no_traceback(self, words):
        reader, writer = os.pipe()
        with start(*words.split(), stdout=writer) as process:
            os.close(writer)
            os.close(reader)
            assert process.wait() == 1
            assert "Traceback" not in process.stderr.read()

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

    def test_closed_standard_input_is_named(self):
        command = ["sh", "-c", '"$@" <&-', "-", *COMMAND, "4K", "--fill-from", "-"]
        answer = subprocess.run(command, capture_output=True, text=True)
        reason = os.strerror(errno.EBADF)
        assert answer.stderr == f"dmabuf-alloc: standard input: {reason}\n"

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


def names_of_ioctls(columns):
    """Return the first column of the table of ioctls on a terminal, as one word."""
    _, shown = on_a_terminal("check", COLUMNS=str(columns), NO_COLOR="1")
    lines = iter(re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines())
    next(line for line in lines if line.startswith("Ioctls"))
    table = list(iter(lambda: next(lines), ""))
    assert max(map(len, table)) <= columns
    width = next(line.index("works") for line in table if "works" in line)
    return "".join(line[:width].strip() for line in table)


class TestTerminal:
    def test_tables_fit_and_are_coloured(self):
        status, shown = on_a_terminal()
        assert status == (0 if HAS_EXPORTER else 1)
        assert "\x1b[" in shown
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
        rows = [line for line in plain.splitlines() if re.match(r"(system|udmabuf) ", line)]
        assert len(rows) == 4
        assert all(len(line) <= 80 for line in rows)

    @pytest.mark.parametrize("columns", [32, 40, 60])
    def test_tables_that_do_not_fit_wrap_and_lose_nothing(self, columns):
        assert names_of_ioctls(columns) == names_of_ioctls(200)

    def test_no_color_is_respected(self):
        _, shown = on_a_terminal("check", NO_COLOR="1")
        assert "\x1b[3" not in shown
        assert "Exporters" in shown
