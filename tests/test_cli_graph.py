"""dmabuf-alloc graph: the picture of who holds what, in DOT, SVG, PNG and as a tree."""

import json
import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest
from helpers import made_usage
from helpers.command import on_terminal, run_command
from helpers.made_usage import HOSTILE, HOSTILE_NAMES, NOTHING_KNOWN, SHARED
from PIL import Image

from dmabuf.cli.console.text import printable

outside = pytest.mark.needs("outside")  # what it asks is no kernel

FILLS = {"process": (0xDB, 0xE9, 0xF6), "buffer": (0xFD, 0xF0, 0xC4), "unheld": (0xF8, 0xD7, 0xD3)}


@pytest.fixture
def snapshot(tmp_path):
    """Return a function that writes a look, and gives the words that read it."""

    def snapshot(made=SHARED):
        return ("--from", made_usage.write(made, tmp_path / "look.json"))

    return snapshot


def graphviz(text, kind):
    """Return what Graphviz makes of a graph."""
    made = subprocess.run(["dot", f"-T{kind}"], input=text, capture_output=True, text=True)
    assert (made.returncode, made.stderr) == (0, "")
    return made.stdout


def edges(text):
    return set(re.findall(r"^  (\w+) -> (\w+) ", text, re.MULTILINE))


@outside
class TestDot:
    def test_has_who_holds_what_and_what_is_attached(self, snapshot):
        answer = run_command("graph", *snapshot())
        assert answer.returncode == 0
        assert edges(answer.stdout) == {
            ("p655", "b412"),
            ("p801", "b411"),
            ("p801", "b412"),
            ("p1204", "b377"),
            ("b355", "d0"),
            ("b411", "d0"),
        }
        assert 'p801 [label="camerad\\n801 (video)"' in answer.stdout
        assert 'b412 [label="ring-2\\n412: 31.6M system"' in answer.stdout
        assert 'p801 -> b412 [label="5+2"]' in answer.stdout
        assert 'p1204 -> b377 [label="map", style=dashed]' in answer.stdout

    def test_is_the_same_on_a_terminal_uncut(self, snapshot):
        words = ("graph", *snapshot())
        status, lines = on_terminal(*words, columns=40)
        assert status == 0
        assert lines[:-1] == run_command(*words).stdout.splitlines()

    @pytest.mark.parametrize("made", [HOSTILE_NAMES, NOTHING_KNOWN])
    def test_every_line_is_of_its_form_whatever_the_names(self, snapshot, made):
        text = run_command("graph", *snapshot(made), PYTHONIOENCODING="utf-8").stdout
        label = r'"(?:[^"\\]|\\.)*"'
        form = re.compile(
            rf"digraph dmabuf \{{|  (graph|node|edge) \[.*\];"
            rf"|  [pbd]\d+ \[label={label}, shape=.*\];|  \{{ rank=same; [pbd\d; ]+ \}}"
            rf"|  [pbd]\d+ -> [pbd]\d+ \[(label={label}|dir=none)"
            r"(, style=dashed)?\];|\}"
        )
        assert [line for line in text.splitlines() if not form.fullmatch(line)] == []
        assert all(line.isprintable() for line in text.splitlines())

    def test_largest_buffers_come_first_and_the_rest_is_counted(self, snapshot):
        answer = run_command("graph", "--max-nodes", "5", *snapshot())
        ids = set(re.findall(r"^  ([pbd]\d+) \[", answer.stdout, re.MULTILINE))
        assert ids == {"p801", "b411", "d0", "p655", "b412"}
        assert "dmabuf-alloc: 2 smaller buffers are left out" in answer.stderr

    def test_filters_are_those_of_ps(self, snapshot):
        text = run_command("graph", "--name", "scratch", *snapshot()).stdout
        assert edges(text) == {("p1204", "b377")}

    def test_nothing_is_a_graph_too(self, snapshot):
        answer = run_command("graph", "--name", "nope", *snapshot())
        assert answer.stdout.startswith("digraph dmabuf {\n")
        assert answer.stdout.endswith("\n}\n")


@outside
class TestTree:
    def test_is_that_of_ps(self, snapshot):
        words = snapshot()
        tree = run_command("graph", "--tree", *words).stdout
        assert tree == run_command("ps", "--tree", *words).stdout
        assert "camerad 801 (video)" in tree


