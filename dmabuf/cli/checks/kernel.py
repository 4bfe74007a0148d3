"""What the running kernel was built with, and what mends an exporter that it lacks."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from typing import NamedTuple

from dmabuf.cli.checks.exporters import Exporter
from dmabuf.cli.console.failure import one_line
from dmabuf.errors import UnsupportedError

_OPTIONS = {
    "heap": ("CONFIG_DMABUF_HEAPS", "CONFIG_DMABUF_HEAPS_SYSTEM"),
    "udmabuf": ("CONFIG_UDMABUF",),
}
_MODULES = {"heap": "system_heap", "udmabuf": "udmabuf"}
_REPORTED = (*_OPTIONS["heap"], "CONFIG_DMABUF_HEAPS_CMA", *_OPTIONS["udmabuf"])

_EXPORT = re.compile(rb" dma_buf_export\s")


class Configuration(NamedTuple):
    """The options of the running kernel that matter here: "y", "m" or "n" each."""

    path: str
    options: dict[str, str]


def configuration() -> Configuration | None:
    """Return the running kernel's configuration; None if it is nowhere to be read."""
    for path in _configuration_files():
        opener = gzip.open if path.endswith(".gz") else open
        try:
            with opener(path, "rt", encoding="utf-8", errors="replace") as lines:
                given = dict(line.rstrip("\n").split("=", 1) for line in lines if "=" in line)
        except (OSError, EOFError, zlib.error):  # the last two are of a file that is cut off
            continue
        return Configuration(path, {option: given.get(option, "n") for option in _REPORTED})
    return None


def _configuration_files() -> list[str]:
    boot = f"/boot/config-{os.uname().release}"
    return ["/proc/config.gz", boot, f"{_modules_folder()}/config"]


def has_dma_bufs() -> bool | None:
    """Return whether the running kernel knows dma-bufs at all; None if it doesn't tell."""
    try:
        with open("/proc/kallsyms", "rb") as symbols:
            return any(_EXPORT.search(line) for line in symbols)
    except OSError:
        return None


def has_module(name: str) -> bool | None:
    """Return whether modprobe would find a module of the running kernel; None if none is here."""
    try:
        with open(f"{_modules_folder()}/modules.dep", encoding="utf-8", errors="replace") as lines:
            paths = [line.split(":")[0] for line in lines]
    except OSError:
        return None
    return any(os.path.basename(path).startswith(f"{name}.ko") for path in paths)


def _modules_folder() -> str:
    return f"/lib/modules/{os.uname().release}"


class Advice(NamedTuple):
    """Why an exporter does not work, and what to do about it."""

    error: str | None = None
    remedy: str | None = None


def advise(exporter: Exporter, error: OSError | None, built: Configuration | None) -> Advice:
    """Take the advice of the error's own message, unless the kernel's files know better."""
    if error is None:
        return Advice()
    reason, _, remedy = one_line(error).partition("; ")
    if isinstance(error, UnsupportedError):
        remedy = _get_exporter(exporter, built)
    return Advice(reason, remedy or "look for its driver's messages in dmesg")


def _get_exporter(exporter: Exporter, built: Configuration | None) -> str:
    """Return how to get an exporter that the kernel lacks."""
    options, module = _OPTIONS[exporter.kind], _MODULES[exporter.kind]
    another = f"boot a kernel with {' and '.join(options)}"
    found = has_module(module)
    if found:
        return f"run modprobe {module}"
    if built and any(built.options[option] == "n" for option in options):
        return f"{another}; {built.path} says that it was built without"
    if built and all(built.options[option] == "y" for option in options):
        return f"bring the node here: mount a devtmpfs, or start the container with {exporter.path}"
    if found is None:
        return f"run modprobe {module}, or {another}"
    return f"{another}; {_modules_folder()} has no module {module}"
