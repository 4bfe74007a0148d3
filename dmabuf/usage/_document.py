"""A scan as a JSON document, and back. What is read is not trusted: each field is checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from dmabuf._record import plain
from dmabuf.usage.records import BufferFence, BufferUsage, Holder, ProcessUsage, Total

SCHEMA = 1
COMMAND = "ps"
"""The document is the one of `dmabuf-alloc ps --json`."""

Reader = Callable[[object, str], Any]


def write(usage: Mapping[str, object], total: Total, exporters: Mapping[str, Total]) -> str:
    """Return the document of a scan's fields; the sums are for readers of other languages."""
    sums = {"total": total, "exporters": exporters}
    return json.dumps(plain({"schema": SCHEMA, "command": COMMAND, **usage, **sums}), indent=1)


def read(text: str | bytes) -> dict[str, Any]:
    """Return a scan's fields from a document; ValueError, with the place, for anything else."""
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("this is not a snapshot of dmabuf.usage: it is too deep") from None
    except ValueError as error:
        raise ValueError(f"this is not a snapshot of dmabuf.usage: {error}") from None
    if not isinstance(document, dict) or document.get("command") != COMMAND:
        raise ValueError('this is not a snapshot of dmabuf.usage: it has no "command": "ps"')
    if document.get("schema") != SCHEMA:
        schema = document.get("schema")
        raise ValueError(f"this snapshot has schema {schema!r}, and this version reads {SCHEMA}")
    return {name: reader(_field(document, name, ""), name) for name, reader in _USAGE.items()}


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def _field(fields: Mapping[str, object], name: str, place: str) -> object:
    try:
        return fields[name]
    except KeyError:
        raise ValueError(f"the snapshot lacks {place}{name}") from None


def _count(value: object, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{place} is {value!r:.80} in the snapshot; it must be a count")
    return value


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{place} is {value!r:.80} in the snapshot; it must be a text")
    return value


def _truth(value: object, place: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{place} is {value!r:.80} in the snapshot; it must be true or false")
    return value


def _seconds(value: object, place: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{place} is {value!r:.80} in the snapshot; it must be a time")
    return float(value)


def _optional(reader: Reader) -> Reader:
    return lambda value, place: None if value is None else reader(value, place)


def _many(reader: Reader) -> Reader:
    def read_many(value: object, place: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError(f"{place} is {value!r:.80} in the snapshot; it must be a list")
        return tuple(reader(item, f"{place}[{at}]") for at, item in enumerate(value))

    return read_many


def _record(kind: Callable[..., NamedTuple], readers: Mapping[str, Reader]) -> Reader:
    def read_record(value: object, place: str) -> NamedTuple:
        if not isinstance(value, dict):
            raise ValueError(f"{place} is {value!r:.80} in the snapshot; it must be an object")
        fields = {
            name: reader(_field(value, name, f"{place}."), f"{place}.{name}")
            for name, reader in readers.items()
        }
        return kind(**fields)

    return read_record


_PROCESS: dict[str, Reader] = {"pid": _count, "started": _count, "command": _text}
_HOLDER = _record(
    Holder,
    {**_PROCESS, "descriptors": _many(_count), "mapped": _count, "pieces": _count},
)
_FENCE = _record(
    BufferFence, {"use": _text, "driver": _text, "timeline": _text, "signaled": _truth}
)
_BUFFER = _record(
    BufferUsage,
    {
        "inode": _count,
        "size": _optional(_count),
        "name": _optional(_text),
        "exporter": _optional(_text),
        "count": _optional(_count),
        "holders": _many(_HOLDER),
        "devices": _many(_text),
        "fences": _many(_FENCE),
        "unexplained": _optional(_count),
        "notes": _many(_text),
    },
)
_SUMS = ("buffers", "descriptors", "pieces", "bytes", "share")
_USAGE: dict[str, Reader] = {
    "buffers": _many(_BUFFER),
    "processes": _many(
        _record(ProcessUsage, {**_PROCESS, "user": _text, **dict.fromkeys(_SUMS, _count)})
    ),
    "unreadable": _many(_count),
    "gone": _many(_count),
    "in_flight": _count,
    "taken": _seconds,
    "boot": _optional(_text),
    "debugfs": _truth,
}
