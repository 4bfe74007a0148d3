"""Records: what the kernel reports, as named tuples whose fields are told in `help()` too."""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from typing import TypeVar

_Record = TypeVar("_Record", bound=tuple[object, ...])
_CLASS = r"^class {}\(NamedTuple\):\n(.*?)(?=^\S|\Z)"
_FIELD = re.compile(r'^    (\w+): [^\n]*\n    """(.+?)"""$', re.MULTILINE | re.DOTALL)


def record(kind: type[_Record]) -> type[_Record]:
    """Give each field of a NamedTuple, for `help()`, the words that stand below it in the source.

    There editors and documentation generators find them, while Python itself forgets them. Without
    sources the fields go without.
    """
    body = re.search(_CLASS.format(kind.__name__), _source(kind.__module__), re.M | re.S)
    for name, words in _FIELD.findall(body[1] if body else ""):
        getattr(kind, name).__doc__ = " ".join(words.split())
    return kind


@lru_cache(maxsize=1)  # a module's records come one after the other
def _source(module: str) -> str:
    spec = sys.modules[module].__spec__
    loader = spec.loader if spec else None
    get_source = getattr(loader, "get_source", None)
    return (get_source(module) if get_source and sys.flags.optimize < 2 else None) or ""
