"""Userlands: sets of a newer Debian's packages for the guest, unpacked once into the cache."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dmabuf.testing.vm import cache, packages
from dmabuf.testing.vm.failure import Failure
from dmabuf.testing.vm.processes import say

# What every command needs: a shell, its programs, and a Python that can import the package and run
# its tests.
_PYTHON = (
    *("bash", "coreutils", "dash", "grep", "libc-bin", "python3", "python3-cffi-backend"),
    *("python3-hypothesis", "python3-numpy", "python3-pyudev", "python3-pytest"),
    *("python3-pytest-timeout", "python3-rich", "util-linux"),
)


class Userland(NamedTuple):
    """Packages of suites of Debian, the last first, which bring what they depend on."""

    suites: tuple[str, ...]
    packages: tuple[str, ...]
    environment: Mapping[str, str] = {}
    """What its programs need to be told."""


USERLANDS = {
    # Mesa with its drivers for the processor, which import and export dma-bufs as hardware's do.
    # That of trixie itself, 25.0, imports images only while no DRM device is there.
    "gpu": Userland(
        ("trixie", "trixie-backports"),
        (
            *("libegl-mesa0", "libegl1", "libgl1", "libgl1-mesa-dri", "libgles2", "libvulkan1"),
            *("mesa-vulkan-drivers", "python3-moderngl", "python3-opengl", "python3-pil"),
        ),
        # At its default width Mesa 26.1 crashes where QEMU emulates. It warns of each DRM device
        # that is no GPU, on the standard error of whoever uses it.
        {"LP_NATIVE_VECTOR_WIDTH": "128", "EGL_LOG_LEVEL": "fatal"},
    ),
    "media": Userland(
        ("trixie",),
        (
            *("gir1.2-gst-plugins-base-1.0", "gstreamer1.0-plugins-bad"),
            *("gstreamer1.0-plugins-base", "gstreamer1.0-plugins-good", "gstreamer1.0-tools"),
            "python3-gi",
        ),
    ),
}


def get(name: str) -> Path:
    """Return the root folder of one of ``USERLANDS``, fetched when it is missing."""
    if name not in USERLANDS:
        raise Failure(f"--userland {name}: there is none but {', '.join(USERLANDS)}")
    userland = USERLANDS[name]
    wanted = (*_PYTHON, *userland.packages)
    # A set that has changed is another one.
    digest = hashlib.sha256(" ".join((*userland.suites, *wanted)).encode()).hexdigest()[:12]
    return cache.get(
        f"userland-{name}-{digest}", lambda folder: _fetch(folder, name, userland.suites, wanted)
    )


def environment(name: str, package: Path) -> dict[str, str]:
    """What a command in the userland has in its environment beside the caller's."""
    return {
        "DMABUF_VM_USERLAND": name,
        # Whatever the caller's own Python and its programs are.
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
        "PYTHONPATH": str(package),
        **USERLANDS[name].environment,
    }


def _fetch(folder: Path, name: str, suites: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    say(f"fetching the userland {name} from Debian {suites[-1]}, once")
    apt = packages.debian(folder / "apt", *suites)
    apt.unpack_with_dependencies(wanted, folder)
    shutil.rmtree(folder / "apt")
    _finish(folder)


def _finish(root: Path) -> None:
    """Do by hand what the packages' scripts would have done, as far as it is needed."""
    for link in ("bin", "lib", "lib64", "sbin"):
        if not (root / link).is_symlink():
            (root / link).symlink_to(f"usr/{link}")
    # Alternatives: numpy wants these two.
    for library in (*root.glob("usr/lib/*/blas/*.so.3"), *root.glob("usr/lib/*/lapack/*.so.3")):
        chosen = library.parent.parent / library.name
        if not chosen.exists():
            chosen.symlink_to(f"{library.parent.name}/{library.name}")
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nvideo:x:44:\n")
    for place in ("dev", "proc", "root", "run", "sys", "tmp"):
        (root / place).mkdir(exist_ok=True)