@outside
class TestDocument:
    def test_has_nodes_and_edges(self, snapshot):
        document = json.loads(run_command("graph", "--json", *snapshot()).stdout)
        assert {node["id"]: node["kind"] for node in document["nodes"]} == {
            **dict.fromkeys(("p655", "p801", "p1204"), "process"),
            **dict.fromkeys(("b355", "b377", "b411", "b412"), "buffer"),
            "d0": "device",
        }
        (unheld,) = [node["id"] for node in document["nodes"] if not node["is_held"]]
        assert unheld == "b355"
        assert {"tail": "p655", "head": "b412", "label": "1"} in document["edges"]
        assert (document["left_out"], document["file"]) == (0, None)


@outside
class TestFiles:
    def test_dot_needs_no_graphviz(self, snapshot, tmp_path):
        path = tmp_path / "shared.dot"
        answer = run_command("graph", "-o", str(path), *snapshot(), PATH="/nonexistent")
        assert (answer.returncode, answer.stdout) == (0, "")
        assert edges(path.read_text()) == edges(run_command("graph", *snapshot()).stdout)

    @pytest.mark.parametrize("end", ["svg", "png"])
    def test_a_picture_without_graphviz_names_its_package(self, snapshot, tmp_path, end):
        path = tmp_path / f"shared.{end}"
        answer = run_command("graph", "-o", str(path), *snapshot(), PATH="/nonexistent")
        assert (answer.returncode, answer.stdout) == (1, "")
        assert "apt install graphviz" in answer.stderr
        assert answer.stderr.count("\n") == 1
        assert not path.exists()

    def test_a_failing_graphviz_is_one_line(self, snapshot, tmp_path):
        program = tmp_path / "dot"
        program.write_text("#!/bin/sh\necho 'out of paper' >&2\nexit 3\n")
        program.chmod(0o755)
        path = tmp_path / "shared.png"
        answer = run_command("graph", "-o", str(path), *snapshot(), PATH=f"{tmp_path}:/bin")
        assert (answer.returncode, answer.stderr) == (
            1,
            "dmabuf-alloc: Graphviz made no .png: out of paper\n",
        )
        assert not path.exists()

    def test_a_place_that_can_not_be_written_is_one_line(self, snapshot):
        answer = run_command("graph", "-o", "/nonexistent/shared.dot", *snapshot())
        assert answer.returncode == 1
        assert answer.stderr == "dmabuf-alloc: /nonexistent/shared.dot: No such file or directory\n"

    @pytest.mark.parametrize("words", ["-o shared.gif", "-o shared", "--tree -o a.svg"])
    def test_what_makes_no_sense_is_wrong_usage(self, words):
        answer = run_command("graph", *words.split())
        assert answer.returncode == 2
        assert answer.stderr.count("\n") == 1


@outside
@pytest.mark.needs("graphviz")
class TestPictures:
    @pytest.mark.parametrize("made", [SHARED, HOSTILE_NAMES, NOTHING_KNOWN])
    def test_graphviz_reads_as_many_nodes_and_edges_as_were_written(self, snapshot, made):
        text = run_command("graph", *snapshot(made), PYTHONIOENCODING="utf-8").stdout
        lines = graphviz(text, "plain").splitlines()
        written = re.findall(r"^  ([pbd]\d+) \[", text, re.MULTILINE)
        assert {line.split()[1] for line in lines if line.startswith("node ")} == set(written)
        assert {tuple(line.split()[1:3]) for line in lines if line.startswith("edge ")} == edges(
            text
        )

    def test_an_svg_shows_hostile_names_as_they_are(self, snapshot, tmp_path):
        path = tmp_path / "hostile.svg"
        assert run_command("graph", "-o", str(path), *snapshot(HOSTILE_NAMES)).returncode == 0
        svg = ElementTree.parse(path)
        kinds = {element.tag.rpartition("}")[2] for element in svg.iter() if element.text}
        assert not kinds & {"script", "a", "image"}
        texts = {element.text for element in svg.iter() if element.tag.endswith("}text")}
        assert {printable(name) for name in HOSTILE} <= texts

    def test_a_png_has_the_boxes_of_all_kinds(self, snapshot, tmp_path):
        path = tmp_path / "shared.png"
        assert run_command("graph", "-o", str(path), *snapshot()).returncode == 0
        with Image.open(path) as image:
            assert image.format == "PNG"
            counts = {colour: count for count, colour in image.convert("RGB").getcolors(1 << 24)}
        shares = {kind: counts.get(colour, 0) for kind, colour in FILLS.items()}
        assert all(count > 1000 for count in shares.values()), shares
        assert shares["buffer"] > shares["unheld"]  # three and one


@pytest.mark.needs("root")
def test_a_buffer_of_this_machine_is_drawn_with_its_holder(allocate):
    with allocate(8192, name="drawn") as buffer:
        text = run_command("graph", "--name", "drawn").stdout
    assert edges(text) == {(f"p{os.getpid()}", f"b{buffer.inode}")}
