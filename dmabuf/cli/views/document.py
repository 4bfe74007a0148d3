"""Records as JSON has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


def document(record: NamedTuple) -> dict[str, Any]:
    """Return a record, and the records in it, as objects of JSON."""
    return {name: _plain(value) for name, value in record._asdict().items()}


def _plain(value: object) -> object:
    if hasattr(value, "_asdict"):
        return document(value)  # type: ignore[arg-type]
    if isinstance(value, Mapping):
        return {name: _plain(field) for name, field in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
