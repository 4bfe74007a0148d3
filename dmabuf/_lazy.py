"""Submodules that come when they are first used: they would slow every start."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attributes(
    package: str, places: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's `__getattr__` and its `__dir__`.

    The first imports a name from its module, given by `places`; a name that is its module's own
    stands for the module itself. The second gives the package's `__all__`, and its version.
    """

    def get(name: str) -> Any:
        try:
            place = places[name]
        except KeyError:
            message = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(message, name=name) from None
        module = import_module(f"{package}.{place}")
        found = module if name == place else getattr(module, name)
        setattr(sys.modules[package], name, found)  # and this is not asked for it again
        return found

    def names() -> list[str]:
        there = vars(sys.modules[package])
        return sorted([*there["__all__"], *(there.keys() & {"__version__"})])

    return get, names
