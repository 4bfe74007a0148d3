"""Why a user may open an exporter's node, or may not, by mode, owner, group and ACL; what helps.

It is POSIX's rule (acl(5)): the first entry that fits decides. Security modules and containers'
device rules have their own say, which opening the node alone tells.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import struct
from typing import Any, NamedTuple

from dmabuf import _node, heap, udmabuf
from dmabuf.cli.checks.exporters import Exporter

_READ, _WRITE, _SEARCH = 4, 2, 1
_ACL = "system.posix_acl_access"
# linux/posix_acl_xattr.h
_ACL_VERSION = 2
_ACL_ENTRY = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


class User(NamedTuple):
    """A user as the machine's databases have it; a process of theirs may have older groups."""

    name: str
    uid: int
    groups: frozenset[int]


class Entry(NamedTuple):
    """A line of an ACL, or of a mode: to whom it gives which bits."""

    tag: int
    bits: int
    number: int


class Answer(NamedTuple):
    """Whether a user may open an exporter's node."""

    exporter: Exporter
    allowed: bool
    reason: str
    remedy: str | None
    """The commands that help; None where nothing has to."""

    def document(self) -> dict[str, Any]:
        """Return it as docs/json.md has it."""
        return {
            "name": self.exporter.name,
            "path": self.exporter.path,
            "permissions": self.exporter.permissions,
            "allowed": self.allowed,
            "reason": self.reason,
            "remedy": self.remedy,
        }


def find_user(name: str) -> User:
    """Return a user by name or number; ValueError if there is none."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        try:
            found = pwd.getpwuid(int(name))
        except (KeyError, ValueError, OverflowError):
            raise ValueError(f"{name!r} is not a user of this machine; see getent passwd") from None
    groups = os.getgrouplist(found.pw_name, found.pw_gid)
    return User(found.pw_name, found.pw_uid, frozenset(groups))


def ask(exporter: Exporter, user: User) -> Answer:
    """Return whether a user may open an exporter's node, by what the node says."""
    path, kind = exporter.path, exporter.kind
    bits = _READ if kind == "heap" else _READ | _WRITE
    if user.uid == 0:
        return Answer(exporter, True, "root may open every node", None)
    try:
        closed = _closed_folder(path, user)
        if closed is not None:
            reason = f"may not search the folder {closed}, which is {_node.permissions(closed)}"
            return Answer(exporter, False, reason, f"chmod a+x {closed}")
        status = os.stat(path)
        entries = acl(path, status)
    except OSError as error:
        return Answer(exporter, False, f"the node can't be seen: {error.strerror}", None)
    has, because = _granted(entries, status, user, bits)
    allowed = has & bits == bits
    needed = "read" if kind == "heap" else "read and write"
    if allowed:
        return Answer(exporter, True, f"{because} may {needed}", None)
    reason = f"{because} may not {needed}"
    return Answer(exporter, False, reason, _remedy(exporter, entries, status, user, bits))


def acl(path: str, status: os.stat_result) -> list[Entry]:
    """Return a node's ACL, or its mode as one, in the order in which the kernel asks."""
    try:
        value = os.getxattr(path, _ACL)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
        mode = stat.S_IMODE(status.st_mode)
        return [
            Entry(_USER_OBJ, mode >> 6 & 7, 0),
            Entry(_GROUP_OBJ, mode >> 3 & 7, 0),
            Entry(_OTHER, mode & 7, 0),
        ]
    (version,) = struct.unpack_from("<I", value)
    if version != _ACL_VERSION:
        raise OSError(errno.EINVAL, f"its ACL is of version {version}, which is unknown here")
    return [Entry(*fields) for fields in _ACL_ENTRY.iter_unpack(value[4:])]


def _granted(
    entries: list[Entry], status: os.stat_result, user: User, wanted: int
) -> tuple[int, str]:
    """Return which of the wanted bits a user has, and as whom."""
    mask = next((entry.bits for entry in entries if entry.tag == _MASK), 7)
    by_tag = {entry.tag: entry for entry in entries}
    if user.uid == status.st_uid:
        return by_tag[_USER_OBJ].bits, f"its owner {user.name}"
    for entry in entries:
        if entry.tag == _USER and entry.number == user.uid:
            return entry.bits & mask, f"{user.name}, by the node's ACL,"
    groups = []
    for entry in entries:
        number = status.st_gid if entry.tag == _GROUP_OBJ else entry.number
        if entry.tag in (_GROUP_OBJ, _GROUP) and number in user.groups:
            groups.append((entry.bits & mask, number))
    if groups:
        # One of the groups must grant all that is wanted.
        bits, number = max(groups, key=lambda group: (group[0] & wanted).bit_count())
        return bits, f"{user.name}, in the group {group_name(number)},"
    return by_tag[_OTHER].bits, f"{user.name}, in none of its groups,"


def _closed_folder(path: str, user: User) -> str | None:
    folder = os.path.dirname(path)
    folders = [folder]
    while folder != "/":
        folder = os.path.dirname(folder)
        folders.append(folder)
    for one in reversed(folders):
        status = os.stat(one)
        bits, _ = _granted(acl(one, status), status, user, _SEARCH)
        if not bits & _SEARCH:
            return one
    return None


def _remedy(
    exporter: Exporter, entries: list[Entry], status: os.stat_result, user: User, bits: int
) -> str:
    """Return the commands that let a user open the node: joining a group, or a rule of udev."""
    mask = next((entry.bits for entry in entries if entry.tag == _MASK), 7)
    for entry in entries:
        number = status.st_gid if entry.tag == _GROUP_OBJ else entry.number
        opens = entry.tag in (_GROUP_OBJ, _GROUP) and entry.bits & mask & bits == bits
        if opens and number not in user.groups and number != 0:
            name = group_name(number)
            return f"run usermod -aG {name} {user.name}, and have {user.name} log in again"
    kind = heap.KIND if exporter.kind == "heap" else udmabuf.KIND
    remedy = _node.give_to_group(exporter.path, kind)
    try:
        number = grp.getgrnam(kind.group).gr_gid
    except KeyError:
        number = -1  # a system without it
    if number in user.groups:
        return remedy
    create = f"groupadd --system {kind.group}, then " if number < 0 else ""
    return f"{remedy}, then {create}usermod -aG {kind.group} {user.name}, and log in again"


def group_name(number: int) -> str:
    """Return a group's name, or its number where it has none."""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
