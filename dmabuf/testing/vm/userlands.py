"""Userlands: sets of a newer Debian's packages for the guest, unpacked once into the cache."""

import hashlib
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dmabuf.testing.vm import cache, packages
from dmabuf.testing.vm.architectures import ARCHITECTURES, OURS, Architecture
from dmabuf.testing.vm.failure import Failure
from dmabuf.testing.vm.processes import run, say

# What every command needs: a shell, its programs, and a Python that can import the package and run
# its tests.
_PYTHON = (
    *("bash", "coreutils", "dash", "grep", "libc-bin", "python3", "python3-cffi-backend"),
    *("python3-hypothesis", "python3-numpy", "python3-pyudev", "python3-pytest"),
    *("python3-pytest-timeout", "python3-rich", "util-linux"),
)
# Mesa with its drivers for the processor, which import and export dma-bufs as hardware's do. That
# of trixie itself, 25.0, imports images only while no DRM device is there.
_MESA_SUITES = ("trixie", "trixie-backports")
_MESA = ("libegl-mesa0", "libegl1", "libgl1", "libgl1-mesa-dri", "libgles2")
# At its default width Mesa 26.1 crashes where QEMU emulates. It warns of each DRM device that is no
# GPU, on the standard error of whoever uses it.
_MESA_ENVIRONMENT = {"LP_NATIVE_VECTOR_WIDTH": "128", "EGL_LOG_LEVEL": "fatal"}


# What the whole suite uses, as far as Debian has it.
_SUITE = (
    *("python3-anyio", "python3-jsonschema", "python3-mypy", "python3-pil"),
    *("python3-pytest-xdist", "python3-trio", "mount", "procps", "strace", "v4l-utils"),
)


class Userland(NamedTuple):
    """Packages of suites of Debian, the last first, which bring what they depend on."""

    suites: tuple[str, ...]
    packages: tuple[str, ...]
    environment: Mapping[str, str] = {}
    """What its programs need to be told."""
    wheels: tuple[str, ...] = ()
    """What PyPI has and Debian has not, in a version each: wheels for every Python."""
    architecture: str = "amd64"
    """One of ``ARCHITECTURES``: that of the kernel and of the machine follows from it."""


USERLANDS = {
    "gpu": Userland(
        _MESA_SUITES,
        (
            *(*_MESA, "libvulkan1", "mesa-vulkan-drivers"),
            *("python3-moderngl", "python3-opengl", "python3-pil"),
        ),
        _MESA_ENVIRONMENT,
        ("vulkan==1.3.275.1",),
    ),
    # A compositor without a screen, that draws by Mesa.
    "desktop": Userland(_MESA_SUITES, (*_MESA, "python3-pil", "weston"), _MESA_ENVIRONMENT),
    "media": Userland(
        ("trixie",),
        (
            *("gir1.2-gst-plugins-base-1.0", "gstreamer1.0-plugins-bad"),
            *("gstreamer1.0-plugins-base", "gstreamer1.0-plugins-good", "gstreamer1.0-tools"),
            *("gstreamer1.0-pipewire", "pipewire"),
            *("libavutil59", "python3-gi", "python3-libcamera", "python3-pil"),
        ),
    ),
    # A Python of 32 bits.
    "i386": Userland(("trixie",), _SUITE, architecture="i386"),
    # Another processor, whose guest can't boot by a busybox of this machine's.
    "arm64": Userland(("trixie",), (*_SUITE, "busybox-static"), architecture="arm64"),
    # Newer Pythons.
    "python3.13": Userland(("trixie",), ("python3.13", *_SUITE)),
    "python3.14": Userland(("forky",), ("python3.14", *_SUITE)),
}
BUSYBOX = "usr/bin/busybox"


def architecture(name: str | None) -> Architecture:
    """What runs the programs of one of ``USERLANDS``, or this machine's own."""
    return ARCHITECTURES[_find(name).architecture if name else OURS]


