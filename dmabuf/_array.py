"""A numpy array on a memoryview, its bounds and alignment checked; imported when first used."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy
import numpy.typing


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
    lengths = _integers(shape if type(shape) is tuple else _lengths(shape), "shape")
    start = offset if type(offset) is int else _integers((offset,), "offset")[0]
    if strides is None:
        steps = _contiguous(lengths, kind.itemsize)
    else:
        steps = _integers(strides, "strides")
    if len(steps) != len(lengths):
        raise ValueError(f"{len(steps)} strides for {len(lengths)} dimensions")
    if any(length < 0 for length in lengths):
        raise ValueError(f"a shape has no negative lengths: {lengths}")
    misaligned = [number for number in (start, *steps) if number % kind.alignment]
    if misaligned:
        what = f"dtype {kind} wants offset and strides that {kind.alignment} divides"
        raise ValueError(f"{what}, not {misaligned[0]}")
    reach = [(length - 1) * step for length, step in zip(lengths, steps, strict=True)]
    first = start + sum(distance for distance in reach if distance < 0)
    end = start + sum(distance for distance in reach if distance > 0) + kind.itemsize
    if 0 in lengths:
        first, end = start, start
    if first < 0 or end > len(memory):
        what = f"an array of shape {lengths} and strides {steps} at offset {start}"
        raise ValueError(f"{what} needs bytes {first} to {end}; the buffer has 0 to {len(memory)}")
    # frombuffer keeps the memory; ndarray on anything but such an array would not.
    base = numpy.frombuffer(memory, "u1")
    return numpy.ndarray(lengths, kind, buffer=base, offset=start, strides=steps)


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
        parts = tuple(given)
        if bool not in map(type, parts):
            return tuple(map(operator.index, parts))
    except TypeError:
        pass
    shown = ", ".join(map(repr, given)) if type(given) is tuple else repr(given)
    raise TypeError(f"{what} must be in whole numbers, not {shown}")


def _contiguous(lengths: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    steps = [itemsize]
    for length in reversed(lengths[1:]):
        steps.append(steps[-1] * length)
    return tuple(reversed(steps)) if lengths else ()
