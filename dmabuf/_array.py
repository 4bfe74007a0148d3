"""A numpy array on a memoryview, its bounds and alignment checked; imported when first used."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy
import numpy.typing

_BYTES = numpy.dtype("u1")
_PLAIN = frozenset((int,))


def array_on(
    memory: memoryview,
    shape: SupportsIndex | Sequence[SupportsIndex],
    dtype: numpy.typing.DTypeLike,
    offset: SupportsIndex,
    strides: Sequence[SupportsIndex] | None,
) -> numpy.ndarray[Any, Any]:
    """Return an array on the memory, which it keeps; ValueError if it would reach outside."""
    kind = numpy.dtype(dtype)
    if kind.hasobject or kind.itemsize == 0:
        raise ValueError(f"dtype {kind!r} can't be an element of shared memory")
    if type(shape) is tuple and _PLAIN.issuperset(map(type, shape)):
        lengths: tuple[int, ...] = shape
    else:
        lengths = _integers(_lengths(shape), "shape")
    start = offset if type(offset) is int else _integers((offset,), "offset")[0]
    if lengths and min(lengths) < 0:
        raise ValueError(f"a shape must not have negative lengths: {lengths}")
    if strides is None:
        steps = None
        first, end = start, start + math.prod(lengths) * kind.itemsize
    else:
        steps = _integers(strides, "strides")
        if len(steps) != len(lengths):
            raise ValueError(f"{len(steps)} strides were given for {len(lengths)} dimensions")
        _require_aligned(steps, kind)
        first, end = _reach(lengths, steps, start, kind.itemsize)
    if start % kind.alignment:
        _require_aligned((start,), kind)
    if first < 0 or end > len(memory):
        raise ValueError(
            f"an array of shape {lengths} at offset {start} needs bytes {first} to {end};"
            f" the buffer has 0 to {len(memory)}"
        )
    return view(memory, lengths, kind, start, steps)


def view(
    memory: memoryview,
    shape: tuple[int, ...],
    dtype: numpy.dtype[Any],
    offset: int,
    strides: tuple[int, ...] | None,
) -> numpy.ndarray[Any, Any]:
    """Return an array on memory that is known to reach so far."""
    # frombuffer keeps the memory; ndarray on anything but such an array would not. Its arguments
    # have no names here, which would take as long as all the rest.
    return numpy.ndarray(shape, dtype, numpy.frombuffer(memory, _BYTES), offset, strides)


def _require_aligned(numbers: tuple[int, ...], kind: numpy.dtype[Any]) -> None:
    for number in numbers:
        if number % kind.alignment:
            raise ValueError(
                f"dtype {kind} needs offset and strides that are multiples of {kind.alignment},"
                f" not {number}"
            )


def _reach(
    lengths: tuple[int, ...], steps: tuple[int, ...], start: int, itemsize: int
) -> tuple[int, int]:
    """Return the first byte of an array with strides, and the byte after its last."""
    if 0 in lengths:
        return start, start
    distances = [(length - 1) * step for length, step in zip(lengths, steps, strict=True)]
    before = sum(distance for distance in distances if distance < 0)
    return start + before, start + sum(distances) - before + itemsize


def _lengths(shape: SupportsIndex | Sequence[SupportsIndex]) -> Sequence[SupportsIndex]:
    """Return a shape that may be a number as the lengths that it stands for."""
    try:
        operator.index(shape)  # type: ignore[arg-type]
    except TypeError:
        return shape  # type: ignore[return-value]
    return (shape,)  # type: ignore[return-value]


def _integers(given: Sequence[SupportsIndex], what: str) -> tuple[int, ...]:
    """Return numbers as ints; TypeError, with what they are for, if one is none."""
    try:
        if bool not in map(type, parts := tuple(given)):
            return tuple(map(operator.index, parts))
    except TypeError:
        pass
    shown = ", ".join(map(repr, given)) if type(given) is tuple else repr(given)
    raise TypeError(f"{what} must be in whole numbers, not {shown}")
