"""Every buffer of the machine, with its devices and fences: the kernel's bufinfo.

Follows dma_buf_debug_show in drivers/dma-buf/dma-buf.c. Names stand there as they are, and may hold
newlines, so that a name could pretend to be devices or fences. A buffer's line of numbers is longer
than a name can be (31 bytes), its devices are counted at its end, and a name that is known from
elsewhere is cut away first. A name that stands here alone may still pretend a fence of its buffer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from dmabuf._procfs import decoded
from dmabuf.usage.records import BufferFence

PATH = "/sys/kernel/debug/dma_buf/bufinfo"

_UNNAMED = b"<none>"  # since Linux 5.19
_TITLES = re.compile(rb"\A\s*Dma-buf Objects:\nsize +\tflags +\tmode +\tcount +\texp_name\tino")
_OBJECT = re.compile(
    rb"^(\d{8,})\t[0-9a-f]{8,}\t[0-9a-f]{8,}\t(\d{8,})\t([^\t\n]*)\t(\d{8,})\t", re.MULTILINE
)
_END = re.compile(rb"^Total (\d+) devices attached\n", re.MULTILINE)
_ATTACHED = b"\tAttached Devices:"
# dma_fence_describe since Linux 6.17 and 5.19, and what was there before both.
_FENCES = (
    re.compile(
        rb"\t(?P<use>\w+) fence:\d+:\d+ (?P<timeline>.*) (?P<driver>\S*) (?P<un>un)?signalled"
    ),
    re.compile(
        rb"\t(?P<use>\w+) fence:(?P<driver>\S+) (?P<timeline>.*) seq \d+ (?P<un>un)?signalled"
    ),
    re.compile(rb"\t(?P<use>\w+) fence: (?P<driver>\S+) (?P<timeline>.*) (?P<un>un)?signalled"),
)
_OLD_USES = {"Exclusive": "write", "Shared": "read"}


class Listed(NamedTuple):
    """A buffer of a list of the kernel's."""

    inode: int
    size: int
    references: int | None
    exporter: str
    name: str | None
    devices: tuple[str, ...]
    fences: tuple[BufferFence, ...]


def read(path: str = PATH) -> bytes | None:
    """Return the list as it stands there, or None if this process may not read it."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def listed(text: bytes, names: Mapping[int, str]) -> dict[int, Listed] | None:
    """Return the buffers of a list by inode; None if it is not of a form that is known.

    `names` are those that are known from elsewhere.
    """
    if not _TITLES.search(text):
        return None
    objects = list(_OBJECT.finditer(text))
    ends = [found.start() for found in objects[1:]] + [len(text)]
    found = {}
    for head, end in zip(objects, ends, strict=False):
        size, count, exporter, inode = head.groups()
        number = int(inode)
        name, lines = _split(text[head.end() : end], names.get(number, ""))
        devices, fences = _attached(lines)
        found[number] = Listed(
            inode=number,
            size=int(size),
            references=int(count),
            exporter=decoded(exporter),
            name=name,
            devices=devices,
            fences=fences,
        )
    return found


def _split(text: bytes, known: str) -> tuple[str | None, list[bytes]]:
    """Return a buffer's name, and the lines below it up to its devices' end."""
    name = known.encode("utf-8", "surrogateescape")
    if not (name and text.startswith(name + b"\n")):
        name = _guess(text)
    below = text[len(name) + 1 :]
    ends = list(_END.finditer(below))
    lines = below[: ends[-1].end()].split(b"\n")[:-1] if ends else []
    return (decoded(name) if name and name != _UNNAMED else None), lines


def _guess(text: bytes) -> bytes:
    """Return the name that a buffer's text begins with, up to the first fence or the devices.

    A name can be made to end in what looks like a fence; that can't be told from one.
    """
    at = text.find(b"\n")
    last = text.rfind(b"\n" + _ATTACHED)
    while 0 <= at < last and not _fence(text[at + 1 : text.find(b"\n", at + 1)]):
        at = text.find(b"\n", at + 1)
    return text[: max(at, 0)]


def _attached(lines: list[bytes]) -> tuple[tuple[str, ...], tuple[BufferFence, ...]]:
    """Return the devices and fences in the lines below a name."""
    end = _END.match(lines[-1] + b"\n") if lines else None
    if end is None:
        return (), ()
    first = len(lines) - 1 - int(end[1])
    fences = (_fence(line) for line in lines[: max(first - 1, 0)])
    devices = tuple(decoded(line.strip()) for line in lines[first:-1])
    return devices, tuple(fence for fence in fences if fence)


def _fence(line: bytes) -> BufferFence | None:
    found = next(filter(None, (form.fullmatch(line) for form in _FENCES)), None)
    if found is None:
        return None
    use = decoded(found["use"])
    return BufferFence(
        use=_OLD_USES.get(use, use),
        driver=decoded(found["driver"]),
        timeline=decoded(found["timeline"]),
        signaled=found["un"] is None,
    )
