"""Allocation from the best exporter that works on this machine."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import SupportsIndex

from dmabuf import _memory, heap
from dmabuf.buffer import Buffer, checked_name
from dmabuf.errors import AllocationError, message_of


def allocate(
    size: SupportsIndex,
    *,
    name: str | None = None,
    heaps: Iterable[str | os.PathLike[str]] | None = None,
) -> Buffer:
    """Allocate from the best exporter that works here, or from the first of `heaps` that does.

    The best is the system heap, then any other heap that the processor may touch, then udmabuf.
    `heaps` are names or paths, "udmabuf" among them. Memory that the machine does not have is not
    asked for, but what is free is looked at and not reserved: two processes that ask at once for
    more than half of it may both be let through, and the kernel's OOM killer ends one.
    AllocationError lists each one with its own reason and remedy; `attempts` has them as errors.
    """
    length = _memory.checked_size(size)
    if name is not None:
        checked_name(name)
    if heaps is not None and (isinstance(heaps, _ONE) or not isinstance(heaps, Iterable)):
        raise TypeError(f"heaps must be several names or paths, such as [{heaps!r}]")
    wanted = None if heaps is None else [os.fsdecode(one) for one in heaps]
    attempts: list[OSError] = []
    reasons = []
    for exporter, attempt in _exporters(length, name, wanted):
        try:
            return attempt()
        except OSError as error:
            attempts.append(error)
            reasons.append(f"\n  {exporter}: {message_of(error)}")
    numbers = [error.errno for error in attempts if error.errno not in (None, errno.ENOENT)]
    listed = "".join(reasons) or " heaps is empty"
    text = f"no exporter could allocate {length} bytes:{listed}"
    raise AllocationError(numbers[0] if numbers else errno.ENODEV, text, attempts)


_ONE = (str, bytes, os.PathLike)
_Attempt = tuple[str, Callable[[], Buffer]]


def _exporters(size: int, name: str | None, wanted: list[str] | None) -> Iterator[_Attempt]:
    if wanted is not None:
        for one in wanted:
            if one in ("udmabuf", "/dev/udmabuf"):
                yield one, partial(_allocate_udmabuf, size, name)
            else:
                yield one, partial(heap.allocate_once, one, size, name)
        return
    yield "system", partial(heap.allocate_once, "system", size, name)
    others = []
    try:
        others = heap.heaps()
    except OSError as error:
        yield heap.DIRECTORY, partial(_fail, error)
    for info in others:
        node = os.path.basename(info.path)
        if node != "system" and not info.protected:
            yield node, partial(heap.allocate_once, info.path, size, name)
    yield "udmabuf", partial(_allocate_udmabuf, size, name)


def _allocate_udmabuf(size: int, name: str | None) -> Buffer:
    from dmabuf import udmabuf  # which most programs never need

    return udmabuf.allocate(size, name=name)


def _fail(error: OSError) -> Buffer:
    raise error
