"""Python programs that run in a process of their own, with the tests' helpers at hand."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

TESTS = Path(__file__).parent.parent


def run_program(
    program: str,
    *options: str,
    timeout: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program, indented or not, to its end; `options` are the interpreter's.

    TimeoutExpired if it has none within so many seconds.
    """
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": path, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


@contextlib.contextmanager
def running(program: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program until the block ends; what it prints comes at once."""
    words = [sys.executable, "-u", "-c", program]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
