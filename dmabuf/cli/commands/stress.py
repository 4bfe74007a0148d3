"""`dmabuf-alloc stress`: use buffers at random, and prove that nothing is lost."""

from __future__ import annotations

import argparse
import os
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from dmabuf import _memory
from dmabuf.cli.checks import accounts
from dmabuf.cli.checks.exporters import allocator, is_contiguous
from dmabuf.cli.console.failure import Failure, UsageError
from dmabuf.cli.console.hold import is_stop_asked, stop_signals_blocked
from dmabuf.cli.console.output import Output, to_the_right
from dmabuf.cli.console.progress import progress
from dmabuf.cli.console.size import exact, parse_size
from dmabuf.cli.console.values import parse_count, parse_heap, parse_number, parse_seconds, typed
from dmabuf.cli.views.buffers import plural

if TYPE_CHECKING:
    from dmabuf.cli.checks.workers import Outcome, Plan

SUMMARY = "Allocate, share, map, fork and free at random, and check that nothing is lost."
EXAMPLES = (
    ("stress", "ten seconds; exit status 1 if anything is lost"),
    ("stress --rounds 500 --seed 7", "the same steps each time"),
    ("stress --seconds 3600 --processes 8", "an hour; Ctrl-C ends it with its report"),
)
_EPILOG = """\
Each process sends buffers to another one (SCM_RIGHTS), which verifies and changes them. At the end
the descriptors of each process and all buffers are counted: as root in the kernel's own list
(bufinfo in debugfs), otherwise by the references that fdinfo shows when each is freed.
"""
_SECONDS = 10.0
_TICK = 0.1


def add(parser: argparse.ArgumentParser) -> None:
    """Declare its arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--seconds", metavar="S", type=typed(parse_seconds), help=f"the duration ({_SECONDS:g})"
    )
    length.add_argument(
        "--rounds",
        metavar="N",
        type=typed(parse_count),
        help="the steps of each process, instead of a duration",
    )
    add(
        "--seed",
        metavar="N",
        type=typed(parse_number),
        help="the seed of all steps; default: random",
    )
    add(
        "--processes",
        metavar="N",
        type=typed(_processes),
        default=2,
        help="the number of processes, 1 to 64 (2)",
    )
    add(
        "--memory",
        metavar="SIZE",
        type=typed(parse_size),
        default=64 << 20,
        help="the most memory allocated at a time (64M)",
    )
    add(
        "--heap",
        metavar="HEAP",
        type=typed(parse_heap),
        help="a heap's name or path, or udmabuf; default: the best",
    )


def _processes(text: str) -> int:
    count = parse_count(text)
    if count > 64:
        raise ValueError(f"{count} processes are too many; write a number from 1 to 64")
    return count


def run(arguments: argparse.Namespace, output: Output) -> None:
    """Start the processes, wait for them, report; Failure if anything was lost or went wrong."""
    import secrets

    from dmabuf.cli.checks.workers import Plan

    share = arguments.memory // arguments.processes // _memory.PAGE * _memory.PAGE
    if not share:
        raise UsageError("--memory is less than a page for each process; write more, such as 64M")
    contiguous = is_contiguous(arguments.heap)
    _memory.require(arguments.memory, exact(arguments.memory), cma=contiguous)
    if arguments.seconds is None and arguments.rounds is None:
        arguments.seconds = _SECONDS
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    before = accounts.descriptors()
    prefix = f"stress-{os.getpid()}-"
    can_list = accounts.can_list()
    with allocator(arguments.heap) as allocate:
        allocate(_memory.PAGE).close()  # says at once what is wrong with the exporter
        plan = Plan(allocate, seed, share, prefix, arguments.rounds, arguments.seconds)
        began = time.monotonic()
        outcome = _carried_out(plan, arguments.processes)
        seconds = time.monotonic() - began
    outcome.lost += accounts.lost_descriptors(before)
    if can_list:
        known = {lost.number for lost in outcome.lost if lost.kind == "buffer"}
        listed = accounts.lost_buffers(prefix)
        outcome.lost += [lost for lost in listed if lost.number not in known]
    else:
        output.note(f"{accounts.BUFINFO} can't be read; run as root to count the kernel's own list")
    _report(outcome, seed, arguments, seconds, can_list, output)


def _carried_out(plan: Plan, count: int) -> Outcome:
    from dmabuf.cli.checks.workers import Workers

    asked = 0
    with stop_signals_blocked(), closing(Workers(plan, count)) as workers:
        whole = round((plan.seconds or 0) / _TICK) if plan.rounds is None else plan.rounds * count
        with progress("stress", whole) as advance:
            shown, began = 0, time.monotonic()
            while (steps := workers.listen(_TICK)) is not None:
                if plan.rounds is None:
                    steps = min(int((time.monotonic() - began) / _TICK), whole) - shown
                    shown += steps
                advance(steps)
                if is_stop_asked():
                    asked += 1
                    # Once more: one of them hangs.
                    workers.stop() if asked == 1 else workers.kill()
        return workers.outcome()


def _report(
    outcome: Outcome,
    seed: int,
    arguments: argparse.Namespace,
    seconds: float,
    can_list: bool,
    output: Output,
) -> None:
    processes = arguments.processes
    document: dict[str, Any] = {
        "seed": seed,
        "processes": processes,
        "seconds": round(seconds, 3),
        "steps": outcome.steps,
        "allocated": outcome.allocated,
        "released": outcome.released,
        "lost": [lost._asdict() for lost in outcome.lost],
        "counted": "bufinfo" if can_list else "fdinfo",
    }
    rows = [("step", "times"), *((name, str(n)) for name, n in sorted(outcome.steps.items()))]
    columns, *cells = to_the_right(rows, 1)
    workers = plural(processes, "process", "processes")
    output.table(f"Seed {seed}, {workers}, {seconds:.1f} s", columns, cells)
    output.line(
        f"allocated {outcome.allocated}, released {outcome.released}, lost {len(outcome.lost)}"
    )
    for lost in outcome.lost:
        output.line(f"lost: {lost}")
    for error in outcome.errors:
        output.line(f"failed: {error}")
    again = f"--seed {seed} --processes {processes}"
    if outcome.errors:
        raise Failure(f"{outcome.errors[0]}; {again} repeats it", document=document)
    if outcome.lost:
        more = f" and {len(outcome.lost) - 1} more" if len(outcome.lost) > 1 else ""
        raise Failure(f"lost {outcome.lost[0]}{more}; {again} repeats it", document=document)
    output.document(**document)
