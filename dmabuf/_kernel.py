"""What the running kernel was built with, and how to get what it lacks.

Read where something is missing, and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

REPORTED = (
    *("CONFIG_DMABUF_HEAPS", "CONFIG_DMABUF_HEAPS_SYSTEM", "CONFIG_DMABUF_HEAPS_CMA"),
    "CONFIG_UDMABUF",
)
"""The options that a report has."""


class Configuration(NamedTuple):
    """The options of the running kernel that were asked for: "y", "m" or "n" each."""

    path: str
    options: dict[str, str]


def configuration(options: Sequence[str] = REPORTED) -> Configuration | None:
    """Return the running kernel's configuration; None if it is nowhere to be read."""
    import gzip
    import zlib

    for path in _configuration_files():
        opener = gzip.open if path.endswith(".gz") else open
        try:
            with opener(path, "rt", encoding="utf-8", errors="replace") as lines:
                given = dict(line.rstrip("\n").split("=", 1) for line in lines if "=" in line)
        except (OSError, EOFError, zlib.error):  # the last two are of a file that is cut off
            continue
        return Configuration(path, {option: given.get(option, "n") for option in options})
    return None


def how_to_get(options: Sequence[str], module: str, path: str | None = None) -> str:
    """Return what to do where the kernel lacks a driver; `path` is the node that it would make."""
    if not module:
        return "load its driver"
    load = f"run modprobe {module} as root"
    found = _has_module(module)
    if found:
        return load
    built = configuration(options)
    values = set(built.options.values()) if built else set()
    if built and "n" in values:
        return f"boot a kernel that was built with it: {built.path} says that this one was not"
    if built and path and values == {"y"}:
        return f"bring the node here: mount a devtmpfs, or start the container with --device {path}"
    if found is None:
        return load if built else f"{load}, or boot a kernel that was built with it"
    if built and "m" in values:
        return (
            f"install the kernel's package of more modules: {built.path} says that {module} is one,"
            f" and {_modules_folder()} lacks it"
        )
    return f"boot a kernel that was built with it: {_modules_folder()} has no module {module}"


def how_to_get_in_debugfs(option: str) -> str:
    """Return what to do where a file of debugfs is missing."""
    if not os.path.ismount("/sys/kernel/debug"):
        return "run mount -t debugfs none /sys/kernel/debug as root"
    return f"boot a kernel with {option}"


def _configuration_files() -> list[str]:
    boot = f"/boot/config-{os.uname().release}"
    return ["/proc/config.gz", boot, f"{_modules_folder()}/config"]


def _has_module(name: str) -> bool | None:
    """Return whether modprobe would find a module of the running kernel; None if none is here."""
    try:
        with open(f"{_modules_folder()}/modules.dep", encoding="utf-8", errors="replace") as lines:
            paths = [line.split(":")[0] for line in lines]
    except OSError:
        return None
    return any(os.path.basename(path).startswith(f"{name}.ko") for path in paths)


def _modules_folder() -> str:
    return f"/lib/modules/{os.uname().release}"
