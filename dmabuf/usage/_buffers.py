"""What is told of each buffer, put together from what was seen in processes and in debugfs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import NamedTuple

from dmabuf._holders import Holder
from dmabuf._processes import Key
from dmabuf.usage import _notes
from dmabuf.usage._debugfs import Listed
from dmabuf.usage._notes import Reasons
from dmabuf.usage._references import References
from dmabuf.usage._search import Found, Search, Sight
from dmabuf.usage.records import BufferUsage


class _Told(NamedTuple):
    """What each source tells of one buffer; `None` for a source that does not know it."""

    inode: int
    sight: Sight | None
    listed: Listed | None
    holders: tuple[Holder, ...]
    seen: int  # references
    sharing: tuple[int, ...]


def usages(
    search: Search,
    listed: Mapping[int, Listed],
    references: References,
    reasons: Reasons,
    *,
    hidden: bool,
) -> Iterator[BufferUsage]:
    """Give the record of each buffer, by inode; with `hidden` also of those nobody holds."""
    holders = _holders(search.found)
    devices = {key[0] for key, sight in search.buffers.items() if sight.is_dma_buf}
    inodes = set()
    for key in sorted(holders, key=itemgetter(1)):
        sight, inode = search.buffers[key], key[1]
        # There is one file system of dma-bufs, so what has another device is a file of that name.
        if sight.is_dma_buf or not devices or key[0] in devices:
            inodes.add(inode)
            seen, sharing = references.counts[key], references.sharing.get(key, ())
            yield _usage(
                _Told(inode, sight, listed.get(inode), tuple(holders[key]), seen, sharing), reasons
            )
    for inode in sorted(listed.keys() - inodes) if hidden else ():
        yield _usage(_Told(inode, None, listed[inode], (), 0, ()), reasons)


def _holders(found: list[Found]) -> dict[Key, list[Holder]]:
    holders: dict[Key, list[Holder]] = {}
    for process in found:
        pid, started, command = process.pid, process.who.started, process.who.command
        numbers, *threads = [held for _, held in process.tables] or [{}]
        for more in threads:
            both = ((key, (*numbers.get(key, ()), *more[key])) for key in more)
            numbers = numbers | {key: tuple(sorted(of_both)) for key, of_both in both}
        mapped = process.mapped
        for key in numbers | mapped:
            size, pieces = (mapped[key].bytes, mapped[key].pieces) if key in mapped else (0, 0)
            holder = Holder(pid, started, command, numbers.get(key, ()), size, pieces)
            if key in holders:
                holders[key].append(holder)
            else:
                holders[key] = [holder]
    return holders


def _usage(buffer: _Told, reasons: Reasons) -> BufferUsage:
    sight, listed = buffer.sight, buffer.listed
    about = sight.about if sight else None
    name = sight.name or None if sight else None
    if about:
        name = about.name
    elif listed and not (sight and sight.is_dma_buf):
        name = listed.name
    source = listed or about
    count = source.references if source else None
    unexplained = None if count is None else max(count - buffer.seen, 0)
    return BufferUsage(
        inode=buffer.inode,
        size=source.size if source else sight.size if sight else None,
        name=name,
        exporter=source.exporter if source else None,
        count=count,
        holders=buffer.holders,
        devices=listed.devices if listed else (),
        fences=listed.fences if listed else (),
        unexplained=unexplained,
        notes=tuple(_notes_of(buffer, count, unexplained, reasons)),
    )


def _notes_of(
    buffer: _Told, count: int | None, unexplained: int | None, reasons: Reasons
) -> Iterator[str]:
    sight, listed = buffer.sight, buffer.listed
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
    if unexplained:
        fences = listed.fences if listed else ()
        yield reasons.of(
            unexplained,
            attached=bool(listed and listed.devices),
            fenced=any(not fence.signaled for fence in fences),
        )
