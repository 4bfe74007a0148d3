"""A message can be searched for: each of its clauses stands in the sources as one text."""

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("outside")  # it asks no kernel

ROOT = Path(__file__).parent.parent
PATHS = [path for path in sorted((ROOT / "dmabuf").rglob("*.py")) if path.name != "_uapi.py"]
PIECES = {"has", "message", "reason", "text", "what", "why"}
"""What a piece of a message is called, if it was given a name."""
ENDS, BEGINS = ("; ", ": ", "(", "\n"), (";", ":", ")", " (", "\n")
"""What may stand before a piece, and behind it: there a clause ends."""


def pieces(function: ast.AST) -> set[str]:
    """Return the names of the pieces that a function puts together itself."""
    return {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.JoinedStr)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in PIECES
    }


def torn(text: ast.JoinedStr, names: set[str]) -> bool:
    """Whether a text has a piece in the middle of a clause."""
    empty = ast.Constant("")
    for before, (value, after) in zip(
        [empty, *text.values], pairwise([*text.values, empty]), strict=False
    ):
        if isinstance(value, ast.FormattedValue) and getattr(value.value, "id", None) in names:
            begins = isinstance(before, ast.Constant) and (before.value or "(").endswith(ENDS)
            ends = isinstance(after, ast.Constant) and (after.value or ";").startswith(BEGINS)
            if not (begins and ends):
                return True
    return False


def torn_messages(path: Path) -> Iterator[str]:
    """Give the messages of a module that are torn, with their places."""
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            names = pieces(function)
            for text in ast.walk(function):
                if names and isinstance(text, ast.JoinedStr) and torn(text, names):
                    yield f"{path.relative_to(ROOT)}:{text.lineno}: {ast.unparse(text)}"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_clause_of_a_message_is_put_together_from_pieces(path):
    assert not list(torn_messages(path))
