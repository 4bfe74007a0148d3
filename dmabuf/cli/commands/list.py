"""`dmabuf-alloc list`: the exporters of this machine, by their nodes, or all its devices."""

from __future__ import annotations

import argparse

from dmabuf.cli.checks.exporters import exporters
from dmabuf.cli.console.output import Output

SUMMARY = "List the heaps and udmabuf without opening them, or list all devices."
EXAMPLES = (
    ("list", "the exporters, and who may use them"),
    ("list --devices", "which heap is contiguous, and which device may need it?"),
    ("list --devices --json", "the same for a program"),
)


def add(parser: argparse.ArgumentParser) -> None:
    """Declare its arguments."""
    parser.add_argument(
        "--devices",
        action="store_true",
        help="open heaps, udmabuf, DRM and V4L2 devices, and list what each can do",
    )


def run(arguments: argparse.Namespace, output: Output) -> None:
    """List them; none is an answer too."""
    if arguments.devices:
        _list_devices(output)
    else:
        _list_exporters(output)


def _list_exporters(output: Output) -> None:
    found = exporters()
    rows = [
        (
            exporter.name,
            exporter.path,
            exporter.permissions or "-",
            "yes" if exporter.usable else "no",
            exporter.notes(),
        )
        for exporter in found
    ]
    if rows:
        columns = ("exporter", "node", "permissions", "usable", "notes")
        output.table("Exporters", columns, rows)
    else:
        output.line("No exporter here; run dmabuf-alloc check to see why.")
    output.document(exporters=[exporter.document() for exporter in found])


def _list_devices(output: Output) -> None:
    from dmabuf.cli.checks import devices
    from dmabuf.devices import find

    found = find()
    if found:
        columns = ("kind", "node", "name", "can")
        output.table("Devices", columns, [devices.row(device) for device in found])
        nodes = [node for device in found for node in devices.nodes(device)]
        output.table("Nodes", ("node", "permissions", "usable"), nodes)
    else:
        output.line("No device here.")
    for line in devices.contiguous(found):
        output.line(line)
    for refusal in devices.refusals(found):
        output.line(refusal)
    output.document(devices=[devices.document(device) for device in found])
