"""What children forked from a test ask the kernel, seen from outside: ioctl and close.

As `strace -f -e trace=ioctl,close` shows them, with what strace doesn't decode: the flags of
DMA_BUF_IOCTL_SYNC. The child is forked from the test, so it costs no start of an interpreter.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

from helpers.fences import CLOSE, IOCTL
from helpers.process import Child

DMA_BUF_IOCTL_SYNC = 0x40086200

# include/uapi/linux/ptrace.h
_SYSCALL = 24
_SEIZE = 0x4206
_INTERRUPT = 0x4207
_GETREGSET, _SETREGSET = 0x4204, 0x4205
_GET_SYSCALL_INFO = 0x420E
_OPTIONS = 1 | 2 | 4 | 8 | 1 << 20  # TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, EXITKILL
_ENTRY, _EXIT = 1, 2
_SYSCALL_STOP = signal.SIGTRAP | 0x80

# Where a system call's number and its result stand: a set of registers (include/uapi/linux/elf.h),
# the place there and the size.
_PRSTATUS, _ARM_SYSTEM_CALL = 1, 0x404
if platform.machine() == "aarch64":
    _NUMBER, _RESULT = (_ARM_SYSTEM_CALL, 0, "i"), (_PRSTATUS, 0, "q")
elif sys.maxsize > 1 << 32:
    _NUMBER, _RESULT = (_PRSTATUS, 120, "q"), (_PRSTATUS, 80, "q")
else:
    _NUMBER, _RESULT = (_PRSTATUS, 44, "i"), (_PRSTATUS, 24, "i")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_info = ctypes.create_string_buffer(88)  # struct ptrace_syscall_info

_MARK = 0x4D41524B
_WALL = 0x40000000  # wait for threads too


class Call(NamedTuple):
    """One system call: `what` is "START", "END" or "close", or an ioctl's request number in hex.

    `flags` are the SYNC flags as the kernel gets them, `error` is 0 or a positive errno (512, the
    kernel's ERESTARTSYS, for a call that a signal interrupts).
    """

    descriptor: int
    what: str
    flags: int
    error: int


def with_failing(request: int, error: int, body: Callable[[], object]) -> None:
    """Run `body` in a forked child where an ioctl fails with an errno.

    The kernel does not do it: as with `strace --inject`, but for one request.
    """
    sequences(body, {request: error})


def sequences(
    body: Callable[[], object], failing: Mapping[int, int] | None = None
) -> list[list[Call]]:
    """Run `body` in a forked child; return its calls between its `mark()`s.

    Ioctls whose requests are `failing` fail with those errnos.
    """
    ready, go = os.pipe()

    def wait_and_run() -> None:
        os.close(go)
        os.read(ready, 1)
        os.close(ready)
        mark()
        body()
        mark()

    child = Child(wait_and_run)
    try:
        os.close(ready)
        _ptrace(_SEIZE, child.pid, 0, _OPTIONS)
        _ptrace(_INTERRUPT, child.pid, 0, 0)
    finally:
        os.close(go)
    seen, status = _follow(child.pid, failing or {})
    child.result(status)
    marks = [i for i, call in enumerate(seen) if call.what == hex(_MARK)]
    return [seen[begin + 1 : end] for begin, end in itertools.pairwise(marks)]


def calls(body: Callable[[], object]) -> list[Call]:
    """Run `body` in a forked child; return its calls, in their order."""
    return [call for sequence in sequences(body) for call in sequence]


def mark() -> None:
    """End a sequence: an ioctl that nobody has, on a descriptor that nobody has."""
    _libc.ioctl(-1, ctypes.c_ulong(_MARK), None)


def syncs(body: Callable[[], object]) -> list[tuple[int, int]]:
    """Run `body` in a forked child and return each SYNC: descriptor and flags.

    Fails if one of them fails: all of them reach a dma-buf.
    """
    seen = [call for call in calls(body) if call.what in ("START", "END")]
    assert all(call.error in (0, 512) for call in seen), seen
    return [(call.descriptor, call.flags) for call in seen]


def _follow(child: int, failing: Mapping[int, int]) -> tuple[list[Call], int]:
    seen: list[Call] = []
    entered: dict[int, tuple[int, str, int]] = {}
    alive = {child}
    result = 0
    while alive:
        thread, status = os.waitpid(-1, _WALL)
        if not os.WIFSTOPPED(status):
            alive.discard(thread)
            if thread == child:
                result = status
            continue
        alive.add(thread)
        stop = os.WSTOPSIG(status)
        deliver = 0
        if stop == _SYSCALL_STOP:
            _record(thread, entered, seen, failing)
        elif not status >> 16:
            deliver = stop
        with contextlib.suppress(ProcessLookupError):  # killed meanwhile
            _ptrace(_SYSCALL, thread, 0, deliver)
    return seen, result


def _record(
    thread: int,
    entered: dict[int, tuple[int, str, int]],
    seen: list[Call],
    failing: Mapping[int, int],
) -> None:
    _ptrace(_GET_SYSCALL_INFO, thread, len(_info), ctypes.addressof(_info))
    operation = _info[0][0]
    if operation == _ENTRY:
        number, first, second, third = struct.unpack_from("QQQQ", _info, 24)
        descriptor = ctypes.c_int(first).value
        if number == CLOSE:
            entered[thread] = (descriptor, "close", 0)
        elif number == IOCTL:
            request = second & 0xFFFFFFFF
            flags = _flags(thread, third) if request == DMA_BUF_IOCTL_SYNC else 0
            what = ("START", "END")[flags >> 2 & 1] if flags else hex(request)
            entered[thread] = (descriptor, what, flags)
            if request in failing:
                _set_register(thread, *_NUMBER, -1)  # no system call
    elif operation == _EXIT and thread in entered:
        returned, failed = struct.unpack_from("q?", _info, 24)
        for request, error in failing.items():
            if entered[thread][1] == hex(request):
                _set_register(thread, *_RESULT, -error)
                returned, failed = -error, True
        seen.append(Call(*entered.pop(thread), -returned if failed else 0))


def _flags(thread: int, address: int) -> int:
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        return struct.unpack("Q", memory.read(8))[0]


def _set_register(thread: int, kind: int, place: int, form: str, value: int) -> None:
    registers = ctypes.create_string_buffer(1024)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(registers), len(registers))  # struct iovec
    _ptrace(_GETREGSET, thread, kind, ctypes.addressof(vector))
    struct.pack_into(form, registers, place, value)
    _ptrace(_SETREGSET, thread, kind, ctypes.addressof(vector))


def _ptrace(request: int, thread: int, address: int, data: int) -> None:
    if _libc.ptrace(request, thread, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace request {request:#x}: {os.strerror(number)}")
