"""`dmabuf-alloc graph`: processes, buffers and devices as a picture."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess

from dmabuf._whole_file import whole_file
from dmabuf.cli.console.failure import Failure, UsageError
from dmabuf.cli.console.output import Output
from dmabuf.cli.console.values import parse_count, typed
from dmabuf.cli.views.selection import add_filters, add_source, look, select, tell_unreadable

SUMMARY = "Draw processes, buffers and devices as a graph."
EXAMPLES = (
    ("graph -o shared.svg", "a picture, made by Graphviz"),
    ("graph", "in DOT, for another program"),
    ("graph --from before.json --min-size 1M -o before.png", "of an earlier snapshot"),
    ("graph --tree", "in the terminal"),
)
_EPILOG = """\
Without -o the graph is printed in DOT, the language of Graphviz. The ending of FILE chooses the
format: .dot, or with Graphviz .svg or .png. The label of an arrow is descriptors+mappings of a
process; the arrow is dashed if it has only mappings. A buffer without a visible holder is red.
"""
_PICTURES = (".svg", ".png")
_DOT = ".dot"


def add(parser: argparse.ArgumentParser) -> None:
    """Declare its arguments."""
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("-o", "--output", metavar="FILE", type=typed(_file), help="write FILE.dot, .svg or .png")
    add("--tree", action="store_true", help="print a tree instead, as ps --tree")
    add(
        "--max-nodes",
        metavar="N",
        type=typed(parse_count),
        default=200,
        help="draw the largest buffers that fit into N nodes (200)",
    )
    add("--bytes", action="store_true", help="show sizes in bytes")
    add_source(parser)
    add_filters(parser)


def _file(text: str) -> str:
    if os.path.splitext(text)[1].lower() not in (_DOT, *_PICTURES):
        raise ValueError(f"{text!r} is not a supported picture; write FILE.dot, .svg or .png")
    return text


def run(arguments: argparse.Namespace, output: Output) -> None:
    """Draw; a graph of nothing is a graph."""
    if arguments.tree and arguments.output:
        raise UsageError("--tree prints to the terminal: it can't be combined with -o")
    usage = select(look(arguments), arguments)
    from dmabuf._record import plain
    from dmabuf.cli.views.graph import dot, graph

    drawn = graph(usage, arguments.max_nodes, exact=arguments.bytes)
    lines = list(dot(drawn))
    if arguments.output:
        _save("\n".join(lines) + "\n", arguments.output)
    elif arguments.tree:
        from dmabuf.cli.console.text import Page
        from dmabuf.cli.views import buffers, processes
        from dmabuf.cli.views.tree import Tree

        tree = Tree(Page(), exact=arguments.bytes, ascii_only=False)
        roots = processes.in_order(usage.processes)
        lines = list(tree.lines(roots, buffers.in_order(usage.buffers)))
    if not arguments.output:
        for line in lines:
            output.line(line)
    output.document(**plain(drawn), file=arguments.output)
    output.flush()
    if drawn.left_out and not arguments.tree:
        output.note(f"{drawn.left_out} smaller buffers are left out; --max-nodes draws more")
    tell_unreadable(usage, output, then=arguments.snapshot is not None)


def _save(text: str, path: str) -> None:
    """Write the file that its name's end asks for."""
    kind = os.path.splitext(path)[1].lower()
    data = text.encode() if kind == _DOT else _drawn(text, kind.removeprefix("."))
    with whole_file(path) as file:
        file.write(data)


def _drawn(text: str, kind: str) -> bytes:
    """Return the picture that Graphviz makes of a graph."""
    program = shutil.which("dot")
    if program is None:
        raise Failure(
            f"a .{kind} needs Graphviz: apt install graphviz, or write a .dot, which needs nothing"
        )
    answer = subprocess.run([program, f"-T{kind}"], input=text.encode(), capture_output=True)
    if answer.returncode:
        reason = answer.stderr.decode(errors="replace").strip().splitlines() or ["no reason"]
        raise Failure(f"Graphviz made no .{kind}: {reason[0]}")
    return answer.stdout
