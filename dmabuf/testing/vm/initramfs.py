"""The initramfs: a cpio archive of busybox, the guest's scripts and the modules that it loads."""

import os
import shlex
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from dmabuf.testing.vm.kernel import Module

APPLETS = (
    *("cat", "chroot", "cp", "dd", "ifconfig", "insmod", "ln", "mkdir", "mkfifo", "mount"),
    *("poweroff", "setsid", "sh", "sleep", "switch_root", "sync"),
)
FOLDERS = ("dev", "lower", "modules", "proc", "root", "scratch", "sys", "vm", "vm/bin")
SCRIPTS = Path(__file__).with_name("guest")


class Archive:
    """A cpio archive in the one format that the kernel reads (newc)."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._count = 0

    def folder(self, name: str) -> None:
        """Add a folder."""
        self._add(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, data: bytes, *, executable: bool = False) -> None:
        """Add a file."""
        self._add(name, stat.S_IFREG | (0o755 if executable else 0o644), data)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def finish(self) -> bytes:
        """Return the whole archive."""
        self._add("TRAILER!!!", 0, b"")
        return b"".join(self._parts)

    def _add(self, name: str, mode: int, data: bytes) -> None:
        self._count += 1
        path = name.encode() + b"\0"
        fields = (self._count, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        for part in (header + path, data):
            self._parts += (part, b"\0" * (-len(part) % 4))


def build(
    busybox: Path, modules: Iterable[Module], config: Mapping[str, str], command: bytes
) -> bytes:
    """Build the archive that loads ``modules`` and runs the shell script ``command``."""
    archive = Archive()
    for name in FOLDERS:
        archive.folder(name)
    archive.file("vm/bin/busybox", busybox.read_bytes(), executable=True)
    for applet in APPLETS:
        archive.link(f"vm/bin/{applet}", "busybox")
    archive.link("bin", "vm/bin")
    archive.file("init", (SCRIPTS / "init").read_bytes(), executable=True)
    archive.file("vm/session", (SCRIPTS / "session").read_bytes())
    settings = [f"{name}={shlex.quote(value)}\n" for name, value in config.items()]
    archive.file("vm/config", os.fsencode("".join(settings)))
    archive.file("vm/command", command)
    order = []
    for module in modules:
        archive.file(f"modules/{module.name}", module.read())
        order.append(f"{module.name} {module.parameters}\n")
    archive.file("modules/order", "".join(order).encode())
    return archive.finish()
