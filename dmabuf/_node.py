"""Device nodes: opened or refused with what mends it, and known by what sysfs says of them."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import re
import stat
from functools import lru_cache
from typing import NamedTuple

from dmabuf import _kernel, _procfs
from dmabuf._keep import keep
from dmabuf.errors import UnsupportedError, os_error

_DEVNAME = re.compile(rb"^DEVNAME=(.+)$", re.MULTILINE)


class Kind(NamedTuple):
    """What tells a kind of device node, and how to get one."""

    what: str
    """Its name in messages."""
    subsystem: str
    """Its class in sysfs."""
    group: str
    """The group that distributions give it to."""
    since: str
    """The kernel version that has it first; nothing if all have it."""
    options: tuple[str, ...]
    """The kernel's options that have it."""
    module: str
    """The module that it is in; nothing if each device has its own."""

    @property
    def needs(self) -> str:
        """The version and options that have it."""
        options = " and ".join(self.options)
        return f"{self.since} with {options}" if self.since else options

    def how_to_get(self, path: str | None = None) -> str:
        """Return what to do where the kernel lacks it; `path` is the node that it would make."""
        return _kernel.how_to_get(self.options, self.module, path)


def open_node(path: str, flags: int, kind: Kind, made: list[int]) -> None:
    """Open a node of this kind, and add its descriptor to a list.

    Nothing else is ever opened: OSError (ENOTTY) says what it is.
    """
    try:
        status = os.stat(path)
        subsystem = _subsystem(status)
        if subsystem != kind.subsystem:
            raise os_error(errno.ENOTTY, f"{path} is not a {kind.what} but {subsystem}")
        keep(made, os.open, path, flags | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _missing(path, kind) from None
    except PermissionError as error:
        if error.errno == errno.EPERM:
            rules = "its mode allows it, but the container's device rules (cgroup) don't"
            raise os_error(errno.EPERM, f"{path}: {rules}; run it with --device {path}") from None
        raise os_error(errno.EACCES, f"{path} {_permission(path, kind)}") from None
    except OSError as error:
        if error.filename is None:
            raise
        raise os_error(error.errno or errno.EIO, path) from None


def kernel_name(path: str) -> str:
    """Return the kernel's own name of a node, which a link or a renamed node hides."""
    node = os.path.realpath(path)
    try:
        node = node_of(_sysfs(os.stat(path))) or node
    except OSError:
        pass
    return os.path.basename(node)


def node_of(folder: str) -> str | None:
    """Return the path that a device's folder in sysfs has for its node; None if it has none."""
    try:
        found = _DEVNAME.search(_procfs.read(f"{folder}/uevent"))
    except OSError:
        return None
    return found and f"/dev/{os.fsdecode(found[1])}"


def permissions(path: str) -> str:
    """Return a node's mode, owner and group as `ls -l` shows them; OSError if there is none."""
    status = os.stat(path)
    try:
        owner = _user(status.st_uid)
    except KeyError:
        owner = str(status.st_uid)
    try:
        group = _group(status.st_gid)
    except KeyError:
        group = str(status.st_gid)
    return f"{stat.filemode(status.st_mode)} {owner}:{group}"


@lru_cache  # the files of users and groups, or a server, are read for each: a third of find()
def _user(number: int) -> str:
    return pwd.getpwuid(number).pw_name


@lru_cache
def _group(number: int) -> str:
    return grp.getgrgid(number).gr_name


def _sysfs(status: os.stat_result) -> str:
    return f"/sys/dev/char/{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def _subsystem(status: os.stat_result) -> str:
    if not stat.S_ISCHR(status.st_mode):
        return "no character device"
    try:
        return os.path.basename(os.readlink(f"{_sysfs(status)}/subsystem"))
    except FileNotFoundError:
        if os.path.isdir("/sys/dev/char"):
            return "a node that no driver stands behind"
        return _registered(status) or "unknown without sysfs, which must be mounted on /sys"


def _registered(status: os.stat_result) -> str | None:
    """Return who has a node's major number, for which these kinds have the names of their classes.

    For who has no sysfs. None where /proc doesn't tell it either.
    """
    try:
        with open("/proc/devices", encoding="utf-8") as file:
            of_characters, _, _ = file.read().partition("Block devices:")
    except OSError:
        return None
    found = re.search(rf"^ *{os.major(status.st_rdev)} (\S+)$", of_characters, re.MULTILINE)
    return found and found[1]


def _missing(path: str, kind: Kind) -> OSError:
    name = os.path.basename(path)
    listed = f"/sys/class/{kind.subsystem}"
    usual = os.path.dirname(path) in ("/dev", f"/dev/{kind.subsystem}")
    in_dri = os.path.dirname(path) == "/dev/dri"  # the drm class has a folder of another name
    if (usual or in_dri) and os.path.exists(f"{listed}/{name}"):
        return os_error(
            errno.ENOENT,
            f"{path}: the kernel has this {kind.what}, but the node is not here; pass it into the"
            f" container (--device {path})",
        )
    if kind.subsystem != "misc" and os.path.isdir(listed):
        nodes = [node for node in os.listdir(listed) if os.path.exists(f"{listed}/{node}/dev")]
        if not nodes:
            text = f"{path}: the kernel has no {kind.what} yet; {kind.how_to_get()}"
            return os_error(errno.ENOENT, text)
        alike = [node for node in nodes if node.startswith(name.rstrip("0123456789"))]
        there = ", ".join(sorted(alike or nodes))
        return os_error(errno.ENOENT, f"{path}: no such {kind.what}; the kernel has: {there}")
    if usual:
        release = os.uname().release
        text = f"{path}: this kernel (Linux {release}) has no {kind.what}: it needs {kind.needs}"
        return UnsupportedError(errno.ENOENT, f"{text}; {kind.how_to_get(path)}")
    return os_error(errno.ENOENT, path)


def _permission(path: str, kind: Kind) -> str:
    try:
        mode = f"is {permissions(path)}"
    except OSError:
        mode = "is in a directory that you may not search"
    return f"{mode}; run as root, or {give_to_group(path, kind)}, and join the group {kind.group}"


def give_to_group(path: str, kind: Kind) -> str:
    """Return what to do so that the group of its kind may open a node."""
    match = f'SUBSYSTEM=="{kind.subsystem}"'
    if kind.subsystem == "misc":
        match = f'KERNEL=="{os.path.basename(path)}"'
    rule = f'{match}, GROUP="{kind.group}", MODE="0660"'
    return f"put {rule} into /etc/udev/rules.d/60-dmabuf.rules, run udevadm trigger"
