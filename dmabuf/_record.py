"""Records: what the kernel reports, as named tuples whose fields are told in `help()` too."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

_Record = TypeVar("_Record", bound=tuple[object, ...])
_FIELD = re.compile(r'^    (\w+): [^\n]*\n    """(.+?)"""$', re.MULTILINE | re.DOTALL)


def record(kind: type[_Record]) -> type[_Record]:
    """Give each field of a NamedTuple, for `help()`, the words that stand below it in the source.

    There editors and documentation generators find them, while Python itself forgets them. Without
    sources the fields go without.
    """
    source = _source(kind.__module__)
    start = source.find(f"\nclass {kind.__name__}(NamedTuple):")
    for name, words in _FIELD.findall(source[start : source.find("\n\n\n", start)]):
        getattr(kind, name).__doc__ = " ".join(words.split())
    return kind


def plain(value: object) -> Any:
    """Return records, and those in them, as JSON has them: objects, and lists of objects."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {name: plain(field) for name, field in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


@lru_cache(maxsize=1)  # a module's records come one after the other
def _source(module: str) -> str:
    spec = sys.modules[module].__spec__
    get_data = getattr(spec and spec.loader, "get_data", None)
    if get_data is None or spec is None or spec.origin is None or sys.flags.optimize > 1:
        return ""
    try:
        return str(get_data(spec.origin), "utf-8")  # get_source() would import a tokenizer
    except OSError:
        return ""
