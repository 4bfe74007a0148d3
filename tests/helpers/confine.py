"""What containers and hardened machines take from a process: the sight of others, and kcmp(2)."""

from __future__ import annotations

import ctypes
import struct

from dmabuf import _libc

# include/uapi/linux/sched.h and mount.h
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 1 << 14, 1 << 18
# include/uapi/linux/prctl.h, seccomp.h and bpf_common.h
_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_EPERM = 1


def mount_proc(options: str = "") -> None:
    """Give this process a /proc of its own, which nobody else sees."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(_CLONE_NEWNS) == 0
    assert libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None) == 0
    assert libc.mount(b"proc", b"/proc", b"proc", 0, options.encode() or None) == 0


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
    steps = (
        (_LOAD, 0, 0, 0),  # the number of the system call
        (_JUMP_IF_EQUAL, 0, 1, _libc._KCMP),
        (_RETURN, 0, 0, _ERROR | _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(_SET_SECCOMP, _FILTER, program, 0, 0) == 0
