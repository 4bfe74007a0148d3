"""`dmabuf-alloc ps`: who holds which buffer."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from dmabuf.cli.console.failure import UsageError
from dmabuf.cli.console.output import Output
from dmabuf.cli.console.text import Page
from dmabuf.cli.views import buffers, processes
from dmabuf.cli.views.selection import add_filters, add_source, look, select, tell_unreadable

if TYPE_CHECKING:
    from dmabuf.usage import Usage

SUMMARY = "List the buffers of this machine and the processes that hold them."
EXAMPLES = (
    ("ps", "all buffers and their holders, the largest first"),
    ("ps -p", "how much does each process hold?"),
    ("ps --tree", "which processes share which buffers?"),
    ("ps --unheld", "which buffers have no visible process?"),
    ("ps --exporter system --sort name", "some of them, in another order"),
    ("ps --json", "to keep in a file, for diff, graph --from and ps --from"),
)
_EPILOG = """\
SHARE is a process's share: the size of each buffer is divided among the processes that hold it.
HELD BY is process:pid(descriptors+mappings). REFS is the kernel's count of references; ? is the
number of those that are neither a visible descriptor nor a visible mapping: they are in a socket,
in a device, or in a process that this user can't see.
With --json the filters choose what the document contains; buffers keep all their holders.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare its arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    view = parser.add_mutually_exclusive_group()
    view.add_argument(
        "-p", "--processes", action="store_true", help="list processes instead of buffers"
    )
    view.add_argument(
        "--tree", action="store_true", help="show each process with the buffers that it shares"
    )
    add("--ascii", action="store_true", help="draw the tree without line characters")
    of_buffers, of_processes = ", ".join(buffers.SORTS), ", ".join(processes.SORTS)
    add("--sort", metavar="KEY", help=f"{of_buffers}; with -p and --tree {of_processes}")
    add("-r", "--reverse", action="store_true", help="reverse the order")
    add("--bytes", action="store_true", help="show sizes in bytes")
    add("-w", "--wide", action="store_true", help="do not cut lines on a terminal")
    add_source(parser)
    add_filters(parser)


def run(arguments: argparse.Namespace, output: Output) -> None:
    """Look and list; nothing is an answer too."""
    of_processes = arguments.processes or arguments.tree
    sort = checked_sort(arguments.sort, processes.SORTS if of_processes else buffers.SORTS)
    usage = look(arguments)
    chosen = select(usage, arguments)
    if arguments.json:
        output.finished_document(chosen.to_json())
    else:
        page = Page(wide=arguments.wide)
        if chosen.buffers:
            _list(chosen, arguments, sort, page, output)
        else:
            output.line(page.cut(_nothing(usage, arguments)))
    output.flush()
    tell_unreadable(usage, output, then=arguments.snapshot is not None)


def checked_sort(sort: str | None, keys: tuple[str, ...]) -> str:
    """Return a key to sort by, the first if none is given; UsageError for another."""
    if sort is None:
        return keys[0]
    if sort not in keys:
        raise UsageError(f"{sort!r} is not a sort key here; choose {', '.join(keys)}")
    return sort


def _list(
    usage: Usage, arguments: argparse.Namespace, sort: str, page: Page, output: Output
) -> None:
    exact, backwards = arguments.bytes, arguments.reverse
    if arguments.tree:
        from dmabuf.cli.views.tree import Tree

        roots = processes.in_order(usage.processes, sort, backwards=backwards)
        tree = Tree(page, exact=exact, ascii_only=arguments.ascii)
        for line in tree.lines(roots, buffers.in_order(usage.buffers)):
            output.line(line)
    elif arguments.processes:
        rows = processes.in_order(usage.processes, sort, backwards=backwards)
        for line in processes.process_lines(rows, page, exact=exact):
            output.line(line)
        if text := processes.unheld(usage, exact=exact):
            output.line(page.cut(f" {text}"))
    else:
        ordered = buffers.in_order(usage.buffers, sort, backwards=backwards)
        for line in buffers.buffer_lines(ordered, page, exact=exact, debugfs=usage.debugfs):
            output.line(line)
        output.line(page.cut(f" {buffers.totals(usage, exact=exact)}"))


def _nothing(usage: Usage, arguments: argparse.Namespace) -> str:
    from dmabuf.cli.checks.kernel import has_dma_bufs

    if usage.buffers:
        return "No buffer matches."
    if arguments.snapshot is None and has_dma_bufs() is False:
        return "This kernel has no dma-bufs: it was built without CONFIG_DMA_SHARED_BUFFER."
    return "No visible process holds a buffer."
