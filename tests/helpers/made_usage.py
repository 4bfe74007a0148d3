"""Looks at a machine that never was: plain data, for what only shows or compares it."""

from __future__ import annotations

import json
from pathlib import Path

from dmabuf.usage import BufferFence, BufferUsage, Holder, ProcessUsage, Usage

MIB = 1 << 20
HOSTILE = (
    "\x1b[31mred\x1b]0;title\x07",
    'a"];evil[label=<b>x</b>',
    "back\\slash\\",
    "&lt;b&gt; </text><script>",
    "two\nlines\r",
    "\u202egnol\u2066",
    "\udcff\x9b2J",
    "宽宽宽宽宽宽宽宽宽宽",
)
"""Names that a terminal, DOT or SVG may take for something else."""


def holder(
    pid: int, command: str, descriptors: tuple[int, ...] = (), pieces: int = 0, mapped: int = 0
) -> Holder:
    return Holder(pid, pid * 10, command, descriptors, mapped, pieces)


def buffer(inode: int, size: int | None, *holders: Holder, **more: object) -> BufferUsage:
    told: dict[str, object] = {"name": None, "exporter": "system", "count": 1, "unexplained": 0}
    told |= {"devices": (), "fences": (), "notes": (), **more}
    return BufferUsage(inode=inode, size=size, holders=holders, **told)


def process(pid: int, command: str, user: str, *sums: int) -> ProcessUsage:
    return ProcessUsage(pid, pid * 10, command, user, *sums)


def usage(
    buffers: tuple[BufferUsage, ...],
    processes: tuple[ProcessUsage, ...],
    unreadable: tuple[int, ...] = (),
    boot: str = "one",
    debugfs: bool = True,
) -> Usage:
    return Usage(buffers, processes, unreadable, (), 0, 1_700_000_000.0, boot, debugfs)


CAMERA_RING_1 = holder(801, "camerad", (6, 10, 15, 16, 17), 2, 31 * MIB)
CAMERA_RING_2 = holder(801, "camerad", (5, 9, 12, 13, 14), 2, 31 * MIB)
PYTHON = holder(1204, "python3", (), 1, 4 * MIB)
RING = 33_135_002
SHARED = usage(
    buffers=(
        buffer(355, MIB, name="preview", count=3, unexplained=3, devices=("vgem",)),
        buffer(
            377,
            4 * MIB,
            holder(1204, "python3", (), 1, 4 * MIB),
            name="scratch",
            exporter="udmabuf",
        ),
        buffer(
            411,
            RING,
            CAMERA_RING_1,
            name="ring-1",
            count=7,
            devices=("vgem",),
            fences=(BufferFence("write", "vgem", "queue", signaled=False),),
        ),
        buffer(412, RING, holder(655, "weston", (31,)), CAMERA_RING_2, name="ring-2", count=8),
    ),
    processes=(
        process(655, "weston", "wl", 1, 1, 0, RING, RING // 2),
        process(801, "camerad", "video", 2, 10, 4, 2 * RING, RING + RING // 2),
        process(1204, "python3", "root", 1, 0, 1, 4 * MIB, 4 * MIB),
    ),
    unreadable=(7, 8, 9),
)
"""A camera and a compositor that share; a buffer that a mapping keeps, one that nobody holds."""

NOTHING_KNOWN = usage(
    buffers=(
        buffer(9, None, holder(5, "x", (), 1, 4096), exporter=None, count=None, unexplained=None),
    ),
    processes=(process(5, "x", "u", 1, 0, 1, 0, 0),),
    debugfs=False,
)

HOSTILE_NAMES = usage(
    buffers=tuple(
        buffer(
            100 + at,
            MIB,
            holder(10 + at, name[:15], (3,)),
            name=name,
            exporter=name,
            devices=(name,),
            fences=(BufferFence("read", name, name, signaled=True),),
        )
        for at, name in enumerate(HOSTILE)
    ),
    processes=tuple(
        process(10 + at, name[:15], name, 1, 1, 0, MIB, MIB) for at, name in enumerate(HOSTILE)
    ),
)


def write(made: Usage, path: Path) -> str:
    """Write a look where `--from` finds it."""
    path.write_text(made.to_json())
    return str(path)


def changed(made: Usage, **fields: object) -> Usage:
    """Return a look with other fields, as it is read from its document."""
    return Usage.from_json(json.dumps(json.loads(made._replace(**fields).to_json())))
