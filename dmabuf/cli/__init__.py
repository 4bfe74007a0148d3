"""`dmabuf-alloc`, the diagnostic command: which dma-bufs work on this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from errno import errorcode
from importlib import import_module

from dmabuf.cli.console.failure import FAILED, INTERRUPTED, Failure, one_line
from dmabuf.cli.console.output import Output, OutputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 1 failed, 2 wrong usage, 130 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    output = Output(json="--json" in words)
    try:
        status = _answer(words, output)
        output.flush()
    except OutputError as error:
        output.abandon()
        if not error.reader_gone:
            output.error(str(error))
        return FAILED
    return status


def _answer(words: Sequence[str], output: Output) -> int:
    try:
        _run(words, output)
        output.flush()
    except SystemExit:
        pass  # argparse, after --help or --version
    except KeyboardInterrupt:
        output.error("interrupted", "EINTR")
        return INTERRUPTED
    except Failure as failure:
        output.error(str(failure), failure.errno, **failure.document)
        return failure.status
    except OSError as error:
        output.error(one_line(error), errorcode.get(error.errno or 0))
        return FAILED
    return 0


def _run(words: Sequence[str], output: Output) -> None:
    from dmabuf.cli.arguments import COMMANDS, parse, with_command

    words = with_command(words)
    if words[0] in COMMANDS:
        output.command = words[0]
    arguments = parse(words)
    import_module(f"dmabuf.cli.commands.{arguments.command}").run(arguments, output)
