"""scripts/vm as its user meets it: what gets in, what comes out, and how it ends."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.process import reset_signals

from dmabuf.testing.vm import kernel, userlands

pytestmark = [pytest.mark.needs("outside", "stock kernel"), pytest.mark.timeout(300)]

ROOT = Path(__file__).parent.parent
VM = str(ROOT / "scripts" / "vm")

ODD = ' it\'s, "odd" $HOME = `id`; é *\nand long '
WORDS = [
    "",
    " a  b ",
    "it's",
    '"q"',
    "$HOME `id` \\ *",
    "new\nline",
    "é",
    "\udcff",
    "--",
    "--kernel",
]
BIG = 16 << 20
ARM64 = ["--userland", "arm64"]

PROBE = """
import hashlib, json, os, sys
from pathlib import Path

Path("written").write_text("gone when the guest ends")
Path("kept").unlink()
Path(os.environ["DMABUF_VM_OUT"], "report é").write_text(json.dumps({
    "folder": os.getcwd(),
    "words": sys.argv[2:],
    "environment": dict(os.environ),
    "release": os.uname().release,
    "user": os.geteuid(),
    "input": sys.stdin.read(),
}))
sys.stderr.write("to the error output")
sys.stdout.buffer.write(hashlib.shake_256(b"seed").digest(int(sys.argv[1])))
sys.exit(77)
"""


def start(*words, **settings):
    """Start scripts/vm with pipes for its output."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([VM, *words], preexec_fn=reset_signals, **{**pipes, **settings})


def vm(*words, **settings):
    """Run scripts/vm and return its exit status, its output and its error output."""
    with start(*words, **settings) as process:
        output, errors = process.communicate()
    return process.returncode, output, errors.decode()


def machines(name: str) -> list[int]:
    """Return the process of each QEMU whose guest was started with this name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words[0].endswith(b"qemu-system-x86_64") and any(name.encode() in w for w in words):
            found.append(int(process.name))
    return found


def until(condition) -> None:
    """Wait for what must come true; the test's own limit is the patience."""
    while not condition():
        time.sleep(0.02)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vm") / ODD
    for name in ("scripts", "dmabuf"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "kept").touch()
    return folder


@pytest.fixture(scope="module")
def outcome(folder):
    words = ["--out", f"out of {ODD}", "--", sys.executable, "-c", PROBE, str(BIG), *WORDS]
    return vm(
        *words,
        executable=folder / "scripts" / "vm",
        cwd=folder,
        env=os.environ | {"ODD": ODD, "EMPTY": ""},
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def report(folder, outcome):
    assert outcome[2] == "to the error output"
    return json.loads((folder / f"out of {ODD}" / "report é").read_text())


class TestCommand:
    """One boot, in a copy with an odd path, of a command that tells what it was given."""

    def test_its_exit_status_is_ours(self, outcome):
        assert outcome[0] == 77

    def test_its_output_comes_as_it_was_written(self, outcome):
        assert len(outcome[1]) == BIG
        assert outcome[1] == hashlib.shake_256(b"seed").digest(BIG)

    def test_it_runs_in_this_folder(self, folder, report):
        assert report["folder"] == str(folder)

    def test_it_is_given_its_words_as_they_are(self, report):
        assert report["words"] == WORDS

    def test_it_has_our_environment_and_the_kernels_name(self, report):
        there = report["environment"]
        assert (there["ODD"], there["EMPTY"], there["DMABUF_VM"]) == (ODD, "", "6.12")

    def test_it_runs_as_root_under_the_kernel_asked_for(self, report):
        assert report["user"] == 0
        assert report["release"].startswith("6.12.")

    def test_its_input_is_empty(self, report):
        assert report["input"] == ""

    def test_what_it_changed_never_reaches_the_machine(self, folder, outcome):
        assert sorted(os.listdir(folder)) == sorted(["dmabuf", "kept", f"out of {ODD}", "scripts"])


USERLAND = """
import json, os, sys, dmabuf, numpy
print(json.dumps({
    "folder": os.getcwd(), "python": sys.version_info[:2], "package": dmabuf.__file__,
    "words": sys.argv[1:], "name": os.environ["DMABUF_VM_USERLAND"],
    "heaps": [heap.name for heap in dmabuf.heaps()],
    "files": [os.path.exists(path) for path in (sys.argv[1], "/dev/null")],
}))
open("kept", "w").close()
sys.exit(7)
"""


class TestUserland:
    """A boot of a command among a newer Debian's programs; each set has a target of its own."""

    def test_the_command_has_its_files_our_folder_and_this_package(self, tmp_path):
        name, file = "media", "/usr/bin/gst-launch-1.0"
        status, output, errors = vm(
            *("--userland", name, "--", "python3", "-c", USERLAND, file, "a b"), cwd=tmp_path
        )
        assert status == 7, errors
        found = json.loads(output)
        assert found["folder"] == str(tmp_path)
        assert found["python"] >= [3, 13]
        assert found["package"] == str(ROOT / "dmabuf" / "__init__.py")
        assert (found["words"], found["name"]) == ([file, "a b"], name)
        assert "system" in found["heaps"]
        assert found["files"] == [True, True]
        assert not os.listdir(tmp_path)


def test_make_runs_the_tests_by_each_userlands_own_python():
    words = ["make", "--dry-run", "test-i386", "test-python3.13", "test-python3.14"]
    shown = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"--userland (\S+) .*? -- \\\n\s*(\S+) -m pytest", shown)
    assert found == [("i386", "python3"), *[(name, name) for name in ("python3.13", "python3.14")]]
    assert {name for name, _ in found} <= set(userlands.USERLANDS)


