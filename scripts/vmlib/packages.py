"""Distribution packages, fetched and unpacked, not installed: apt with a state of its own.

The machine's apt says where the mirror is and how to reach it (proxy, certificates), and checks
the signatures. Its own lists, its cache and its installed packages are neither used nor changed.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from vmlib.failure import Failure
from vmlib.processes import run

KEYRING = Path("usr/share/keyrings/debian-archive-keyring.gpg")


class Apt:
    """An apt state in ``folder``, with ``sources`` or with the machine's own."""

    def __init__(self, folder: Path, sources: str | None = None) -> None:
        self._folder = folder
        for name in ("lists/partial", "cache/archives/partial", "debs"):
            (folder / name).mkdir(parents=True)
        lines = [
            # The hooks that distributions add serve the machine's own lists.
            "#clear APT::Update::Pre-Invoke;",
            "#clear APT::Update::Post-Invoke;",
            "#clear APT::Update::Post-Invoke-Success;",
            'APT::Architecture "amd64";',
            'APT::Architectures "amd64";',
            'APT::Sandbox::User "";',
            f'Dir::State::lists "{folder}/lists";',
            'Dir::State::status "/dev/null";',
            f'Dir::Cache "{folder}/cache";',
        ]
        if sources:
            (folder / "sources.list").write_text(sources)
            lines += [
                f'Dir::Etc::sourcelist "{folder}/sources.list";',
                'Dir::Etc::sourceparts "-";',
            ]
        (folder / "apt.conf").write_text("\n".join(lines) + "\n")
        self._run("apt-get", "update", "--error-on=any")

    def names(self, prefix: str) -> list[str]:
        """All packages whose name begins with ``prefix``."""
        return self._run("apt-cache", "pkgnames", prefix).split()

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
        self._run("apt-get", "download", *packages, folder=debs)
        for deb in debs.iterdir():
            run("dpkg-deb", "-x", str(deb), str(into))

    def _dependencies(self, package: str) -> Iterator[str]:
        shown = self._run("apt-cache", "show", "--no-all-versions", package)
        for field in re.findall(r"^(?:Pre-)?Depends: (.*)$", shown, re.MULTILINE):
            for alternatives in field.split(","):
                yield re.split(r"[ (|:]", alternatives.strip(), maxsplit=1)[0]

    def _run(self, program: str, *words: str, folder: Path | None = None) -> str:
        return run(program, f"--config-file={self._folder}/apt.conf", "-q", *words, folder=folder)


def debian(folder: Path, suite: str) -> Apt:
    """An apt state with one suite of Debian."""
    mirror = os.environ.get("DMABUF_VM_MIRROR") or _machines_mirror()
    keyring = Path("/") / KEYRING
    if not keyring.exists():
        return Apt(folder, _source(_newest_keyring(folder), mirror, suite))
    try:
        return Apt(folder / "first", _source(keyring, mirror, suite))
    except Failure as failure:
        if "NO_PUBKEY" not in str(failure):
            raise
    # The machine's keyring is older than the suite.
    return Apt(folder / "second", _source(_newest_keyring(folder), mirror, suite))


def _machines_mirror() -> str:
    form = "$(LABEL) $(SITE)"
    for line in run(
        "apt-get", "indextargets", "--format", form, "Identifier: Packages"
    ).splitlines():
        label, _, site = line.partition(" ")
        if label == "Debian":
            return site
    raise Failure(
        "this machine's apt knows no Debian mirror: name one in DMABUF_VM_MIRROR, "
        "or use --kernel native"
    )


def _newest_keyring(folder: Path) -> Path:
    """Debian's keys out of the package that the machine's own distribution signs."""
    Apt(folder / "machine").unpack(["debian-archive-keyring"], folder / "keyring")
    return folder / "keyring" / KEYRING


def _source(keyring: Path, mirror: str, suite: str) -> str:
    return f"deb [signed-by={keyring}] {mirror} {suite} main\n"
