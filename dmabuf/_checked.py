"""What a caller may give for a number, with words for what is none."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import SupportsIndex


def whole(number: SupportsIndex, what: str) -> int:
    """Return a whole number as an int; TypeError, with what it is for, if it is none."""
    try:
        return operator.index(number)
    except TypeError:
        kind = type(number).__name__
        raise TypeError(f"{what} must be a whole number, not {kind}") from None


def wholes(numbers: Iterable[SupportsIndex], what: str) -> list[int]:
    """Return several whole numbers as ints; TypeError, with what they are for, if one is none."""
    try:
        return list(map(operator.index, numbers))
    except TypeError:
        raise TypeError(f"{what} must be whole numbers, not {numbers!r}") from None
