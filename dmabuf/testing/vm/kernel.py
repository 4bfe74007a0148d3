"""A kernel that can be booted, and its modules."""

import lzma
import re
import struct
import subprocess
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dmabuf.testing.vm.failure import Failure


@dataclass(frozen=True)
class Module:
    """A module's file and the parameters that it is loaded with."""

    path: Path
    parameters: str = ""

    @property
    def name(self) -> str:
        """The file's name as the guest sees it, uncompressed."""
        return self.path.name.partition(".ko")[0] + ".ko"

    def read(self) -> bytes:
        """The module's code, uncompressed here because the guest is many times slower."""
        return decompress(self.path.read_bytes())


@dataclass(frozen=True)
class Kernel:
    """A kernel's image, its release (``uname -r``) and its ``/lib/modules/RELEASE``.

    Without that folder it is taken to have all that it needs built in.
    """

    image: Path
    release: str
    modules: Path | None

    @property
    def major(self) -> int:
        """The first number of the release."""
        return int(self.release.partition(".")[0])

    def has(self, module: str) -> bool:
        """Whether ``module`` is a file here, neither built in nor absent."""
        return _name(module) in self._files

    def drivers(self, wanted: Iterable[tuple[str, str]]) -> tuple[list[Module], list[str]]:
        """What brings the drivers of the pairs (name, parameters).

        The modules to load, each after those that it needs, and kernel options with the parameters
        of drivers that are built in.
        """
        order: dict[str, Module] = {}
        options = []
        for name, parameters in wanted:
            if self.modules and self.has(name):
                path, needs = self._files[_name(name)]
                for need in reversed(needs.split()):
                    order.setdefault(_name(need), Module(self.modules / need))
                order[_name(name)] = Module(self.modules / path, parameters)
            elif not self.modules or _name(name) in self._built_in:
                options += [f"{name}.{parameter}" for parameter in parameters.split()]
            else:
                raise Failure(f"Linux {self.release} has no driver {name}")
        return list(order.values()), options

    @cached_property
    def _built_in(self) -> set[str]:
        """The drivers that would be modules elsewhere."""
        index = self.modules and self.modules / "modules.builtin"
        return set(map(_name, index.read_text().split())) if index and index.exists() else set()

    @cached_property
    def _files(self) -> dict[str, tuple[str, str]]:
        """Each module's file and those of the modules that it needs, the last first."""
        if not self.modules:
            return {}
        index = self.modules / "modules.dep"
        if not index.exists():
            raise Failure(f"{index} is missing: run depmod")
        lines = (line.partition(":") for line in index.read_text().splitlines())
        return {_name(path): (path, needs) for path, _, needs in lines}


def at(path: Path, architecture: str) -> Kernel:
    """The kernel in an image, with the modules that lie where its release says."""
    image = path.read_bytes()
    form, read_release = _FORMS[architecture]
    release = read_release(image)
    if not release:
        raise Failure(f"{path} is no Linux image for {architecture} ({form})")
    bases = (path.parent, path.parent.parent, Path("/"))
    places = [base / "lib/modules" / release for base in bases]
    modules = next((place for place in places if place.is_dir()), None)
    return Kernel(path.absolute(), release, modules and modules.absolute())


def unwrap(image: bytes) -> bytes:
    """The uncompressed kernel in a bzImage: the guest would take longer to decompress it."""
    # The setup header, Documentation/arch/x86/boot.rst: setup_sects, payload_offset and _length.
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (image[0x1F1] + 1) * 512 + offset
    return decompress(image[start : start + length])


def decompress(data: bytes) -> bytes:
    """Undo the compression that the first bytes tell; what follows the stream is left out."""
    if data.startswith(b"\xfd7zXZ"):
        return lzma.LZMADecompressor().decompress(data)
    if data.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(wbits=31).decompress(data)
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        return _unzstd(data)
    return data


def _unzstd(data: bytes) -> bytes:
    # Python has no zstd before 3.14. The program complains about a kernel's size after the
    # stream, but gives all before it.
    try:
        done = subprocess.run(["zstd", "-dcq"], input=data, capture_output=True)
    except FileNotFoundError:
        raise Failure("this kernel is compressed by zstd: install the program zstd") from None
    if not done.stdout:
        raise Failure(f"zstd could not decompress this kernel: {done.stderr.decode()}")
    return done.stdout


def _release_of_bzimage(image: bytes) -> str:
    """The release that the setup header names (boot.rst: header, kernel_version)."""
    if image[0x202:0x206] != b"HdrS":
        return ""
    (offset,) = struct.unpack_from("<H", image, 0x20E)
    found = re.match(rb"[\w.+~-]+", image[offset + 0x200 :][:200])
    return found[0].decode() if found else ""


def _release_of_image(image: bytes) -> str:
    """The release in the kernel's banner: its header (arch/arm64/booting.rst) has none."""
    if image[56:60] != b"ARM\x64":
        return ""
    found = re.search(rb"Linux version ([\w.+~-]+) ", image)
    return found[1].decode() if found else ""


_FORMS = {"amd64": ("bzImage", _release_of_bzimage), "arm64": ("Image", _release_of_image)}


def _name(file: str) -> str:
    """A module's name, from its name or its file's path."""
    return file.rpartition("/")[2].partition(".ko")[0].replace("-", "_")
