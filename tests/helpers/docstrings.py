"""The public names of the package, and the examples in their docstrings."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from types import FunctionType, ModuleType

import dmabuf
import dmabuf.testing


def public_modules(module: ModuleType = dmabuf) -> Iterator[ModuleType]:
    """Give the package, the modules that it and they name in `__all__`, and `dmabuf.testing`."""
    yield module
    for name in getattr(module, "__all__", ()):
        inner = getattr(module, name)
        if isinstance(inner, ModuleType):
            yield from public_modules(inner)
    if module is dmabuf:
        yield dmabuf.testing


def public_objects() -> dict[str, object]:
    """Return the public classes and functions: those in `__all__`, or else a module's own."""
    found: dict[str, object] = {}
    for module in public_modules():
        for name in getattr(module, "__all__", vars(module)):
            thing = getattr(module, name)
            own = hasattr(module, "__all__") or _home(thing) == module.__name__
            if own and not name.startswith("_") and isinstance(thing, (type, FunctionType)):
                found[f"{thing.__module__}.{thing.__qualname__}"] = thing
    return found


def _home(thing: object) -> str:
    """Return the name of the module that something was defined in."""
    return str(getattr(thing, "__module__", ""))


def examples(words: str) -> list[str]:
    """Return the examples of a docstring: indented blocks of Python after an empty line."""
    found = []
    for block in inspect.cleandoc(words).split("\n\n")[1:]:
        if all(line.startswith("    ") for line in block.splitlines()):
            try:
                ast.parse(textwrap.dedent(block))
            except SyntaxError:
                continue
            found.append(textwrap.dedent(block))
    return found
