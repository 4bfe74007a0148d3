"""Kernels out of a distribution's packages, kept in the cache."""

import re
import shutil
from pathlib import Path

from dmabuf.testing.vm import cache, kernel, packages
from dmabuf.testing.vm.architectures import OURS
from dmabuf.testing.vm.failure import Failure
from dmabuf.testing.vm.kernel import Kernel
from dmabuf.testing.vm.processes import run, say

SUITES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie", "7.3": "trixie-backports"}
NAMES = (*SUITES, "native")
META_PACKAGES = ("linux-image-amd64", "linux-image-generic")
PARTS = re.compile(r"linux-(image|binary|modules|base)-.*\d")


def get(name: str, architecture: str) -> Kernel:
    """Return one of ``NAMES``, fetched when it is missing; by Debian's name of the architecture."""
    if name == "native":
        if architecture != OURS:
            raise Failure(f"--kernel native: this machine's own kernel is none for {architecture}")
        return _open(cache.get("linux-native", _fetch_native))
    folder = f"linux-{name}" if architecture == OURS else f"linux-{name}-{architecture}"
    return _open(cache.get(folder, lambda folder: _fetch_debian(folder, name, architecture)))


def _fetch_debian(folder: Path, version: str, architecture: str) -> None:
    suite = SUITES[version]
    say(f"fetching Linux {version} for {architecture} from Debian {suite}, once")
    apt = packages.debian(folder / "apt", suite, architecture=architecture)
    number = rf"{re.escape(version)}\.\d+(\+deb\d+|-\d+)"
    flavour = re.compile(rf"linux-image-{number}-{architecture}$")
    images = [name for name in apt.names("linux-image-") if flavour.match(name)]
    if not images:
        raise Failure(f"the Debian mirror's {suite} has no Linux {version}")
    _install(apt, max(images, key=_numbers), folder)


def _fetch_native(folder: Path) -> None:
    say("fetching this distribution's own kernel, once")
    apt = packages.Apt(folder / "apt")
    for name in META_PACKAGES:
        if name in apt.names(name):
            _install(apt, name, folder)
            return
    raise Failure(f"this machine's apt has none of {', '.join(META_PACKAGES)}")


def _install(apt: packages.Apt, package: str, folder: Path) -> None:
    """Lay out the kernel as ``_open`` expects it, with the index that ``modprobe`` reads."""
    tree = folder / "tree"
    apt.unpack(apt.closure(package, PARTS), tree)
    (modules,) = (*tree.glob("lib/modules/*"), *tree.glob("usr/lib/modules/*"))
    (image,) = (*tree.glob("boot/vmlinuz-*"), *modules.glob("vmlinuz"))
    (config,) = (*tree.glob("boot/config-*"), *modules.glob("config"))
    if "CONFIG_PVH=y" in config.read_text().split():
        (folder / "image").write_bytes(kernel.unwrap(image.read_bytes()))
    else:
        shutil.copyfile(image, folder / "image")
    place = folder / "lib/modules" / modules.name
    place.parent.mkdir(parents=True)
    modules.rename(place)
    run("depmod", "-b", str(folder), modules.name)
    shutil.rmtree(tree)
    shutil.rmtree(folder / "apt")


def _open(folder: Path) -> Kernel:
    (modules,) = folder.glob("lib/modules/*")
    return Kernel(folder / "image", modules.name, modules)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]
