"""Submodules that come when they are first used: they would slow every start."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attributes(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a package's `__getattr__`, which imports a name from its module, given by `places`.

    A name that is its module's own stands for the module itself.
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

    return get
