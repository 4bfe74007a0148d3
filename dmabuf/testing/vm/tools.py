"""The machine's programs that a guest needs, installed where that is allowed."""

import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from dmabuf.testing.vm import cache, packages
from dmabuf.testing.vm.failure import Failure
from dmabuf.testing.vm.processes import path, run, say

PACKAGES = {"depmod": "kmod", "zstd": "zstd"}


def require(wanted: Mapping[str, str]) -> None:
    """Have every program, or file by its path: install the packages of what is missing."""
    missing = [package for name, package in wanted.items() if not _find(name)]
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if not shutil.which("apt-get"):
        raise Failure(f"install the programs of these Debian packages first: {' '.join(missing)}")
    if os.geteuid() != 0:
        raise Failure(f"programs are missing: run as root: {shlex.join(command)}")
    say(f"installing {' '.join(missing)}")
    try:
        run(*command)
    except Failure:
        # The machine's lists may be empty or older than its mirror.
        run("apt-get", "update")
        run(*command)


def busybox() -> Path:
    """A busybox that runs without libraries: the machine's, or one out of its package."""
    found = _find("busybox")
    if found and _is_static(Path(found)):
        return Path(found)
    return cache.get("busybox", _fetch_busybox) / "busybox"


def _find(program: str) -> str | None:
    return shutil.which(program, os.F_OK, path())


def _is_static(program: Path) -> bool:
    # A dynamic program names its loader right after the ELF headers.
    return b"/ld-" not in program.read_bytes()[:4096]


def _fetch_busybox(folder: Path) -> None:
    say("fetching busybox, once")
    packages.Apt(folder / "apt").unpack(["busybox-static"], folder / "tree")
    (program,) = (*folder.glob("tree/bin/busybox"), *folder.glob("tree/usr/bin/busybox"))
    program.rename(folder / "busybox")
    shutil.rmtree(folder / "apt")
    shutil.rmtree(folder / "tree")
