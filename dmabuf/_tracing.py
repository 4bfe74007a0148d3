"""What this process lacks to look into another one: ptrace(2), "Ptrace access mode checking"."""

from __future__ import annotations

import os

from dmabuf._procfs import read

_CAP_SYS_PTRACE = 19
_SCOPE = "/proc/sys/kernel/yama/ptrace_scope"


def how_to_look() -> str:
    """Return what to do where this process may not read another one's part of /proc."""
    if _is_capable():
        return (
            "look into dmesg: this process has CAP_SYS_PTRACE, so a security module (SELinux,"
            " AppArmor) refused, or it runs in a user namespace of its own (a container)"
        )
    if os.geteuid():
        return "run this as root"
    return "give this process CAP_SYS_PTRACE (a container: --cap-add SYS_PTRACE)"


def how_to_take() -> str:
    """Return what to do where this process may not take another one's descriptors."""
    scope = _scope()
    if _is_capable() and scope == 3:
        return f"boot with {_SCOPE} below 3, which allows it to nobody until then"
    if os.geteuid() and not _is_capable():
        and_scope = f", with 0 in {_SCOPE}" if scope else ""
        return f"run this as root, or as the user of that process{and_scope}"
    return how_to_look()


def _is_capable() -> bool:
    for line in read("/proc/self/status").splitlines():
        if line.startswith(b"CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_PTRACE & 1)
    return False


def _scope() -> int:
    try:
        return int(read(_SCOPE))
    except OSError:
        return 0  # a kernel without Yama
