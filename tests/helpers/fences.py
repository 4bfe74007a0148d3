"""Pending fences from each source that this machine has, and proof that a call waits for one."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from dmabuf.testing import SwSyncSource, VgemSource

# System call numbers: x86's own, by the width of Python's words, else those of
# include/uapi/asm-generic/unistd.h.
if platform.machine() != "x86_64":
    CLONE, CLOSE, EPOLL, EXIT, IOCTL, POLL = 220, 57, 22, 93, 29, 73
elif sys.maxsize > 1 << 32:
    CLONE, CLOSE, EPOLL, EXIT, IOCTL, POLL = 56, 3, 232, 60, 16, 7
else:
    CLONE, CLOSE, EPOLL, EXIT, IOCTL, POLL = 120, 6, 256, 1, 54, 168


Source = VgemSource | SwSyncSource
SOURCES = [
    pytest.param(VgemSource, marks=pytest.mark.needs("vgem", "export"), id="vgem"),
    pytest.param(SwSyncSource, marks=pytest.mark.needs("sw_sync"), id="sw_sync"),
]
"""What the fixture `source` is parametrized with."""


class Stop(BaseException):
    """What a signal handler raises to get out of a wait."""


class NeverSleptError(AssertionError):
    """A call did not wait."""


def asleep_in(thread: int, system_call: int, *, process: int | str = "self") -> bool:
    """Whether a thread, by its native id, sleeps in a system call."""
    with open(f"/proc/{process}/task/{thread}/syscall") as file:
        return file.read().split()[0] == str(system_call)


@contextlib.contextmanager
def once_asleep(system_call: int, act: Callable[[], object]) -> Iterator[None]:
    """Have another thread act once this one sleeps in a system call, in the block.

    It acts again and again until it returns None. What it raises is raised at the end. That it
    runs at all shows that this thread has let go of the GIL.
    """
    sleeper, over = threading.get_native_id(), threading.Event()
    errors: list[BaseException] = []

    def watch() -> None:
        slept = False
        try:
            while not over.is_set():
                os.sched_yield()
                if asleep_in(sleeper, system_call):
                    slept = True
                    if act() is None:
                        return
            if not slept:
                errors.append(NeverSleptError())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if errors:
        raise errors[0]


@contextlib.contextmanager
def handled(handler: Callable[[], object], number: int = signal.SIGUSR1) -> Iterator[None]:
    """Have a signal handled in the block."""
    before = signal.signal(number, lambda *_: handler())
    try:
        yield
    finally:
        signal.signal(number, before)


def interrupt(number: int = signal.SIGUSR1) -> None:
    """Send the main thread a signal."""
    signal.pthread_kill(threading.main_thread().ident, number)


def stop() -> None:
    """Raise `Stop`: the handler of a signal that gets out."""
    raise Stop


def sleeps(call: Callable[[], object], system_call: int = IOCTL) -> bool:
    """Whether a call sleeps in a system call; a signal whose handler raises gets it out again."""
    with handled(stop):
        try:
            with once_asleep(system_call, interrupt):
                call()
        except Stop:
            return True
        except NeverSleptError:
            return False
    raise AssertionError("it was interrupted, and went on all the same")


@contextlib.contextmanager
def many_descriptors(count: int) -> Iterator[None]:
    """Let this process open so many descriptors in the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, count)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def is_open(number: int) -> bool:
    """Whether a descriptor is open."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def join_threads() -> None:
    """Wait for all other threads: before Linux 5.16 they close what was busy."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()
