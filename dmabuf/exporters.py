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
    """Allocate from the best exporter that works here, or from the first of `heaps` that works.

    Returns `size` bytes of zeroed memory, rounded up to whole pages. Without `heaps` the order is:
    the system heap, every other heap that the CPU may access, udmabuf. `heaps` are names or paths;
    one of them may be "udmabuf". `name` becomes the buffer's name, see `Buffer.name`.

    A request for more memory than the machine has free is refused before the kernel is asked. This
    check reserves nothing: if two processes ask at once for more than half of the free memory, both
    may pass, and then the kernel's OOM killer may end a process.

    AllocationError lists each exporter that was tried, with the reason and the remedy; its
    `attempts` holds the errors.
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
    listed = "".join(reasons) or " the list of heaps is empty"
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
