"""A time-out as its caller gives it, checked here alone, and the moment at which it has passed.

Seconds, from 0; what is below counts as 0, None is for ever. Who waits looks once more when the
time has passed, and then no more, whatever is said to be there:

    end = deadline(timeout)
    left: float | None = None
    while (found := look()) is None:
        late, left = left == 0.0, seconds_left(end)
        if late or not wait(left):
            raise TimeoutError
"""

from __future__ import annotations

import math
import time


def seconds(timeout: float) -> float:
    """Return a time-out as a float from 0; TypeError or ValueError if it is no number."""
    number = _number(timeout, "timeout must be a number of seconds or None")
    return number if number > 0.0 else 0.0


def finite_seconds(given: float, name: str) -> float:
    """Return how long something may take at the most; TypeError or ValueError if it can't be."""
    number = _number(given, f"{name} must be a number of seconds")
    if not 0.0 <= number < math.inf:
        raise ValueError(f"{name} must be a number of seconds from 0, not {given}")
    return number


def _number(given: float, words: str) -> float:
    try:
        if not math.isnan(given):
            return float(given)
    except TypeError:
        raise TypeError(f"{words}, not {type(given).__name__}") from None
    except OverflowError:  # a whole number beyond all floats
        return math.copysign(math.inf, given > 0 or -1)
    raise ValueError(f"{words}, not nan")


def deadline(timeout: float | None) -> float:
    """Return the time of `time.monotonic()` at which a time-out has passed; infinite for None."""
    return math.inf if timeout is None else time.monotonic() + seconds(timeout)


def seconds_left(deadline: float) -> float | None:
    """Return how long may be waited until a deadline, from 0; None for ever."""
    if deadline == math.inf:
        return None
    left = deadline - time.monotonic()
    return left if left > 0.0 else 0.0
