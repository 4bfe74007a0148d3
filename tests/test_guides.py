"""The programs of the guides run as they stand, and print what the guides say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import cameras

DOCS = Path(__file__).parent.parent / "docs"
GUIDES = {"cameras": 5, "fences": 4, "opengl": 3, "sharing": 4, "usage": 4}
"""The guides whose programs all say what they print, and how many these are."""
NEEDS = {"cameras": ("vivid", "no vim2m"), "opengl": ("egl", "moderngl", "heap", "export")}
"""What the programs of a guide need, if not heap, vgem and export."""
CAMERA = "/dev/video0"
"""The guides' camera: vivid has it, or another node."""

FINISHED = re.compile(r"```python\n(.*?)```\n\nIt prints `(.*?)`\.", re.DOTALL)
PROGRAMS = [
    pytest.param(
        *program,
        id=f"{guide}-{number}",
        marks=pytest.mark.needs(*NEEDS.get(guide, ("heap", "vgem", "export"))),
    )
    for guide in GUIDES
    for number, program in enumerate(FINISHED.findall((DOCS / f"{guide}.md").read_text()), 1)
]


@pytest.mark.parametrize(("guide", "count"), GUIDES.items())
def test_each_program_says_what_it_prints(guide, count):
    text = (DOCS / f"{guide}.md").read_text()
    assert len(FINISHED.findall(text)) == text.count("```python") == count


@pytest.mark.parametrize(("program", "prints"), PROGRAMS)
def test_a_program_prints_what_its_guide_says(program, prints, tmp_path):
    if CAMERA in program + prints:
        node = cameras.find("vivid")
        program, prints = program.replace(CAMERA, node), prints.replace(CAMERA, node)
    path = tmp_path / "program.py"
    path.write_text(program)
    run = subprocess.run(
        [sys.executable, "-W", "error", str(path)], capture_output=True, text=True, timeout=110
    )
    assert run.stderr == ""
    assert run.stdout == prints + "\n"
