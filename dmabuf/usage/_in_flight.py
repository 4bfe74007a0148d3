"""Descriptors that are in nobody's table: sent over a socket, and not yet received."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dmabuf import _processes

_SOCKET = "socket:["
# unix_show_fdinfo in net/unix/af_unix.c
_WAITING = re.compile(rb"^scm_fds: (\d+)$", re.MULTILINE)


def in_flight(pids: Iterable[int]) -> dict[int, int]:
    """Return how many descriptors wait in the sockets of each process; a shared socket's once.

    Of what they are descriptors nothing tells.
    """
    seen: set[str] = set()
    found: dict[int, int] = {}
    for pid in pids:
        try:
            with _processes.folder(pid) as process:
                for number, link, _ in _processes.links(process):
                    if link.startswith(_SOCKET) and link not in seen:
                        seen.add(link)
                        count = _waiting(process, number)
                        if count:
                            found[pid] = found.get(pid, 0) + count
        except (*_processes.ENDED, PermissionError):
            continue
    return found


def _waiting(process: int, number: str) -> int:
    try:
        found = _WAITING.search(_processes.fdinfo(process, number))
    except _processes.ENDED:
        return 0
    return int(found[1]) if found else 0
