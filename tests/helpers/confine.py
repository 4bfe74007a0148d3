"""What containers and hardened machines take from a process: the sight of others, system calls."""

from __future__ import annotations

import ctypes
import struct

from dmabuf import _libc
from helpers.fences import IOCTL

# include/uapi/linux/sched.h and mount.h
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 1 << 14, 1 << 18
# include/uapi/linux/prctl.h, seccomp.h and bpf_common.h
_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NUMBER, _SECOND_ARGUMENT = 0, 24  # in struct seccomp_data, of a little-endian machine
_EPERM = 1


def mount_proc(options: str = "") -> None:
    """Give this process a /proc of its own, which nobody else sees."""
    _mount("proc", "/proc", options)


def mount_large(place: str) -> None:
    """Give this process a file system whose blocks 32 bits can't count, which nobody else sees."""
    _mount("tmpfs", place, "size=32T")


def _mount(kind: str, place: str, options: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(_CLONE_NEWNS) == 0
    assert libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None) == 0
    name, data = kind.encode(), options.encode() or None
    assert libc.mount(name, place.encode(), name, 0, data) == 0


def drop_capability_to_trace() -> None:
    """Take CAP_SYS_PTRACE from this process, which root may do without."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    capabilities = bytearray(24)
    assert libc.capget(header, (ctypes.c_char * 24).from_buffer(capabilities)) == 0
    words = list(struct.unpack("6I", capabilities))
    words[0] &= ~(1 << 19)
    words[1] &= ~(1 << 19)
    assert libc.capset(header, struct.pack("6I", *words)) == 0


def forbid_kcmp() -> None:
    """Have the kernel refuse kcmp(2) to this process from now on, as container runtimes do."""
    _filter(
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_IF_EQUAL, 0, 1, _libc._KCMP),
        (_RETURN, 0, 0, _ERROR | _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    )


def refuse_ioctl(request: int, error: int) -> None:
    """Have the kernel refuse an ioctl to this thread from now on, with an errno."""
    _filter(
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_IF_EQUAL, 0, 3, IOCTL),
        (_LOAD, 0, 0, _SECOND_ARGUMENT),
        (_JUMP_IF_EQUAL, 0, 1, request),
        (_RETURN, 0, 0, _ERROR | error),
        (_RETURN, 0, 0, _ALLOW),
    )


def _filter(*steps: tuple[int, int, int, int]) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(_SET_SECCOMP, _FILTER, program, 0, 0) == 0
