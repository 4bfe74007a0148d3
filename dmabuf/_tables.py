"""Whose tables of descriptors, and whose memories, are one and the same.

The threads of a process share both, but a thread may have made a table of its own
(`unshare(CLONE_FILES)`), and processes may share either (`clone(CLONE_FILES)`, vfork). The kernel
tells by kcmp(2), which gives an order too, so that many tasks are sorted and not compared in pairs.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence

from dmabuf import _libc
from dmabuf._processes import DESCRIPTORS

FILES, MEMORY = _libc.KCMP_FILES, _libc.KCMP_VM


def tables(pid: int, tasks: Sequence[int]) -> list[tuple[int, str]]:
    """Return the tables of descriptors of a process: a task that has it, and its path.

    `tasks` are its threads, if it has more than one and they can be compared.
    """
    found = [(pid, DESCRIPTORS)]
    if tasks:
        groups = group([pid, *(task for task in tasks if task != pid)], FILES)
        found += [(tasks[0], f"task/{tasks[0]}/fd") for tasks in groups if pid not in tasks]
    return found


def can_compare() -> bool:
    """Whether kcmp(2) is allowed here, and /proc has the same numbers as this process."""
    try:
        return os.readlink("/proc/self") == str(os.getpid()) and not _libc.kcmp(
            os.getpid(), os.getpid(), FILES
        )
    except OSError:
        return False


def group(tasks: Iterable[int], kind: int) -> list[list[int]]:
    """Sort tasks by what they share: a list for each table (FILES) or memory (MEMORY).

    Those that have ended are left out; one that may not be asked is alone.
    """
    ordered: list[list[int]] = []
    alone: list[list[int]] = []
    for task in tasks:
        try:
            _insert(ordered, task, kind)
        except OSError as error:
            if error.errno != errno.ESRCH:
                alone.append([task])
    return ordered + alone


def _insert(ordered: list[list[int]], task: int, kind: int) -> None:
    """Put a task into its place by bisection; OSError if it can't be compared."""
    _libc.kcmp(task, task, kind)
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        try:
            order = _libc.kcmp(task, ordered[middle][0], kind)
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise
            _libc.kcmp(task, task, kind)  # or is it this one that has ended?
            del ordered[middle][0]
            if not ordered[middle]:
                del ordered[middle]
                high -= 1
            continue
        if order == 0:
            ordered[middle].append(task)
            return
        if order == 1:
            high = middle
        else:
            low = middle + 1
    ordered.insert(low, [task])
