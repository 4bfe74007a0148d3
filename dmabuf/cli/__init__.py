"""`dmabuf-alloc`, the diagnostic command: which dma-bufs work on this machine."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from errno import errorcode

from dmabuf.cli.console.failure import FAILED, INTERRUPTED, Answered, Asked, Failure, one_line
from dmabuf.cli.console.output import Output, OutputError, abandon


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 1 failed, 2 wrong usage, 130 interrupted.

    Without `arguments` it is the process's own command, whose end is near: a Ctrl-C that comes
    after the answer ends the process without a word.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if arguments is None:
        sys.unraisablehook = _unraisable
    try:
        return _flushed(words, Output(json="--json" in words))
    except KeyboardInterrupt:  # one more, while the first was answered
        return INTERRUPTED
    finally:
        if arguments is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _unraisable(report: sys.UnraisableHookArgs) -> None:
    """End the process by a Ctrl-C that comes in a finalizer, whose exceptions Python drops.

    Those of the import system are among them: a command that goes on for ever would do so.
    """
    if report.exc_type is KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    sys.__unraisablehook__(report)


def _flushed(words: Sequence[str], output: Output) -> int:
    try:
        status = _answer(words, output)
        output.flush()
    except OutputError as error:
        abandon(sys.stdout)
        if not error.reader_gone:
            output.error(str(error))
        return FAILED
    return status


def _answer(words: Sequence[str], output: Output) -> int:
    try:
        _run(words, output)
        output.flush()
    except Asked as asked:
        output.told(str(asked), asked.document)
    except Answered as answered:
        return answered.status
    except KeyboardInterrupt:
        output.error("interrupted", "EINTR")
        return INTERRUPTED
    except Failure as failure:
        output.error(str(failure), failure.errno, **failure.document)
        return failure.status
    except MemoryError:
        output.error("this process has no memory left; see ulimit -v", "ENOMEM")
        return FAILED
    except OSError as error:
        output.error(one_line(error), errorcode.get(error.errno or 0))
        return FAILED
    return 0


def _run(words: Sequence[str], output: Output) -> None:
    from dmabuf.cli import commands
    from dmabuf.cli.arguments import parse, split

    name, rest = split(words)
    output.command = name
    command = commands.load(name)
    arguments = parse(name, command, rest)
    if not arguments.debug:
        command.run(arguments, output)
        return
    from dmabuf import _log

    _log.enable()
    try:
        command.run(arguments, output)
    finally:
        _log.disable()
