"""The JSON of dmabuf-alloc: one document a run, as docs/json.md promises."""

import importlib.resources
import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import cameras
from helpers.background import command
from helpers.command import run_command
from helpers.leaks import descriptors
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

import dmabuf
from dmabuf.cli import main
from dmabuf.cli.checks import contents

MANUAL = Path(__file__).parent.parent / "docs" / "json.md"
*EXAMPLES, SCHEMA = map(json.loads, re.findall(r"```json\n(.*?)```", MANUAL.read_text(), re.DOTALL))
SNAPSHOT = json.loads(
    (importlib.resources.files("dmabuf.usage") / "snapshot.schema.json").read_text()
)
REGISTRY = Registry().with_resource("snapshot.schema.json", Resource.from_contents(SNAPSHOT))
WORKING = os.path.exists("/dev/dma_heap/system") or os.path.exists("/dev/udmabuf")


def faults(value, schema=None):
    """Return what a document has against the schema of docs/json.md."""
    validator = Draft202012Validator(schema or SCHEMA, registry=REGISTRY)
    return [error.message for error in validator.iter_errors(value)]


@pytest.fixture
def run(capfd):
    """Return a function that runs the command and gives its status and its valid document."""

    def run(*arguments):
        status = main([*arguments, "--json"])
        out, err = capfd.readouterr()
        document = json.loads(out)
        assert faults(document, SCHEMA) == []
        assert ("error" in document) == (status != 0)
        assert err == (f"dmabuf-alloc: {document['error']}\n" if status else "")
        return status, document

    return run


def test_the_version_is_a_document(run):
    assert run("--version") == (0, {"schema": 1, "command": None, "version": dmabuf.__version__})


class TestManual:
    def test_the_examples_are_valid(self):
        assert len(EXAMPLES) == 19
        assert [faults(example, SCHEMA) for example in EXAMPLES] == [[]] * 19

    @pytest.mark.parametrize(
        "change",
        [
            {"schema": 2},
            {"command": "check"},
            {"exporters": None},
            {"exporters": [{"name": "system"}]},
            {"more": 1},
        ],
        ids=str,
    )
    def test_the_schema_refuses_what_it_should(self, change):
        assert faults(EXAMPLES[2] | change, SCHEMA) != []


