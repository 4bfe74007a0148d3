"""What is told of each buffer, put together from what was seen in processes and in debugfs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from dmabuf._processes import Key
from dmabuf.usage import _notes
from dmabuf.usage._debugfs import Listed
from dmabuf.usage._notes import Reasons
from dmabuf.usage._packed import Common, Held, Told
from dmabuf.usage._references import References
from dmabuf.usage._search import Found, Search, Sight


class Sources(NamedTuple):
    """What each source tells of one buffer; `None` for a source that does not know it."""

    sight: Sight | None
    listed: Listed | None
    seen: int  # references
    sharing: tuple[int, ...]


def told(
    search: Search,
    listed: Mapping[int, Listed],
    references: References,
    reasons: Reasons,
    *,
    hidden: bool,
) -> Iterator[Told]:
    """Give what is told of each buffer, by inode; with `hidden` also of those nobody holds."""
    holders = _holders(search.found)
    devices = {key[0] for key, sight in search.buffers.items() if sight.is_dma_buf}
    counts, all_sharing = references
    plain: dict[tuple[str, int], Common] = {}
    inodes = set()
    for key in sorted(holders, key=itemgetter(1)):
        sight, inode = search.buffers[key], key[1]
        # There is one file system of dma-bufs, so what has another device is a file of that name.
        if not (sight.is_dma_buf or not devices or key[0] in devices):
            continue
        inodes.add(inode)
        about, seen, sharing = sight.about, counts[key], all_sharing.get(key, ())
        if about and seen == about.references and not sharing and inode not in listed:
            # As most are, in short: fdinfo tells all, and what it counts was seen.
            kind = (about.exporter, seen)
            common = plain.get(kind)
            if common is None:
                common = plain[kind] = Common(*kind, (), (), 0, ())
            yield Told(inode, about.size, about.name, common, holders[key])
        else:
            sources = Sources(sight, listed.get(inode), seen, sharing)
            yield _told(inode, sources, holders[key], reasons)
    for inode in sorted(listed.keys() - inodes) if hidden else ():
        yield _told(inode, Sources(None, listed[inode], 0, ()), [], reasons)


def _holders(found: list[Found]) -> dict[Key, list[Held]]:
    holders: dict[Key, list[Held]] = {}
    for process in found:
        who = (process.pid, process.who.started, process.who.command)
        numbers, *threads = [held for _, held in process.tables] or [{}]
        for more in threads:
            both = ((key, numbers.get(key, []) + more[key]) for key in more)
            numbers = numbers | {key: sorted(of_both, key=int) for key, of_both in both}
        mapped = process.mapped
        for key in numbers | mapped if mapped else numbers:
            sums = (mapped[key].bytes, mapped[key].pieces) if key in mapped else (0, 0)
            held = (who, numbers.get(key, ()), sums)
            if key in holders:
                holders[key].append(held)
            else:
                holders[key] = [held]
    return holders


def _told(inode: int, sources: Sources, holders: Sequence[Held], reasons: Reasons) -> Told:
    sight, listed = sources.sight, sources.listed
    about = sight.about if sight else None
    name = sight.name or None if sight else None
    if about:
        name = about.name
    elif listed and not (sight and sight.is_dma_buf):
        name = listed.name
    source = listed or about
    count = listed.references if listed else None
    if count is None and about:
        count = about.references
    unexplained = None if count is None else max(count - sources.seen, 0)
    common = Common(
        exporter=source.exporter if source else None,
        count=count,
        devices=listed.devices if listed else (),
        fences=listed.fences if listed else (),
        unexplained=unexplained,
        notes=tuple(_notes_of(sources, count, unexplained, reasons)),
    )
    size = source.size if source else sight.size if sight else None
    return Told(inode, size, name, common, holders)


def _notes_of(
    sources: Sources, count: int | None, unexplained: int | None, reasons: Reasons
) -> Iterator[str]:
    sight, listed, seen = sources.sight, sources.listed, sources.seen
    about = sight.about if sight else None
    before, later = about and about.references, listed and listed.references
    if before is not None and later is not None and before != later:
        yield _notes.moved(before, later)
    if sight and not listed and sight.is_dma_buf is None:
        yield _notes.BY_NAME
        if "\\" in sight.name:
            yield _notes.ESCAPED
    if sight is None:
        yield _notes.UNSEEN
    if sources.sharing:
        yield _notes.shared(sources.sharing)
    if count is not None and seen > count:
        tell = _notes.too_many if reasons.compares else _notes.not_comparable
        yield tell(seen, count)
    if unexplained:
        fences = listed.fences if listed else ()
        yield reasons.of(
            unexplained,
            attached=bool(listed and listed.devices),
            fenced=any(not fence.signaled for fence in fences),
        )
