"""What the command inherits: the caller's folder, environment, limits and umask."""

import os
import resource
import shlex
from collections.abc import Mapping, Sequence

from dmabuf.testing.vm.failure import NOT_SET_UP

MOST_FILES = 1 << 20


def inherited() -> dict[str, str]:
    """The caller's settings, as the guest's scripts name them."""
    os.umask(mask := os.umask(0))
    soft, hard = map(_bounded, resource.getrlimit(resource.RLIMIT_NOFILE))
    return {
        "host": os.uname().nodename,
        "mask": f"{mask:03o}",
        "soft_files": str(soft),
        "hard_files": str(hard),
    }


def script(words: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """The shell script that runs ``words`` in this folder with exactly ``environment``."""
    # env sets the variables since a shell drops those with names that it could not have set.
    variables = [f"{name}={value}" for name, value in environment.items()]
    # It would take a program with an equals sign in its name for one more variable.
    shield = ["/usr/bin/nice", "-n0"] if "=" in words[0] else []
    line = shlex.join(["exec", "setsid", "/usr/bin/env", "-i", *variables, *shield, *words])
    return os.fsencode(f"{shlex.join(['cd', os.getcwd()])} || exit {NOT_SET_UP}\n{line}\n")


def _bounded(limit: int) -> int:
    # A new kernel's own upper bound (fs.nr_open), which "unlimited" can't exceed either.
    return MOST_FILES if limit == resource.RLIM_INFINITY else min(limit, MOST_FILES)
