"""What to know of a buffer before drawing a conclusion: sentences."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import cached_property

from dmabuf.usage._in_flight import Waiting

_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO in include/linux/proc_ns.h

UNSEEN = "no process that is visible from here holds it"
BY_NAME = "only its name says that it is a dma-buf: only root may check what is mapped"
ESCAPED = "its name is known only from maps, where \\012 is a newline or those four characters"


def moved(before: int, after: int) -> str:
    """Say that the kernel's count was not the same all the time."""
    return f"its references changed during the scan: {before} at first, {after} later"


def too_many(seen: int, count: int) -> str:
    """Say that more was seen than can have been there at once."""
    return (
        f"its references changed during the scan: {seen} were seen and the kernel counted {count}"
    )


def not_comparable(seen: int, count: int) -> str:
    """Say that more was seen than the kernel counts, where what is shared can't be told."""
    return (
        f"{seen} references were seen and the kernel counted {count}: processes may share some of "
        "them; kcmp(2), which would tell, is not allowed here"
    )


def shared(pids: tuple[int, ...]) -> str:
    """Say that several processes have one reference."""
    numbers = ", ".join(map(str, pids))
    return f"processes {numbers} share descriptors or mappings of it, which count once"


class Reasons:
    """What references may be that no descriptor and no mapping explains."""

    def __init__(
        self,
        *,
        look_for_waiting: Callable[[], Iterable[Waiting]],
        unreadable: int,
        some: bool,
        compares: bool,
    ) -> None:
        self.compares = compares
        """Whether what processes share can be told."""
        self.in_flight = 0
        """How many descriptors wait in sockets; they are looked for when a reason is needed."""
        self._look_for_waiting = look_for_waiting
        self._unreadable = unreadable
        self._some = some
        self._made: dict[tuple[int, bool, bool], str] = {}

    def of(self, references: int, *, attached: bool, fenced: bool) -> str:
        """Say what so many references to a buffer may be."""
        case = (references, attached, fenced)
        if case not in self._made:
            own = ["its devices (one import may be several)"] if attached else []
            own += ["polls that wait for its fences"] if fenced else []
            reasons = "; ".join(own + self._general)
            start = "1 reference is" if references == 1 else f"{references} references are"
            text = (
                f"{start} neither a descriptor nor a mapping that was seen, and may be: {reasons}"
            )
            self._made[case] = text
        return self._made[case]

    @cached_property
    def _general(self) -> list[str]:
        """What may be so for each buffer."""
        general = []
        if waiting := list(self._look_for_waiting()):
            self.in_flight = sum(one.descriptors for one in waiting)
            where = (f"{_printable(one.command)}:{one.pid} {one.descriptors}" for one in waiting)
            general.append(
                f"descriptors on their way over a socket ({', '.join(where)} of any kind)"
            )
        if self._unreadable:
            several = "1 process" if self._unreadable == 1 else f"{self._unreadable} processes"
            general.append(f"{several} that can't be read")
        if self._some:
            general.append("processes that were not asked for")
        if not self.compares:
            general.append("threads with descriptors of their own")
        if not os.path.exists("/proc/1"):
            general.append("processes that /proc hides from this user (hidepid)")
        if not _sees_every_process():
            general.append("processes of other PID namespaces")
        general.append("handles of a DRM device, io_uring or a system call under way")
        return general


def _printable(command: str) -> str:
    """Return a program's name without what would do something to a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in command)


def _sees_every_process() -> bool:
    try:
        return os.stat("/proc/self/ns/pid").st_ino == _FIRST_PID_NAMESPACE
    except OSError:
        return False
