"""Buffers and their holders in columns, a few bytes for each; records are made when they are read.

A buffer's record with a holder takes some 400 bytes. Here what many have in common stands once, and
a number takes as many bytes as the largest of its column needs.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import count, islice
from typing import Generic, NamedTuple, TypeVar

from dmabuf._holders import Holder
from dmabuf.usage.records import BufferFence, BufferUsage

_CODES = tuple((1 << 8 * array(code).itemsize, code) for code in "BHIQ")

_Value = TypeVar("_Value", bound=Hashable)

Who = tuple[int, int, str]
"""A process: its number, when it started, its command."""
Held = tuple[Who, Sequence[int] | Sequence[str], tuple[int, int]]
"""What a process has of a buffer: descriptors, and what is mapped in bytes and pieces."""


class Common(NamedTuple):
    """What is told of a buffer, and may be the same for many."""

    exporter: str | None
    count: int | None  # type: ignore[assignment]  # which hides tuple.count
    devices: tuple[str, ...]
    fences: tuple[BufferFence, ...]
    unexplained: int | None
    notes: tuple[str, ...]


class Told(NamedTuple):
    """What is told of one buffer."""

    inode: int
    size: int | None
    name: str | None
    common: Common
    holders: Sequence[Held]


class Packed:
    """The buffers of a look."""

    __slots__ = (
        "_common",
        "_counts",
        "_holders",
        "_lengths",
        "_mapped",
        "_names",
        "_numbers",
        "_sizes",
        "_who",
        "inodes",
    )

    def __init__(self, buffers: Iterable[Told]) -> None:
        rows = list(buffers)
        holders = [holder for row in rows for holder in row.holders]
        numbers = [tuple(map(int, holder[1])) for holder in holders]
        names = [row.name for row in rows]
        self.inodes = _small([row.inode for row in rows])
        # 0 stands for None, and what is there for one more than it is.
        self._sizes = _small([0 if row.size is None else row.size + 1 for row in rows])
        self._lengths = _small([0 if name is None else len(name) + 1 for name in names])
        self._names = "".join(name for name in names if name)
        self._common = _Choices([row.common for row in rows])
        self._holders = _small([len(row.holders) for row in rows])
        self._who = _Choices([who for who, _, _ in holders])
        self._mapped = _Choices([mapped for _, _, mapped in holders])
        self._counts = _small(list(map(len, numbers)))
        self._numbers = _small([number for of_holder in numbers for number in of_holder])

    @classmethod
    def of(cls, records: Iterable[BufferUsage]) -> Packed:
        """Return records in columns."""
        return cls(
            Told(
                one.inode,
                one.size,
                one.name,
                Common(
                    one.exporter, one.count, one.devices, one.fences, one.unexplained, one.notes
                ),
                [
                    ((held.pid, held.started, held.command), held.descriptors, held[4:])
                    for held in one.holders
                ],
            )
            for one in records
        )

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Packed):
            return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)
        return tuple(self) == other

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __len__(self) -> int:
        return len(self.inodes)

    def __iter__(self) -> Iterator[BufferUsage]:
        columns = zip(
            self.inodes,
            self._each_size(),
            self._each_name(),
            self._common,
            self._each_holders(),
            strict=True,
        )
        for inode, size, name, told, holders in columns:
            exporter, references, devices, fences, unexplained, notes = told
            yield BufferUsage(
                inode,
                size,
                name,
                exporter,
                references,
                holders,
                devices,
                fences,
                unexplained,
                notes,
            )

    def exporters(self) -> Iterator[tuple[str | None, int | None]]:
        """Give the exporter and the size of each buffer."""
        for size, told in zip(self._each_size(), self._common, strict=True):
            yield told.exporter, size

    def _each_size(self) -> Iterator[int | None]:
        return (size - 1 if size else None for size in self._sizes)

    def _each_name(self) -> Iterator[str | None]:
        names = iter(self._names)
        return ("".join(islice(names, more - 1)) if more else None for more in self._lengths)

    def _each_holders(self) -> Iterator[tuple[Holder, ...]]:
        numbers = iter(self._numbers)
        holders = zip(self._who, self._counts, self._mapped, strict=True)
        for several in self._holders:
            yield tuple(
                Holder(*who, tuple(islice(numbers, many)), *mapped)
                for who, many, mapped in islice(holders, several)
            )


class _Choices(Generic[_Value]):
    """A column of values, each of which stands there once."""

    __slots__ = ("_places", "_values")

    def __init__(self, values: Sequence[_Value]) -> None:
        place = dict(zip(dict.fromkeys(values), count()))
        self._values = list(place)
        self._places = _small([place[value] for value in values])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Choices):
            return NotImplemented
        return self._values == other._values and self._places == other._places

    def __hash__(self) -> int:
        return hash(tuple(self._values))

    def __iter__(self) -> Iterator[_Value]:
        return map(self._values.__getitem__, self._places)


def _small(numbers: Sequence[int]) -> Sequence[int]:
    """Return numbers in as few bytes each as the largest needs.

    Those that 64 bits are too few for, which only a document can have, stay as they are.
    """
    largest = max(numbers, default=0)
    code = next((code for limit, code in _CODES if largest < limit), None)
    return tuple(numbers) if code is None else array(code, numbers)
