"""Each ioctl of the dma-buf interface, tried on the running kernel."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple, TypeVar

from dmabuf import udmabuf
from dmabuf._memory import PAGE
from dmabuf._owning import own_result
from dmabuf.access import Access
from dmabuf.buffer import Buffer
from dmabuf.cli.checks.exporters import Exporter, allocator
from dmabuf.cli.console.failure import one_line
from dmabuf.fence import Fence

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")

_NO_HEAP = "not tried: no heap to open"
_NO_UDMABUF = "not tried: no udmabuf to open"
_NO_BUFFER = "not tried: no dma-buf to try it on"
_NO_FENCE = "not tried: no sync_file to try it on"


class Trial(NamedTuple):
    """An ioctl, and how it went."""

    name: str
    works: bool | None
    """None if there was nothing to try it on."""
    error: str | None


def trials(exporters: list[Exporter]) -> list[Trial]:
    """Try each ioctl once, on a page of the first heap or, failing that, of udmabuf."""
    done: list[Trial] = []

    def attempt(
        name: str, given: _Given | None, absent: str, call: Callable[[_Given], _Made]
    ) -> _Made | None:
        if given is None:
            done.append(Trial(name, None, absent))
            return None
        try:
            made = call(given)
        except OSError as error:
            done.append(Trial(name, False, one_line(error)))
            return None
        done.append(Trial(name, True, None))
        return made

    usable = {exporter.kind: exporter for exporter in reversed(exporters) if exporter.usable}
    heap, device = usable.get("heap"), usable.get("udmabuf")
    with ExitStack() as stack:
        allocated = attempt(
            "DMA_HEAP_IOCTL_ALLOC", heap, _NO_HEAP, lambda it: stack.enter_context(_allocate(it))
        )
        created = attempt(
            "UDMABUF_CREATE", device, _NO_UDMABUF, lambda it: stack.enter_context(_allocate(it))
        )
        attempt("UDMABUF_CREATE_LIST", device, _NO_UDMABUF, _create_list)
        buffer = allocated or created
        attempt("DMA_BUF_IOCTL_SYNC", buffer, _NO_BUFFER, _sync)
        attempt("DMA_BUF_SET_NAME", buffer, _NO_BUFFER, _set_name)
        fence = attempt(
            "DMA_BUF_IOCTL_EXPORT_SYNC_FILE",
            buffer,
            _NO_BUFFER,
            lambda it: stack.enter_context(it.export_fence(Access.READ_WRITE)),
        )
        both = (buffer, fence) if buffer and fence else None
        attempt("DMA_BUF_IOCTL_IMPORT_SYNC_FILE", both, _NO_FENCE, _import)
        attempt("SYNC_IOC_MERGE", fence, _NO_FENCE, lambda it: it.merge(it).close())
        attempt("SYNC_IOC_FILE_INFO", fence, _NO_FENCE, lambda it: it.status)
        attempt(
            "SYNC_IOC_SET_DEADLINE",
            fence,
            _NO_FENCE,
            lambda it: it.set_deadline(time.monotonic()),
        )
    return done


def _allocate(exporter: Exporter) -> Buffer:
    with allocator(exporter.path) as allocate:
        return allocate(PAGE)


def _create_list(exporter: Exporter) -> None:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    with own_result(os.memfd_create, "dmabuf-alloc", flags) as memfd:
        os.ftruncate(memfd.fileno(), 2 * PAGE)
        fcntl.fcntl(memfd.fileno(), fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        udmabuf.from_memfds([(memfd, PAGE, PAGE), (memfd, 0, PAGE)]).close()


def _sync(buffer: Buffer) -> None:
    buffer.begin_access(Access.READ_WRITE)
    buffer.end_access(Access.READ_WRITE)


def _set_name(buffer: Buffer) -> None:
    buffer.name = "dmabuf-alloc"


def _import(both: tuple[Buffer, Fence]) -> None:
    buffer, fence = both
    buffer.import_fence(fence, Access.READ)
