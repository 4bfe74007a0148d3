"""`dmabuf-alloc list`: the exporters of this machine, by their nodes, or all its devices."""

from __future__ import annotations

import argparse

from dmabuf.cli.checks.exporters import exporters
from dmabuf.cli.console.output import Output


def run(arguments: argparse.Namespace, output: Output) -> None:
    """List them; none is an answer too."""
    if arguments.devices:
        from dmabuf.cli.commands import devices

        devices.run(output)
        return
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
        output.line("No exporter here; dmabuf-alloc without arguments says why.")
    output.document(exporters=[exporter.document() for exporter in found])
