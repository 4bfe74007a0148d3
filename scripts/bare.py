"""Lets scripts import `dmabuf.testing.vm` where nothing is installed: its parent needs more."""

import sys
from pathlib import Path
from types import ModuleType

_package = ModuleType("dmabuf")
_package.__path__ = [str(Path(__file__).resolve().parent.parent / "dmabuf")]
sys.modules["dmabuf"] = _package
