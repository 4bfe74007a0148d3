"""dmabuf-alloc stress: what it finds lost, that it can be repeated, and how it ends."""

import contextlib
import json
import os
import random  # noqa: F401  # what a child without rights can't import any more
import re
import secrets  # noqa: F401
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.command import on_terminal
from helpers.process import NOBODY, children, in_child, reset_signals

from dmabuf.cli import main
from dmabuf.cli.checks import accounts, contents, peer, stress, workers  # noqa: F401
from dmabuf.cli.commands import stress as command

ONE = ("stress", "--processes", "1", "--seed", "1")


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(accounts, "_PATIENCE", 0.05)


pytestmark = pytest.mark.needs("heap", "root")


class TestOutcome:
    def test_nothing_is_lost_where_nothing_goes_wrong(self, run):
        status, out, err = run("stress", "--rounds", "60", "--processes", "2")
        assert (status, err) == (0, "")
        found = re.search(r"^allocated (\d+), released (\d+), lost 0$", out, re.MULTILINE)
        allocated, released = found.groups()
        assert allocated == released != "0"

    def test_a_seed_decides_the_steps(self, run):
        def steps(seed):
            words = ("--rounds", "60", "--processes", "2", "--seed", seed, "--json")
            return json.loads(run("stress", *words)[1])["steps"]

        assert steps("5") == steps("5") != steps("6")

    def test_every_step_comes(self, run):
        _, out, _ = run(*ONE, "--rounds", "150", "--memory", "1M", "--json")
        assert json.loads(out)["steps"].keys() == stress.STEPS.keys()

    def test_the_head_of_its_table_is_one_line_of_a_terminal(self):
        status, lines = on_terminal(*ONE, "--rounds", "5", columns=80)
        plain = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in lines]
        assert status == 0
        assert any(re.fullmatch(r"Seed 1, 1 process, [\d.]+ s *", line) for line in plain)

    @pytest.mark.needs("udmabuf")
    def test_the_exporter_can_be_chosen(self, run):
        assert run(*ONE, "--rounds", "20", "--heap", "udmabuf")[0] == 0


class TestLost:
    def test_a_descriptor_that_stays_is_found_and_its_buffer(self, run, monkeypatch, impatient):
        kept = []
        monkeypatch.setattr(
            stress.Stress, "_dup_one", lambda self: kept.append(self._held[0].buffer.dup())
        )
        status, out, err = run(*ONE, "--rounds", "150", "--memory", "1M", "--json")
        assert status == 1
        document = json.loads(out)
        kinds = [lost["kind"] for lost in document["lost"]]
        assert kinds.count("descriptor") == document["steps"]["dup"]
        buffers = kinds.count("buffer")
        assert buffers == document["allocated"] - document["released"] > 0
        assert err.startswith("dmabuf-alloc: lost buffer stress-")
        assert err.endswith(" more; --seed 1 --processes 1 repeats it\n")

    @pytest.mark.needs("own machine", "bufinfo")
    def test_a_buffer_is_found_in_the_kernels_list(self, allocate, impatient):
        with allocate(4096, name="lost-1") as buffer, allocate(4096, name="other"):
            assert accounts.lost_buffers("lost-") == [
                accounts.Lost("buffer", buffer.inode, "lost-1", None)
            ]
        assert accounts.lost_buffers("lost-") == []

    def test_memory_that_changes_is_told_with_the_step(self, run, monkeypatch):
        monkeypatch.setattr(contents, "fill", lambda buffer, index, content, advance: None)
        status, out, err = run(*ONE, "--rounds", "50")
        assert status == 1
        found = r"(differs at|can't be verified)"
        assert re.match(rf"dmabuf-alloc: process 0, step \d+: .*{found}.*repeats it\n$", err)
        assert "lost 0\n" in out

    def test_a_process_that_dies_is_told(self, run, monkeypatch):
        monkeypatch.setattr(
            stress.Stress, "_name_one", lambda self: os.kill(os.getpid(), signal.SIGKILL)
        )
        status, _, err = run(*ONE, "--rounds", "50")
        assert status == 1
        assert re.match(r"dmabuf-alloc: process \d+ was killed by signal 9; .*\n$", err)

    def test_what_the_other_process_finds_is_told(self, run, monkeypatch):
        def changed(self, buffer, found, written):
            with buffer.read_write() as memory:
                memory[5] ^= 0xFF
            exchange(self, buffer, found, written)

        exchange = peer.Peer.exchange
        monkeypatch.setattr(peer.Peer, "exchange", changed)
        status, _, err = run(*ONE, "--rounds", "50")
        assert status == 1
        assert "in the process it was sent to: " in err
        assert "offset 5 " in err