class TestDocuments:
    def test_check(self, run):
        status, document = run()
        assert status == (0 if WORKING else 1)
        assert document["command"] == "check"
        assert document["machine"]["kernel"] == os.uname().release
        assert {"system", "udmabuf"} <= {exporter["name"] for exporter in document["exporters"]}
        for exporter in document["exporters"]:
            assert exporter["works"] == (exporter["error"] is None)
            assert exporter["works"] == (exporter["remedy"] is None)

    @pytest.mark.needs("heap", "udmabuf", "root", "export", "deadline")
    def test_check_where_all_works(self, run):
        _, document = run("check")
        for exporter in document["exporters"]:
            assert exporter["works"]
            assert min(exporter["speed"].values()) > 0
        assert len(document["ioctls"]) == 10
        assert all(ioctl["works"] for ioctl in document["ioctls"])

    def test_list(self, run):
        status, document = run("list")
        assert status == 0
        assert (document["exporters"] != []) == WORKING

    def test_list_of_devices(self, run):
        status, document = run("list", "--devices")
        assert status == 0
        kinds = [device["kind"] for device in document["devices"]]
        assert kinds == sorted(kinds, key=["heap", "udmabuf", "drm", "v4l2"].index)
        assert ("heap" in kinds or "udmabuf" in kinds) == WORKING

    @pytest.mark.needs("heap", "root")
    def test_alloc(self, run):
        status, document = run("5000", "--count", "2", "--name", "cam")
        assert status == 0
        first, second = document["buffers"]
        assert (first["size"], first["exporter"]) == (8192, "system")
        assert (first["name"], second["name"]) == ("cam-0", "cam-1")
        assert first["inode"] != second["inode"]
        assert document["fill"] is None
        assert document["hold"] is None
        assert document["verified"] is False

    @pytest.mark.needs("heap", "root")
    @pytest.mark.parametrize(
        ("arguments", "fill"),
        [
            ("--fill 0x10", {"kind": "byte", "byte": 16}),
            ("--fill-pattern", {"kind": "pattern"}),
            (
                "--fill-from /dev/zero",
                {"kind": "file", "file": "/dev/zero", "length": 8192},
            ),
        ],
    )
    def test_alloc_and_fill(self, run, arguments, fill):
        _, document = run("8K", *arguments.split(), "--verify")
        assert document["fill"] == fill
        assert document["verified"] is True
        assert None not in document["seconds"].values()

    @pytest.mark.needs("heap", "udmabuf", "root")
    def test_bench(self, run, tmp_path):
        picture = str(tmp_path / "bench.png")
        _, document = run("bench", "--sizes", "4K,8K", "--rounds", "1", "--plot", picture)
        assert document["plot"] == picture
        names = [memory["name"] for memory in document["memories"]]
        assert names[0] == "ordinary"
        assert {"system", "udmabuf"} <= set(names)
        for memory in document["memories"]:
            assert [one["size"] for one in memory["sizes"]] == [4096, 8192]
            for one in memory["sizes"]:
                assert None not in one["times_ordinary"].values()
                assert (None in one["seconds"].values()) == (memory["name"] == "ordinary")

    @pytest.mark.needs("no heap", "no udmabuf")
    def test_bench_where_nothing_can_be_measured(self, run):
        status, document = run("bench", "--sizes", "4K", "--rounds", "1")
        assert status == 1
        assert [memory["name"] for memory in document["memories"]] == ["ordinary"]

    @pytest.mark.needs("heap", "bufinfo", "root")
    def test_stress(self, run):
        status, document = run("stress", "--rounds", "20", "--seed", "7", "--processes", "2")
        assert status == 0
        assert (document["seed"], document["processes"], document["lost"]) == (7, 2, [])
        assert document["allocated"] == document["released"] > 0
        assert document["counted"] == "bufinfo"

    def test_completion(self, run):
        status, document = run("completion", "bash")
        assert status == 0
        assert document["script"].endswith("complete -F _dmabuf_alloc dmabuf-alloc\n")

    def test_a_user(self, run):
        status, document = run("check", "--user", "root")
        assert status == (0 if WORKING else 1)
        assert document["user"]["uid"] == 0
        assert all(exporter["allowed"] for exporter in document["exporters"])

    @pytest.mark.parametrize("words", ["ps", "ps --pid 1", "ps --unheld", "graph"])
    def test_a_look(self, words):
        answer = run_command(*words.split(), "--json")
        assert answer.returncode == 0
        assert faults(json.loads(answer.stdout)) == []

    def test_a_difference_of_looks(self, tmp_path):
        before = tmp_path / "before.json"
        before.write_text(run_command("ps", "--json").stdout)
        assert faults(json.loads(run_command("diff", str(before), "--json").stdout)) == []

    def test_looks_one_a_line(self):
        answer = run_command("top", "-d", "0.1", "--count", "2", "--devices", "--json")
        for line in answer.stdout.splitlines():
            assert faults(json.loads(line)) == []

    @pytest.mark.needs("heap", "root")
    def test_send_and_receive(self, run, tmp_path):
        path = str(tmp_path / "s")
        with command("receive", path, "--timeout", "60", "--json") as receiver:
            status, document = run("send", path, "4K", "--name", "gift")
            received = json.loads(receiver.end()[1])
        assert status == 0
        assert document["receivers"] == received["frames"] == 1
        assert faults(received) == []
        (mine,), (theirs,) = document["buffers"], received["buffers"]
        assert mine | {"fd": 0} == theirs | {"fd": 0}

    @pytest.mark.needs("vivid", "root")
    def test_send_of_a_camera(self, run, tmp_path):
        words = ["--camera", cameras.find("vivid"), "--count", "2"]
        _, document = run("send", str(tmp_path / "s"), *words)
        assert document["published"]["frames"] == 2

    @pytest.mark.needs("heap", "root")
    def test_hold(self, run):
        _, document = run("8K", "--hold-for", "0")
        assert document["hold"] == {"pid": os.getpid(), "seconds": 0}

    @pytest.mark.needs("heap", "root")
    def test_the_document_comes_before_the_wait(self):
        command = [sys.executable, "-m", "dmabuf", "4K", "--hold", "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            text = ""
            while not text.endswith("\n}\n"):
                text += process.stdout.readline()
            assert json.loads(text)["hold"] == {"pid": process.pid, "seconds": None}
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 0
            assert process.stdout.read() == ""


class TestErrors:
    @pytest.mark.parametrize(
        ("line", "command"),
        [
            ("64MB", "alloc"),
            ("list 64M", "list"),
            ("check --fill 1", "check"),
            ("--bogus", None),
            ("4K --hold --hold-for 1", "alloc"),
        ],
    )
    def test_wrong_usage(self, run, line, command):
        status, document = run(*line.split())
        assert status == 2
        assert document["command"] == command

    def test_a_file_that_is_not_there(self, run):
        status, document = run("4K", "--fill-from", "/nonexistent")
        assert status == 1
        assert document["errno"] == "ENOENT"

    @pytest.mark.needs("heap", "root")
    def test_a_heap_that_is_not_there(self, run):
        status, document = run("4K", "--heap", "nope")
        assert status == 1
        assert document["errno"] == "ENOENT"

    @pytest.mark.needs("heap", "root")
    def test_too_many_buffers(self, run):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors() + 10, hard))
        try:
            status, document = run("4K", "--count", "20")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert status == 1
        assert document["errno"] == "EMFILE"

    @pytest.mark.needs("heap", "root")
    def test_a_difference(self, run, monkeypatch):
        monkeypatch.setattr(contents, "fill", lambda buffer, index, content, advance: None)
        status, document = run("4K", "--fill", "7", "--verify")
        assert status == 1
        assert document["difference"] == {"buffer": 0, "offset": 0, "expected": 7, "found": 0}

    def test_an_interrupt(self, run, monkeypatch):
        def interrupted(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(contents.FileContent, "__init__", interrupted)
        status, document = run("4K", "--fill-from", "file")
        assert status == 130
        assert document["errno"] == "EINTR"
