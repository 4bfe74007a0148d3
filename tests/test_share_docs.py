"""The programs of the guide to sharing run as they stand, and print what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = (Path(__file__).parent.parent / "docs" / "sharing.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```\n\nIt prints `(.*?)`\.", GUIDE, re.DOTALL)


def test_each_program_says_what_it_prints():
    assert len(PROGRAMS) == GUIDE.count("```python") == 4


@pytest.mark.needs("heap")
@pytest.mark.parametrize(
    ("program", "prints"), PROGRAMS, ids=["socket", "multiprocessing", "ticket", "pool"]
)
def test_a_program_of_the_guide_prints_what_it_says(program, prints, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(program)
    run = subprocess.run(
        [sys.executable, "-W", "error", str(path)], capture_output=True, text=True, timeout=110
    )
    assert run.stderr == ""
    assert run.stdout == prints + "\n"
