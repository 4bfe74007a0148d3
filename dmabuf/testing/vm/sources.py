"""The package dmabuf as a folder that another Python can have on its path."""

import hashlib
import shutil
from pathlib import Path

from dmabuf.testing.vm import cache

_PACKAGE = Path(__file__).resolve().parents[2]


def folder() -> Path:
    """Return a folder with the package and no other: the checkout, or a copy of what is installed.

    Beside an installed package lie others, which are for this Python alone.
    """
    if (_PACKAGE.parent / "pyproject.toml").is_file():
        return _PACKAGE.parent
    digest = hashlib.sha256()
    for path in sorted(path for path in _PACKAGE.rglob("*") if path.suffix != ".pyc"):
        digest.update(f"{path.relative_to(_PACKAGE)}\0".encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return cache.get(f"package-{digest.hexdigest()[:12]}", _copy)


def _copy(folder: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(_PACKAGE, folder / _PACKAGE.name, ignore=ignored)
