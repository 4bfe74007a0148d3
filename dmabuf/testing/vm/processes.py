"""The machine's own programs, run so that they end with us."""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

from dmabuf.testing.vm.failure import Failure

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """As ``preexec_fn``: the kernel kills the child when we go, be it by SIGKILL."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def open_standard_streams() -> None:
    """Open what the caller has closed: its number would go to a file that a child then misses."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def path() -> str:
    """The folders of programs, with those of root's that an ordinary user's PATH lacks."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def run(name: str, *words: str, folder: Path | None = None) -> str:
    """Run a program of the machine and return its output; a failure shows what it said."""
    settings = {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive", "PATH": path()}
    try:
        done = subprocess.run(
            [name, *words],
            cwd=folder,
            env=os.environ | settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            preexec_fn=die_with_parent,
        )
    except FileNotFoundError:
        raise Failure(f"{name} is not installed on this machine") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).replace("\n", "\n    ")
        raise Failure(f"{name} {words[0]} failed:\n    {said}")
    return done.stdout


def program() -> str:
    """Return the name under which the user has started this program."""
    name = Path(sys.argv[0]).name
    return "dmabuf-vm" if name == "__main__.py" else name


def say(message: str) -> None:
    """Tell the user about a step that takes long."""
    print(f"{program()}: {message}", file=sys.stderr, flush=True)
