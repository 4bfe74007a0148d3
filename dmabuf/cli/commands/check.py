"""`dmabuf-alloc check`: which exporters and ioctls work here, how fast, and how to fix the rest."""

from __future__ import annotations

import argparse
import mmap
import os
import sys

from dmabuf import __version__, _memory
from dmabuf._kernel import Configuration, configuration
from dmabuf.cli.checks import ioctls
from dmabuf.cli.checks.exporters import candidates, exporters
from dmabuf.cli.checks.kernel import advise
from dmabuf.cli.checks.permission import User, ask, find_user, group_name
from dmabuf.cli.checks.probe import MEASURED, Result, probe
from dmabuf.cli.console.failure import Failure, UsageError
from dmabuf.cli.console.output import Output
from dmabuf.cli.console.progress import progress
from dmabuf.cli.console.size import duration, exact, rough

_NO_EXPORTER = (
    "no exporter works here; dmabuf-vm -- COMMAND runs a command under a kernel that has some"
)

_NO_NODE = "no exporter has a node here, for any user; dmabuf-alloc check says why"

SUMMARY = "Try each exporter and each ioctl of this machine, and show how to fix those that fail."
EXAMPLES = (
    ("", "what works here? exit status 1 if no exporter does"),
    ("check --user camera", "why can't this user allocate?"),
)


def add(parser: argparse.ArgumentParser) -> None:
    """Declare its arguments."""
    parser.add_argument(
        "--user",
        metavar="USER",
        help="report which exporters this user (name or number) may open, and how to fix it",
    )


def run(arguments: argparse.Namespace, output: Output) -> None:
    """Try everything and report, or judge a user; Failure if no exporter works, or is open."""
    if arguments.user is not None:
        try:
            user = find_user(arguments.user)
        except ValueError as error:
            raise UsageError(str(error)) from None
        _judge(user, output)
    else:
        _try(output)


def _judge(user: User, output: Output) -> None:
    answers = [ask(exporter, user) for exporter in exporters()]
    groups = ", ".join(sorted(map(group_name, user.groups))) or "none"
    output.line(f"user {user.name} ({user.uid}), groups: {groups}")
    output.line("")
    rows = [
        (
            answer.exporter.name,
            answer.exporter.path,
            answer.exporter.permissions or "-",
            _yes(answer.allowed),
        )
        for answer in answers
    ]
    if rows:
        output.table("Exporters", ("exporter", "node", "permissions", "may open"), rows)
    for answer in answers:
        output.line(f"{answer.exporter.name}: {answer.reason}")
        if answer.remedy is not None:
            output.line(f"  what to do: {answer.remedy}")
    document: dict[str, object] = {
        "user": {"name": user.name, "uid": user.uid, "groups": sorted(user.groups)},
        "exporters": [answer.document() for answer in answers],
    }
    if not answers:
        raise Failure(_NO_NODE, document=document)
    if not any(answer.allowed for answer in answers):
        raise Failure(f"{user.name} may open no exporter here", document=document)
    output.document(**document)


def _try(output: Output) -> None:
    found = candidates()
    results = []
    with progress("trying exporters", len(found)) as advance:
        for exporter in found:
            results.append(probe(exporter))
            advance(1)
    working = [result.exporter for result in results if result.works]
    trials = ioctls.trials([*working, *found])
    built = configuration()
    memory = _meminfo()
    advice = [advise(result.error) for result in results]
    _print_machine(built, memory, output)
    _print_results(results, output)
    rows = [(trial.name, _yes(trial.works), trial.error or "") for trial in trials]
    output.table("Ioctls", ("ioctl", "works", "why not"), rows)
    for result, (error, remedy) in zip(results, advice, strict=True):
        if error is not None:
            output.line(f"{result.exporter.name}: {error}")
            output.line(f"  what to do: {remedy}")
    document: dict[str, object] = {
        "machine": _machine(built, memory),
        "exporters": [
            result.document() | given._asdict()
            for result, given in zip(results, advice, strict=True)
        ],
        "ioctls": [trial._asdict() for trial in trials],
    }
    if not working:
        if all(exporter.permissions is None for exporter in found):
            raise Failure(_NO_EXPORTER, document=document)
        raise Failure("no exporter works here", document=document)
    output.line(f"works: {', '.join(exporter.name for exporter in working)}")
    output.document(**document)


def _machine(built: Configuration | None, memory: dict[str, int]) -> dict[str, object]:
    fields = {
        "total": "MemTotal",
        "available": "MemAvailable",
        "cma_total": "CmaTotal",
        "cma_free": "CmaFree",
    }
    return {
        "dmabuf": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "kernel": os.uname().release,
        "architecture": os.uname().machine,
        "page_size": mmap.PAGESIZE,
        "configuration": built and built._asdict(),
        "memory": {name: memory.get(field) for name, field in fields.items()},
    }


def _print_machine(built: Configuration | None, memory: dict[str, int], output: Output) -> None:
    system = os.uname()
    output.line(f"dmabuf {__version__}, Linux {system.release}, {system.machine}")
    if built is not None:
        for option, value in built.options.items():
            output.line(f"{built.path}: {option}={value}")
    output.line(_about(memory))
    output.line("")


def _meminfo() -> dict[str, int]:
    """Return /proc/meminfo, empty where it can't be read: the report goes on without it."""
    try:
        return _memory.meminfo()
    except OSError:
        return {}


def _about(memory: dict[str, int]) -> str:
    """Return what memory there is, in a line."""
    if not memory:
        return "memory unknown: /proc/meminfo can't be read"
    total, available, contiguous, free = (
        rough(memory[field]) if field in memory else "unknown"
        for field in ("MemTotal", "MemAvailable", "CmaTotal", "CmaFree")
    )
    if not memory.get("CmaTotal"):
        return f"memory {total}, {available} available; no CMA"
    return f"memory {total}, {available} available; CMA {contiguous}, {free} free"


def _print_results(results: list[Result], output: Output) -> None:
    nodes = []
    trials = []
    for result in results:
        exporter = result.exporter
        permissions = exporter.permissions or "no node"
        nodes.append((exporter.name, exporter.path, permissions, exporter.notes()))
        steps = (result.allocates, result.maps, result.keeps_data)
        speed = ("-", "-", "-")
        if result.speed is not None:
            speed = (
                duration(result.speed.allocate_seconds),
                f"{rough(result.speed.write_bytes_per_second)}/s",
                f"{rough(result.speed.read_bytes_per_second)}/s",
            )
        trials.append((exporter.name, *map(_yes, steps), *speed))
    output.table("Exporters", ("exporter", "node", "permissions", "notes"), nodes)
    columns = ("exporter", "allocates", "maps", "keeps data", f"{exact(MEASURED)} in")
    output.table("Trials", (*columns, "CPU writes", "CPU reads"), trials)


def _yes(works: bool | None) -> str:
    return "-" if works is None else "yes" if works else "no"
