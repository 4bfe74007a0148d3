"""Which buffers and processes are shown: the filters that several subcommands have."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from errno import ESRCH
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from dmabuf._tracing import how_to_look
from dmabuf.cli.console.failure import Failure, UsageError
from dmabuf.cli.console.output import Output
from dmabuf.cli.console.size import parse_size
from dmabuf.cli.console.values import parse_count, typed

_LONGEST = 64 << 20
"""Bytes of a snapshot: more than a hundred thousand buffers need."""

if TYPE_CHECKING:
    from dmabuf.usage import BufferUsage, Holder, ProcessUsage, Usage


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Declare the filters. Those given must all match; of one given twice, any."""
    add = parser.add_argument_group("only").add_argument
    add(
        "--pid",
        metavar="N",
        type=typed(parse_count),
        action="append",
        help="only what process N holds",
    )
    add(
        "--command",
        dest="program",
        metavar="GLOB",
        action="append",
        help="only what these programs hold",
    )
    add("--user", metavar="NAME", action="append", help="only what this user's processes hold")
    add(
        "--exporter",
        metavar="GLOB",
        action="append",
        help="only buffers of this exporter, such as system",
    )
    add("--name", metavar="GLOB", action="append", help="only buffers with such a name")
    add(
        "--min-size",
        metavar="SIZE",
        type=typed(parse_size),
        help="only buffers of this size or more",
    )
    add("--unheld", action="store_true", help="only buffers that no visible process holds")


def add_source(parser: argparse.ArgumentParser) -> None:
    """Declare where a look may come from."""
    parser.add_argument(
        "--from",
        dest="snapshot",
        metavar="FILE",
        help="show the output of ps --json; - is standard input",
    )


def look(arguments: argparse.Namespace) -> Usage:
    """Return how things are now, or how the file of --from says that they were."""
    if arguments.snapshot is not None:
        _require_sense(arguments)
        return read(arguments.snapshot)
    from dmabuf.usage import scan

    require_possible(arguments)
    return scan()


def require_possible(wants: argparse.Namespace) -> None:
    """Raise UsageError for filters that nothing matches, Failure for a process that is gone."""
    _require_sense(wants)
    for pid in wants.pid or ():
        try:
            os.kill(pid, 0)
        except PermissionError:  # somebody else's
            pass
        except (ProcessLookupError, OverflowError):
            raise Failure(f"there is no process {pid}", ESRCH) from None


def _require_sense(wants: argparse.Namespace) -> None:
    if wants.unheld and (wants.pid or wants.program or wants.user):
        raise UsageError(
            "--unheld is about buffers without a process: it can't be combined with a pid,"
            " a command or a user"
        )


def read(path: str) -> Usage:
    """Return what a file has; Failure if that is no snapshot."""
    from dmabuf.usage import Usage

    try:
        if path == "-":
            if sys.stdin is None:
                raise Failure("standard input is closed")
            text = sys.stdin.buffer.read(_LONGEST + 1)
        else:
            with open(path, "rb") as file:
                text = file.read(_LONGEST + 1)
        if len(text) > _LONGEST:
            raise ValueError(
                f"this is not a snapshot of dmabuf.usage: it has over {_LONGEST} bytes"
            )
        return Usage.from_json(text)
    except ValueError as error:
        raise Failure(f"{path}: {error}; dmabuf-alloc ps --json > FILE writes one") from None


def select(usage: Usage, arguments: argparse.Namespace) -> Usage:
    """Return the buffers that match, with all their holders, and the processes that match.

    What those processes hold is summed up over these buffers alone.
    """
    wants = arguments
    chosen = [process for process in usage.processes if _is_wanted(process, wants)]
    of_processes = wants.pid or wants.program or wants.user
    pids = {process.pid for process in chosen} if of_processes else None
    buffers = tuple(buffer for buffer in usage.buffers if _matches(buffer, wants, pids))
    if buffers == usage.buffers and pids is None:
        return usage
    return usage._replace(buffers=buffers, processes=tuple(_summed(chosen, buffers)))


def _is_wanted(process: ProcessUsage, wants: argparse.Namespace) -> bool:
    return (
        (not wants.pid or process.pid in wants.pid)
        and _fits(process.command, wants.program)
        and (not wants.user or process.user in wants.user)
    )


def _matches(buffer: BufferUsage, wants: argparse.Namespace, pids: set[int] | None) -> bool:
    return (
        _fits(buffer.exporter, wants.exporter)
        and _fits(buffer.name, wants.name)
        and (wants.min_size is None or (buffer.size or 0) >= wants.min_size)
        and not (wants.unheld and buffer.holders)
        and (pids is None or any(holder.pid in pids for holder in buffer.holders))
    )


def _fits(text: str | None, patterns: Sequence[str] | None) -> bool:
    if not patterns:
        return True
    return any(fnmatchcase(text or "", pattern) for pattern in patterns)


def _summed(
    processes: Sequence[ProcessUsage], buffers: Sequence[BufferUsage]
) -> list[ProcessUsage]:
    held: dict[int, list[tuple[BufferUsage, int, Holder]]] = {}
    for buffer in buffers:
        for place, holder in enumerate(buffer.holders):
            held.setdefault(holder.pid, []).append((buffer, place, holder))
    return [
        process._replace(
            buffers=len(mine),
            descriptors=sum(len(holder.descriptors) for _, _, holder in mine),
            pieces=sum(holder.pieces for _, _, holder in mine),
            bytes=sum(buffer.size or 0 for buffer, _, _ in mine),
            share=sum(_share(buffer, place) for buffer, place, _ in mine),
        )
        for process in processes
        if (mine := held.get(process.pid))
    ]


def _share(buffer: BufferUsage, place: int) -> int:
    """Return a holder's part of a buffer, to the byte, as `usage.scan` splits it."""
    share, rest = divmod(buffer.size or 0, len(buffer.holders))
    return share + (place < rest)


def tell_unreadable(usage: Usage, output: Output, *, then: bool) -> None:
    """Say on standard error what could not be seen; `then` is when a snapshot was taken."""
    count = len(usage.unreadable)
    if not count:
        return
    what, whom = ("1 process", "it holds") if count == 1 else (f"{count} processes", "they hold")
    if then:
        output.note(f"{what} could not be read when the snapshot was taken")
    else:
        output.note(f"{what} can't be read; to see what {whom}, {how_to_look()}")
