"""Descriptors that are in nobody's table: sent over a socket, and not yet received."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from dmabuf import _processes

_SOCKET = "socket:["
# unix_show_fdinfo in net/unix/af_unix.c
_WAITING = re.compile(rb"^scm_fds: (\d+)$", re.MULTILINE)


class Waiting(NamedTuple):
    """How many descriptors of any kind wait in the sockets of a process."""

    pid: int
    command: str
    descriptors: int


def in_flight(pids: Iterable[int]) -> list[Waiting]:
    """Return the processes in whose sockets descriptors wait; one of them for a shared socket.

    Of what they are descriptors nothing tells.
    """
    seen: set[str] = set()
    found = []
    for pid in pids:
        with contextlib.suppress(*_processes.ENDED, PermissionError):
            found += _processes.with_folder(pid, partial(_look, pid, seen))
    return found


def _look(pid: int, seen: set[str], process: int) -> list[Waiting]:
    waiting = 0
    for number, link in _processes.links(process):
        if link.startswith(_SOCKET) and link not in seen:
            seen.add(link)
            with contextlib.suppress(*_processes.ENDED):
                found = _WAITING.search(_processes.fdinfo(process, number))
                waiting += int(found[1]) if found else 0
    return [Waiting(pid, _processes.identity(process).command, waiting)] if waiting else []
