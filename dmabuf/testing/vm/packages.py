"""Distribution packages, fetched and unpacked, not installed: apt with a state of its own.

The machine's apt says where the mirror is and how to reach it (proxy, certificates), and checks
the signatures. Its own lists, its cache and its installed packages are neither used nor changed.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from dmabuf.testing.vm.failure import Failure
from dmabuf.testing.vm.processes import run

KEYRING = Path("usr/share/keyrings/debian-archive-keyring.gpg")


class Apt:
    """An apt state in ``folder``, with the machine's sources or those signed by ``keyring``."""

    def __init__(
        self,
        folder: Path,
        sources: str = "",
        keyring: Path | None = None,
        suite: str = "",
        architecture: str = "amd64",
    ) -> None:
        self._folder = folder
        for name in ("lists/partial", "cache/archives/partial", "debs"):
            (folder / name).mkdir(parents=True)
        lines = [
            # The hooks that distributions add serve the machine's own lists.
            "#clear APT::Update::Pre-Invoke;",
            "#clear APT::Update::Post-Invoke;",
            "#clear APT::Update::Post-Invoke-Success;",
            f'APT::Architecture "{architecture}";',
            f'APT::Architectures "{architecture}";',
            'APT::Sandbox::User "";',
            f'Dir::State::lists "{folder}/lists";',
            'Dir::State::status "/dev/null";',
            f'Dir::Cache "{folder}/cache";',
        ]
        if sources:
            (folder / "sources.list").write_text(f"{sources}\n")
            lines += [
                f'APT::Default-Release "{suite}";',
                f'Dir::Etc::sourcelist "{folder}/sources.list";',
                'Dir::Etc::sourceparts "-";',
                f'Dir::Etc::trusted "{keyring}";',
                'Dir::Etc::trustedparts "-";',
            ]
        (folder / "apt.conf").write_text("\n".join(lines) + "\n")
        self.run("apt-get", "update", "--error-on=any")

    def names(self, prefix: str) -> list[str]:
        """All packages whose name begins with ``prefix``."""
        return self.run("apt-cache", "pkgnames", prefix).split()

    def closure(self, package: str, wanted: re.Pattern[str]) -> list[str]:
        """``package`` and what it depends on, as far as the names match ``wanted``."""
        found = [package]
        for name in found:
            found += [
                dependency
                for dependency in self._dependencies(name)
                if wanted.match(dependency) and dependency not in found
            ]
        return found

    def unpack(self, packages: Iterable[str], into: Path) -> None:
        """Fetch ``packages`` and unpack them."""
        debs = self._folder / "debs"
        self.run("apt-get", "download", *packages, folder=debs)
        self._unpack(debs, into)

    def unpack_with_dependencies(self, packages: Iterable[str], into: Path) -> None:
        """Fetch ``packages`` and all that they depend on, and unpack it."""
        # Nothing is installed in this state, so that the whole closure is fetched.
        words = ("install", "--download-only", "--yes", "--no-install-recommends")
        self.run("apt-get", *words, *packages)
        self._unpack(self._folder / "cache/archives", into)

    def _unpack(self, debs: Path, into: Path) -> None:
        for deb in debs.glob("*.deb"):
            run("dpkg-deb", "-x", str(deb), str(into))

    def _dependencies(self, package: str) -> Iterator[str]:
        shown = self.run("apt-cache", "show", "--no-all-versions", package)
        for field in re.findall(r"^(?:Pre-)?Depends: (.*)$", shown, re.MULTILINE):
            for alternatives in field.split(","):
                yield re.split(r"[ (|:]", alternatives.strip(), maxsplit=1)[0]

    def run(self, program: str, *words: str, folder: Path | None = None) -> str:
        """Run one of apt's programs on this state and return its output."""
        return run(program, *words, "-q", f"--config-file={self._folder}/apt.conf", folder=folder)


def debian(folder: Path, *suites: str, architecture: str = "amd64") -> Apt:
    """An apt state with suites of Debian, the last of which goes first where several have it."""
    mirror = os.environ.get("DMABUF_VM_MIRROR") or _machines_mirror(folder)
    source = "\n".join(f"deb {mirror} {suite} main" for suite in suites)
    keyring = Path("/") / KEYRING
    if keyring.exists():
        try:
            return Apt(folder / "first", source, keyring, suites[-1], architecture)
        except Failure as failure:
            # The machine's keyring may be older than the suite.
            if "NO_PUBKEY" not in str(failure):
                raise
    keyring = _newest_keyring(folder)
    return Apt(folder / "second", source, keyring, suites[-1], architecture)


def _machines_mirror(folder: Path) -> str:
    words = ("apt-get", "indextargets", "--format", "$(LABEL) $(SITE)", "Identifier: Packages")
    # A fresh machine has no lists yet, and says nothing about its sources before it has.
    for line in (run(*words) or Apt(folder / "mirror").run(*words)).splitlines():
        label, _, site = line.partition(" ")
        if label == "Debian":
            return site
    raise Failure(
        "this machine's apt knows no Debian mirror: name one in DMABUF_VM_MIRROR, "
        "or use --kernel native"
    )


def _newest_keyring(folder: Path) -> Path:
    """Debian's keys out of the package that the machine's own distribution signs."""
    Apt(folder / "newest").unpack(["debian-archive-keyring"], folder / "keyring")
    return folder / "keyring" / KEYRING
