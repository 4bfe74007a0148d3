"""Processes, buffers and devices as a graph, in Graphviz's language DOT.

Identifiers are numbers behind a letter. What others have named stands in quotes, where a quote and
a backslash have a backslash before them, `&` is an entity, and nothing is left that a terminal
would obey.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from dmabuf.cli.console.text import printable
from dmabuf.cli.views.buffers import UNKNOWN, in_order, references_text, size_text

if TYPE_CHECKING:
    from dmabuf.usage import BufferUsage, Holder, Usage

PROCESS, BUFFER, DEVICE = "process", "buffer", "device"
_LOOKS = {
    PROCESS: 'shape=box, style="rounded,filled", fillcolor="#dbe9f6"',
    BUFFER: 'shape=cylinder, style=filled, fillcolor="#fdf0c4"',
    DEVICE: 'shape=component, style=filled, fillcolor="#dff0d8"',
}
_UNHELD = 'shape=cylinder, style="filled,dashed", fillcolor="#f8d7d3"'
_START = """digraph dmabuf {
  graph [rankdir=LR, ranksep=1.2, nodesep=0.15, bgcolor=white];
  node [fontname="DejaVu Sans", fontsize=11, margin="0.15,0.06"];
  edge [fontname="DejaVu Sans", fontsize=9, color="#555555", arrowsize=0.7];"""


class Node(NamedTuple):
    """A process, a buffer or a device."""

    id: str
    """p, b or d with a number: the process's, the inode, or a count of the devices."""
    kind: str
    """"process", "buffer" or "device"."""
    lines: tuple[str, ...]
    """What stands in it."""
    is_held: bool = True
    """False for a buffer that no process visible from here holds."""


class Edge(NamedTuple):
    """A process that holds a buffer, or a device that is attached to it."""

    tail: str
    """The node of the process, or of the buffer."""
    head: str
    """The node of the buffer, or of the device."""
    label: str
    """How many descriptors and mappings; "map" without a descriptor; empty for a device."""


class Graph(NamedTuple):
    """What is drawn."""

    nodes: tuple[Node, ...]
    """The largest buffers, and who uses them."""
    edges: tuple[Edge, ...]
    """Who uses what."""
    left_out: int
    """How many buffers have no room."""


def graph(usage: Usage, most: int, *, exact: bool = False) -> Graph:
    """Return the graph of the largest buffers that have room in so many nodes."""
    users = {process.pid: process.user for process in usage.processes}
    names = dict.fromkeys(name for buffer in usage.buffers for name in buffer.devices)
    devices = {name: Node(f"d{at}", DEVICE, (name,)) for at, name in enumerate(names)}
    nodes: dict[str, Node] = {}
    edges: dict[tuple[str, str], Edge] = {}
    left_out = 0
    for buffer in in_order(usage.buffers):
        node = _buffer_node(buffer, exact=exact)
        attached = [devices[name] for name in buffer.devices]
        holders = [_process_node(holder, users.get(holder.pid)) for holder in buffer.holders]
        fresh = {one.id: one for one in (*holders, node, *attached) if one.id not in nodes}
        if len(nodes) + len(fresh) > most:
            left_out += 1
            continue
        nodes |= fresh
        for holder, who in zip(buffer.holders, holders, strict=True):
            edges[who.id, node.id] = Edge(who.id, node.id, references_text(holder))
        for device in attached:
            edges[node.id, device.id] = Edge(node.id, device.id, "")
    return Graph(tuple(nodes.values()), tuple(edges.values()), left_out)


def _buffer_node(buffer: BufferUsage, *, exact: bool) -> Node:
    exporter = UNKNOWN if buffer.exporter is None else buffer.exporter
    about = f"{buffer.inode}: {size_text(buffer.size, exact=exact)} {exporter}"
    lines = (buffer.name, about) if buffer.name else (about,)
    return Node(f"b{buffer.inode}", BUFFER, lines, bool(buffer.holders))


def _process_node(holder: Holder, user: str | None) -> Node:
    about = str(holder.pid) if user is None else f"{holder.pid} ({user})"
    return Node(f"p{holder.pid}", PROCESS, (holder.command, about))


def dot(graph: Graph) -> Iterator[str]:
    """Give a graph's lines in DOT."""
    yield from _START.splitlines()
    for node in graph.nodes:
        looks = _LOOKS[node.kind] if node.is_held else _UNHELD
        yield f"  {node.id} [label={_quoted(node.lines)}, {looks}];"
    for kind in (PROCESS, DEVICE):
        ids = [node.id for node in graph.nodes if node.kind == kind]
        if ids:
            yield f"  {{ rank=same; {'; '.join(ids)} }}"
    for edge in graph.edges:
        dashed = ", style=dashed" if edge.label == "map" else ""
        looks = f"label={_quoted([edge.label])}{dashed}" if edge.label else "dir=none"
        yield f"  {edge.tail} -> {edge.head} [{looks}];"
    yield "}"


def _quoted(lines: Iterable[str]) -> str:
    return '"' + "\\n".join(map(_escaped, lines)) + '"'


def _escaped(text: str) -> str:
    shown = printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return shown.replace("&", "&amp;")
