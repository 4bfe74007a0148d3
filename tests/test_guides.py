"""The programs of the guides run as they stand, and print what the guides say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
GUIDES = {"fences": 4, "sharing": 4, "usage": 4}
"""The guides whose programs all say what they print, and how many these are."""

FINISHED = re.compile(r"```python\n(.*?)```\n\nIt prints `(.*?)`\.", re.DOTALL)
PROGRAMS = [
    pytest.param(*program, id=f"{guide}-{number}")
    for guide in GUIDES
    for number, program in enumerate(FINISHED.findall((DOCS / f"{guide}.md").read_text()), 1)
]


@pytest.mark.parametrize(("guide", "count"), GUIDES.items())
def test_each_program_says_what_it_prints(guide, count):
    text = (DOCS / f"{guide}.md").read_text()
    assert len(FINISHED.findall(text)) == text.count("```python") == count


@pytest.mark.needs("heap", "vgem", "export")
@pytest.mark.parametrize(("program", "prints"), PROGRAMS)
def test_a_program_prints_what_its_guide_says(program, prints, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(program)
    run = subprocess.run(
        [sys.executable, "-W", "error", str(path)], capture_output=True, text=True, timeout=110
    )
    assert run.stderr == ""
    assert run.stdout == prints + "\n"