INNER = """
import os

def test_where(dmabuf_buffer):
    assert os.environ["DMABUF_VM"] == "6.12"
    assert dmabuf_buffer().exporter
    print("vivid", os.path.isdir("/sys/module/vivid"))

def test_fails():
    assert False
"""


def test_pytest_runs_all_of_it_there(tmp_path):
    (tmp_path / "test_inner.py").write_text(INNER)
    (tmp_path / "pytest.ini").write_text("[pytest]\ndmabuf_vm_options = --module vivid\n")
    words = ["-q", "-rP", "--dmabuf-vm", "6.12", "test_inner.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert "vivid True" in done.stdout
    assert "1 failed, 1 passed" in done.stdout


class TestEnd:
    def test_two_at_once_have_each_their_own_status(self):
        with start("--", "sh", "-c", "kill -USR1 $$") as one, start("--", "false") as other:
            assert (one.wait(), other.wait()) == (128 + signal.SIGUSR1, 1)

    def test_a_guest_that_panics_is_told_from_a_command_that_fails(self):
        script = "echo before; sleep 2; echo c >/proc/sysrq-trigger; sleep 600"  # it has to get out
        status, output, errors = vm("--", "sh", "-c", script)
        assert (status, output) == (126, b"before\n")
        assert "the guest died" in errors
        assert "sysrq triggered crash" in errors

    def test_the_time_runs_out(self):
        status, _, errors = vm("--timeout", "1", "--", "sleep", "600")
        assert status == 124
        assert "the time ran out" in errors

    def test_a_kernel_without_room_can_not_boot(self):
        status, _, errors = vm("--memory", "64", "--", "true")
        assert status == 125
        assert "could not boot" in errors

    def test_output_that_nobody_reads_ends_it(self):
        name = f"test.pipe={os.getpid()}"
        with start("--append", name, "--", "yes") as process:
            assert process.stdout.read(4) == b"y\ny\n"
            process.stdout.close()
            assert process.wait() == -signal.SIGPIPE
        assert not machines(name)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_ends_it_and_leaves_nothing(self, number, tmp_path):
        name = f"test.{number.name}={os.getpid()}"
        with start("--append", name, "--", "true", cwd=tmp_path) as process:
            until(lambda: machines(name))
            process.send_signal(number)
            assert process.wait() == -number
            assert process.stderr.read() == b""
        assert not machines(name)
        assert not os.listdir(tmp_path)

    def test_a_kill_takes_the_machine_along(self):
        name = f"test.kill={os.getpid()}"
        with start("--append", name, "--", "true") as process:
            until(lambda: machines(name))
            process.kill()
        until(lambda: not machines(name))


class TestForeign:
    """Another processor's kernels and machine, without a boot: make test-arm64 does that."""

    def test_an_image_of_its_own_tells_its_release(self, tmp_path):
        image = tmp_path / "Image"
        image.write_bytes(bytes(56) + b"ARM\x64" + b"\0Linux version 6.12.1-mine (me@here)")
        assert kernel.at(image, "arm64") == kernel.Kernel(image, "6.12.1-mine", None)

    def test_the_machine_follows_from_the_userland(self):
        machines = [userlands.architecture(name).qemu for name in (None, "i386", "arm64")]
        assert machines == ["qemu-system-x86_64", "qemu-system-x86_64", "qemu-system-aarch64"]


class TestMisuse:
    @pytest.mark.parametrize(
        ("words", "status", "message"),
        [
            (["--"], 2, "a COMMAND must stand after --"),
            (["--timeout", "inf", "--", "true"], 2, "inf is not above 0"),
            (["--memory", "0", "--", "true"], 2, "0 is less than 1"),
            (["--module", " ", "--", "true"], 2, "a driver must be named"),
            (["--module", "nosuch a=1", "--", "true"], 125, "has no driver nosuch"),
            (["--kernel", "2.4", "--", "true"], 125, "--kernel 2.4: no such file, nor one of 5.10"),
            (["--userland", "nosuch", "--", "true"], 125, "--userland nosuch: there is none but"),
            (["--kernel", VM, "--", "true"], 125, "is no Linux image for amd64 (bzImage)"),
            ([*ARM64, "--kernel", VM, "--", "true"], 125, "is no Linux image for arm64 (Image)"),
            ([*ARM64, "--kernel", "native", "--", "true"], 125, "own kernel is none for arm64"),
            ([*ARM64, "--vfio", "--", "true"], 125, "a machine for arm64 is given no such device"),
            (["--out", VM, "--", "true"], 125, f"{VM}: File exists"),
        ],
    )
    def test_it_is_refused_by_name(self, words, status, message):
        outcome = vm(*words)
        assert outcome[0] == status
        assert message in outcome[2]

    @pytest.mark.parametrize(
        ("words", "package"), [([], "qemu-system-x86"), (ARM64, "qemu-system-arm")]
    )
    def test_missing_programs_are_named(self, words, package, tmp_path):
        (tmp_path / "python3").symlink_to(sys.executable)
        environment = {"PATH": str(tmp_path)}
        status, _, errors = vm(*words, "--", "true", env=environment, executable=VM)
        assert status == 125
        assert package in errors

    def test_a_cache_that_can_not_be_made_is_named(self):
        environment = os.environ | {"DMABUF_VM_CACHE": VM}
        status, _, errors = vm("--", "true", env=environment)
        assert status == 125
        assert f"{VM}/linux-6.12 is missing and can't be made" in errors
        assert "DMABUF_VM_CACHE" in errors
