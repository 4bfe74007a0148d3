"""What the pages say of the package is so: messages are its own, and every public name is there."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("outside")  # it asks no kernel

ROOT = Path(__file__).parent.parent
SOURCES = "\n".join(path.read_text() for path in (ROOT / "dmabuf").rglob("*.py"))
WORDS = re.sub(r'"\n\s*f?"', "", SOURCES)  # literals of several lines in one piece
MESSAGES = re.findall(
    r"^### `(.*?)`$", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE
)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_of_the_page_on_troubleshooting_is_in_the_sources(message):
    parts = re.split(r"\W*…\W*|[:;] ", message)  # each clause is one text
    assert all(part.strip() in WORDS for part in parts)
    assert any(len(part) >= 10 for part in parts)


def test_the_readme_says_within_a_screen_what_this_is_and_how_to_begin():
    lines = (ROOT / "README.md").read_text().splitlines()
    screen = "\n".join(lines[:30])
    for thing in ("![", "venv", "pip install", "## Can my machine?", "dmabuf-alloc"):
        assert thing in screen
    recipes = re.findall(r"```python\n(.*?)```", "\n".join(lines), re.DOTALL)
    assert max(recipe.strip().count("\n") for recipe in recipes) < 20
    assert len(recipes) == 4


def test_each_example_is_run_by_a_test():
    tests = "\n".join(path.read_text() for path in Path(__file__).parent.rglob("*.py"))
    names = [path.name for path in (ROOT / "examples").glob("*.py")]
    assert names
    assert [name for name in names if f'"{name}"' not in tests] == []
