"""What a process may have: memory, descriptors, permissions; and children that have less."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import re
import resource
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, NoReturn, TypeVar

# What no machine has, and what a careless conversion to the kernel's u64 would make small again.
ABSURD = (1 << 40, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**64 + 4096)
NOBODY = 65534
_SECONDS = 120  # after which a child that hangs is killed
# include/uapi/linux/sched.h and mount.h
_CLONE_NEWNS, _CLONE_NEWPID = 0x20000, 0x20000000
_MS_REC, _MS_PRIVATE = 1 << 14, 1 << 18

_Result = TypeVar("_Result")


class Child(Generic[_Result]):
    """A function that runs in a child of its own, while this process goes on.

    One that hangs is killed.
    """

    def __init__(self, function: Callable[[], _Result], *, user: int | None = None) -> None:
        self._pipe, send = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._pipe)
            end_child(lambda: os.write(send, _outcome(function, user)))
        os.close(send)

    def result(self, status: int | None = None) -> _Result:
        """Wait for it, and return what it returned or raise what it raised.

        `status` is that of its end, if somebody else has waited for it.
        """
        with open(self._pipe, "rb") as pipe:
            outcome = pipe.read()
        if status is None:
            _, status = os.waitpid(self.pid, 0)
        assert status == 0, f"the child ended with {os.waitstatus_to_exitcode(status)}"
        result, error, text = pickle.loads(outcome)
        if error is not None:
            raise error from ChildTraceback(text)
        return result


class ChildTraceback(Exception):
    """Where a child raised what its parent raises again."""


def children(pid: int) -> list[int]:
    """Return the children of a process, also on a kernel without CONFIG_PROC_CHILDREN."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            if parent == pid:
                found.append(int(stat.parent.name))
    return found


@contextlib.contextmanager
def awaited_orphans(pid: int) -> Iterator[None]:
    """Wait, at the end of a block that kills a process, for the end of its children.

    They are nobody's to wait for, and what they hold is given back only then.
    """
    with contextlib.ExitStack() as stack:
        ends = []
        for child in children(pid):
            with contextlib.suppress(ProcessLookupError):  # it has ended
                ends.append(os.pidfd_open(child))
                stack.callback(os.close, ends[-1])
        yield
        for end in ends:
            assert select.select([end], [], [], _SECONDS)[0], f"a child of {pid} doesn't end"


def end_child(function: Callable[[], object]) -> NoReturn:
    """Run a function and end this process, with status 0 unless it raises or hangs."""
    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_SECONDS)
        function()
        status = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


def _outcome(function: Callable[[], object], user: int | None) -> bytes:
    """Return what a function returns, or raises, as `Child.result` reads it."""
    try:
        if user is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        return pickle.dumps((function(), None, None))
    except BaseException as error:
        text = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            error = AssertionError(text)
        return pickle.dumps((None, error, text))


def reset_signals() -> None:
    """Let signals end this process, also where nohup or a shell's `&` has it ignore them.

    What it ignores is inherited: pass this to subprocess as `preexec_fn`.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def in_child(function: Callable[[], _Result], *, user: int | None = None) -> _Result:
    """Return what a function returns, or raise what it raises, in a child of its own."""
    return Child(function, user=user).result()


def without_nodes(folder: str, function: Callable[[], _Result]) -> _Result:
    """Return what a function returns in a child for which a folder of /dev is empty."""

    def hidden() -> _Result:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(_CLONE_NEWNS) == 0
        assert libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None) == 0
        assert libc.mount(b"none", folder.encode(), b"tmpfs", 0, None) == 0
        return function()

    return in_child(hidden)


def in_pid_namespace(function: Callable[[], _Result]) -> _Result:
    """Return what a function returns in a process which is the first of its PID name space."""

    def apart() -> _Result:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.unshare(_CLONE_NEWPID) == 0
        return in_child(function)

    return in_child(apart)


def opened_paths(function: Callable[[], object]) -> list[str]:
    """Return the paths that Python opens while a function runs, in a child, since hooks stay."""

    def watched() -> list[str]:
        paths: list[str] = []

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event == "open":
                paths.append(str(arguments[0]))

        sys.addaudithook(hook)
        try:
            function()
        except (OSError, ValueError):
            pass
        return paths

    return in_child(watched)


def meminfo(field: str) -> int:
    """Return a field of the kernel's own account, in bytes; 0 where it has none."""
    found = re.search(rf"{field}: +(\d+) kB", Path("/proc/meminfo").read_text())
    return int(found[1]) * 1024 if found else 0


def available() -> int:
    """Return how much memory there is for buffers: what is free for CMA is not."""
    return meminfo("MemAvailable") - meminfo("CmaFree")


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Let this process open so many descriptors more, and no others."""
    free = [os.dup(0) for _ in range(count + 1)]
    for number in free:
        os.close(number)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
