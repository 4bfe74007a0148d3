"""What /proc says of descriptors.

Everything is read as bytes: a buffer's name is whatever its owner chose. fdinfo is split at
newlines alone, and the first line of a key counts: a name may hold what looks like further lines.
"""

from __future__ import annotations

import os
import re

_FIELD = re.compile(rb"^(\w+):\t(.*)$", re.MULTILINE)


def fdinfo(number: int) -> dict[str, str]:
    """Return the fields of one of this process's own descriptors: size, count, exp_name, name."""
    with open(f"/proc/self/fdinfo/{number}", "rb") as file:
        pairs = _FIELD.findall(file.read())
    return {os.fsdecode(key): os.fsdecode(value) for key, value in reversed(pairs)}


def open_file(number: int) -> str:
    """Return what one of this process's own descriptors has open, for messages."""
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return "something else"
