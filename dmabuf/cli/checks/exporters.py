"""What can make dma-bufs on this machine, by its nodes: nothing is opened."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import dmabuf
from dmabuf import _node, udmabuf
from dmabuf.buffer import Buffer
from dmabuf.cli.console.size import exact
from dmabuf.heap import DIRECTORY, Heap, HeapInfo, heaps
from dmabuf.udmabuf import Limits

_CLASS = "/sys/class/dma_heap"


class Exporter(NamedTuple):
    """A heap, which `info` is of, or udmabuf, whose limits it has, by a look at its node."""

    path: str
    permissions: str | None
    """As `ls -l` shows them; None if there is no node."""
    usable: bool
    """Whether the node's permissions let this process open it."""
    info: HeapInfo | Limits | None

    @property
    def kind(self) -> str:
        """`heap` or `udmabuf`."""
        return "heap" if isinstance(self.info, HeapInfo) else "udmabuf"

    @property
    def name(self) -> str:
        """The kernel's own name."""
        return self.info.name if isinstance(self.info, HeapInfo) else "udmabuf"

    @property
    def contiguous(self) -> bool:
        """Whether its memory comes from a CMA region."""
        return isinstance(self.info, HeapInfo) and self.info.contiguous

    @property
    def protected(self) -> bool:
        """Whether its memory is closed to the processor."""
        return isinstance(self.info, HeapInfo) and self.info.protected

    @property
    def limits(self) -> Limits | None:
        """What one buffer may have; None where the exporter sets no limit of its own."""
        return self.info if isinstance(self.info, Limits) else None

    def document(self) -> dict[str, Any]:
        """Return it as docs/json.md has it."""
        fields = ("name", "kind", "path", "permissions", "usable", "contiguous", "protected")
        document = {field: getattr(self, field) for field in fields}
        return document | {"limits": self.limits and self.limits._asdict()}

    def notes(self) -> str:
        """Return what else a user should know, in a few words."""
        words = [word for word in ("contiguous", "protected") if getattr(self, word)]
        if self.limits is not None:
            words.append(about_limits(self.limits))
        return ", ".join(words)


def about_limits(limits: Limits) -> str:
    """Return what one buffer may have, in a few words."""
    if limits.size is None:
        return f"up to {limits.count} pieces"
    return f"up to {exact(limits.size)}, {limits.count} pieces"


def exporters() -> list[Exporter]:
    """Return the exporters that have a node here, heaps first."""
    found = [_heap(info) for info in heaps()]
    if os.path.exists(udmabuf.PATH):
        found.append(_udmabuf())
    return found


def candidates() -> list[Exporter]:
    """Return the exporters and those that can't be seen, which a check asks for the reason."""
    try:
        infos = heaps()
    except OSError:
        infos = []  # opening the system heap will tell
    known = _kernels_heaps() - {info.name for info in infos}
    if not infos and not known:
        known = {"system"}
    infos += [HeapInfo(name, f"{DIRECTORY}/{name}") for name in sorted(known)]
    return [*map(_heap, infos), _udmabuf()]


def _kernels_heaps() -> set[str]:
    try:
        return set(os.listdir(_CLASS))
    except OSError:
        return set()  # a kernel without heaps, or sysfs is closed: opening one will tell


def _heap(info: HeapInfo) -> Exporter:
    usable = os.access(info.path, os.R_OK, effective_ids=True)
    return Exporter(info.path, _permissions(info.path), usable, info)


def _udmabuf() -> Exporter:
    usable = os.access(udmabuf.PATH, os.R_OK | os.W_OK, effective_ids=True)
    return Exporter(udmabuf.PATH, _permissions(udmabuf.PATH), usable, _limits())


def _permissions(path: str) -> str | None:
    try:
        return _node.permissions(path)
    except OSError:
        return None


def _limits() -> Limits | None:
    try:
        return udmabuf.limits()
    except OSError:
        return None


def is_contiguous(heap: str | None) -> bool:
    """Return whether `--heap` names a heap of contiguous memory, judged by the kernel's name."""
    if heap is None:
        return False
    path = os.path.join(DIRECTORY, heap)
    return HeapInfo(_node.kernel_name(path), path).contiguous


@contextmanager
def allocator(heap: str | None) -> Iterator[Callable[..., Buffer]]:
    """Give the function that allocates as `--heap` says; None is from the best exporter."""
    if heap is None:
        yield dmabuf.allocate
    elif heap in ("udmabuf", udmabuf.PATH):
        yield udmabuf.allocate
    else:
        with Heap(heap) as opened:
            yield opened.allocate
