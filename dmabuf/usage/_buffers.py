"""What is told of each buffer, put together from what was seen in processes and in debugfs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from dmabuf._holders import Holder
from dmabuf._processes import Key
from dmabuf.usage import _notes
from dmabuf.usage._debugfs import Listed
from dmabuf.usage._notes import Reasons
from dmabuf.usage._references import References
from dmabuf.usage._search import Found, Sight
from dmabuf.usage.records import BufferUsage


class Told(NamedTuple):
    """What each source tells of one buffer; `None` for a source that does not know it."""

    inode: int
    sight: Sight | None
    listed: Listed | None
    holders: tuple[Holder, ...]
    seen: int  # references
    sharing: tuple[int, ...]
    references: int | None
    """The kernel's count of references, by the source that was asked last."""
    unexplained: int | None
    """How many references were not seen."""


def told(
    sights: Mapping[Key, Sight],
    listed: Mapping[int, Listed],
    found: list[Found],
    references: References,
    *,
    hidden: bool,
) -> Iterator[Told]:
    """Give what is told of each buffer, by inode; with `hidden` also of those nobody holds."""
    holders = _holders(found)
    devices = {key[0] for key, sight in sights.items() if sight.is_dma_buf}
    inodes = set()
    for key in sorted(holders, key=lambda key: key[1]):
        sight, inode = sights[key], key[1]
        # There is one file system of dma-bufs, so what has another device is a file of that name.
        if sight.is_dma_buf or not devices or key[0] in devices:
            inodes.add(inode)
            more = listed.get(inode)
            seen = references.counts[key]
            count = more.references if more else sight.about.references if sight.about else None
            yield Told(
                inode=inode,
                sight=sight,
                listed=more,
                holders=tuple(holders[key]),
                seen=seen,
                sharing=references.sharing.get(key, ()),
                references=count,
                unexplained=None if count is None else max(count - seen, 0),
            )
    for inode in sorted(listed.keys() - inodes) if hidden else ():
        count = listed[inode].references
        yield Told(inode, None, listed[inode], (), 0, (), count, count)


def _holders(found: list[Found]) -> dict[Key, list[Holder]]:
    holders: dict[Key, list[Holder]] = {}
    for process in found:
        pid, started, command = process.pid, process.who.started, process.who.command
        numbers: dict[Key, list[int]] = {}
        for _, held in process.tables:
            for key, more in held.items():
                numbers[key] = sorted(numbers[key] + more) if key in numbers else more
        for key in numbers | process.mapped:
            mapped = process.mapped.get(key)
            size, pieces = (mapped.bytes, mapped.pieces) if mapped else (0, 0)
            holder = Holder(pid, started, command, tuple(numbers.get(key, ())), size, pieces)
            holders.setdefault(key, []).append(holder)
    return holders


def usage_of(buffer: Told, reasons: Reasons) -> BufferUsage:
    """Return the record of a buffer."""
    sight, listed = buffer.sight, buffer.listed
    about = sight.about if sight else None
    name = sight.name or None if sight else None
    if about:
        name = about.name
    elif listed and not (sight and sight.is_dma_buf):
        name = listed.name
    return BufferUsage(
        inode=buffer.inode,
        size=listed.size if listed else about.size if about else sight.size if sight else None,
        name=name,
        exporter=listed.exporter if listed else about.exporter if about else None,
        count=buffer.references,
        holders=buffer.holders,
        devices=listed.devices if listed else (),
        fences=listed.fences if listed else (),
        unexplained=buffer.unexplained,
        notes=tuple(_notes_of(buffer, reasons)),
    )


def _notes_of(buffer: Told, reasons: Reasons) -> Iterator[str]:
    sight, listed, count = buffer.sight, buffer.listed, buffer.references
    about = sight.about if sight else None
    if listed and about and about.references != listed.references:
        yield _notes.moved(about.references, listed.references)
    if sight and not listed and sight.is_dma_buf is None:
        yield _notes.BY_NAME
        if "\\" in sight.name:
            yield _notes.ESCAPED
    if not buffer.holders:
        yield _notes.UNSEEN
    if buffer.sharing:
        yield _notes.shared(buffer.sharing)
    if count is not None and buffer.seen > count:
        tell = _notes.too_many if reasons.compares else _notes.not_comparable
        yield tell(buffer.seen, count)
    if unexplained := buffer.unexplained:
        fences = listed.fences if listed else ()
        yield reasons.of(
            unexplained,
            attached=bool(listed and listed.devices),
            fenced=any(not fence.signaled for fence in fences),
        )