def get(name: str) -> Path:
    """Return the root folder of one of ``USERLANDS``, fetched when it is missing."""
    userland = _find(name)
    wanted = (*_PYTHON, *userland.packages)
    # A set that has changed is another one.
    names = (*userland.suites, *wanted, *userland.wheels)
    digest = hashlib.sha256(" ".join(names).encode()).hexdigest()[:12]
    root = cache.get(
        f"userland-{name}-{digest}", lambda folder: _fetch(folder, name, userland, wanted)
    )
    _announce(root)
    return root


def environment(name: str, package: Path) -> dict[str, str]:
    """What a command in the userland has in its environment beside the caller's."""
    return {
        "DMABUF_VM_USERLAND": name,
        # Whatever the caller's own Python and its programs are.
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
        "PYTHONPATH": str(package),
        # It writes nothing that stays, and would compile the package at each start.
        "PYTHONDONTWRITEBYTECODE": "",
        **USERLANDS[name].environment,
    }


def _find(name: str) -> Userland:
    if name not in USERLANDS:
        raise Failure(f"--userland {name}: there is none but {', '.join(USERLANDS)}")
    return USERLANDS[name]


def _fetch(folder: Path, name: str, userland: Userland, wanted: tuple[str, ...]) -> None:
    say(f"fetching the userland {name} from Debian {userland.suites[-1]}, once")
    _unpack(folder, userland, wanted)
    if userland.wheels:
        _unpack_wheels(folder, userland.wheels)
    _finish(folder)
    if ARCHITECTURES[userland.architecture].kernel == OURS:
        _compile(folder, folder, userland)
    else:
        # By the same Python for this machine: what it makes of a source is the same everywhere.
        brother, python = userland._replace(architecture=OURS), folder / "python"
        _unpack(python, brother, ("python3",))
        _compile(folder, python, brother)
        shutil.rmtree(python)


def _unpack(folder: Path, userland: Userland, wanted: tuple[str, ...]) -> None:
    state = folder / "apt"
    apt = packages.debian(state, *userland.suites, architecture=userland.architecture)
    apt.unpack_with_dependencies(wanted, folder)
    shutil.rmtree(state)


def _announce(root: Path) -> None:
    """Have its pytest know the package's plugin, as where the package is installed."""
    about = root / "usr/lib/python3/dist-packages/dmabuf.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: dmabuf\nVersion: 0\n")
    (about / "entry_points.txt").write_text("[pytest11]\ndmabuf = dmabuf.testing.plugin\n")


def _unpack_wheels(root: Path, wheels: tuple[str, ...]) -> None:
    scratch = root / "pip"
    run(sys.executable, "-m", "venv", str(scratch))  # the machine's Python may have no pip
    words = ("install", "--quiet", "--no-deps", "--no-compile", "--only-binary=:all:")
    target = root / "usr/lib/python3/dist-packages"
    run(str(scratch / "bin/pip"), *words, "--target", str(target), *wheels)
    shutil.rmtree(scratch)


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
    users = ("root:x:0:0:root:/root:/bin/sh", "nobody:x:65534:65534:nobody:/nonexistent:/bin/sh")
    (root / "etc/passwd").write_text("\n".join((*users, "")))
    (root / "etc/group").write_text("root:x:0:\nvideo:x:44:\nnogroup:x:65534:\n")
    for place in ("dev", "proc", "root", "run", "sys", "tmp"):
        (root / place).mkdir(exist_ok=True)


def _compile(root: Path, place: Path, userland: Userland) -> None:
    """Compile what its Python imports, as the packages' scripts would: emulated, it takes minutes.

    By the Python of a userland that lies in ``place``, which needs no root for it.
    """
    kind = ARCHITECTURES[userland.architecture]
    python = (str(place / "usr/bin/python3"), "-m", "compileall", "-q")
    folders = (*root.glob("usr/lib/python3*/"),)
    home = ("env", "-u", "PYTHONPATH", f"PYTHONHOME={place / 'usr'}")
    search = ("--library-path", str(place / "usr/lib" / kind.libraries))
    run(*home, str(place / "usr" / kind.loader), *search, *python, *map(str, folders))