class TestEnd:
    @contextlib.contextmanager
    def begun(self, *words):
        """Have it run in the block, with its processes under way."""
        with subprocess.Popen(
            [sys.executable, "-m", "dmabuf", "stress", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=reset_signals,
        ) as process:
            try:
                while process.poll() is None and len(children(process.pid)) < 2:
                    time.sleep(0.05)
                yield process
            finally:
                process.kill()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_it_with_its_report(self, number):
        with self.begun("--seconds", "1000", "--json") as process:
            process.send_signal(number)
            out, err = process.communicate()
        assert (process.returncode, err) == (0, "")
        document = json.loads(out)
        assert document["seconds"] < 1000
        assert document["lost"] == []

    def test_a_second_signal_ends_processes_that_hang(self):
        with self.begun("--seconds", "1000") as process:
            for child in children(process.pid):
                os.kill(child, signal.SIGSTOP)
            process.send_signal(signal.SIGINT)
            while int(re.search(r"ShdPnd:\s(\w+)", self.status(process))[1], 16) & 2:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate()
        assert process.returncode == 1
        assert " was killed by signal 9" in err

    def status(self, process):
        return Path(f"/proc/{process.pid}/status").read_text()

    def test_its_processes_end_with_it(self):
        with self.begun("--seconds", "1000") as process:
            workers = children(process.pid)
            process.kill()
        for child in workers:
            while Path(f"/proc/{child}").exists() and not self.is_zombie(child):
                time.sleep(0.05)

    def is_zombie(self, pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True


@pytest.mark.needs("own machine")
def test_without_root_it_counts_by_fdinfo_and_says_so_once(capfd):
    mode = os.stat("/dev/dma_heap/system").st_mode
    os.chmod("/dev/dma_heap/system", 0o666)
    try:
        words = [*ONE, "--rounds", "40", "--json", "--heap", "system"]
        status = in_child(lambda: main(words), user=NOBODY)
    finally:
        os.chmod("/dev/dma_heap/system", mode)
    out, err = capfd.readouterr()
    assert status == 0, err
    document = json.loads(out)
    assert (document["counted"], document["lost"]) == ("fdinfo", [])
    assert err == (
        f"dmabuf-alloc: {accounts.BUFINFO} can't be read; run as root to count the kernel's own"
        " list\n"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--rounds 0", "is not a count"),
        ("--seconds x", "is not a time"),
        ("--seconds 1 --rounds 1", "not allowed with"),
        ("--seed -1", "is not a number"),
        ("--processes 65", "are too many"),
        ("--memory 4K --processes 2", "less than a page for each process"),
        ("bogus", "unrecognized arguments: bogus"),
    ],
)
def test_misuse_is_one_line(run, words, says):
    status, out, err = run("stress", *words.split())
    assert (status, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_more_than_the_machine_has_is_refused_at_once(run):
    status, _, err = run("stress", "--memory", "900T")
    assert status == 1
    assert "900 TiB" in err


def test_it_has_a_place_in_the_table():
    assert command.EXAMPLES[0][0] == "stress"
