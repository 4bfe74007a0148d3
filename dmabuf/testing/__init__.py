"""For tests of drivers and of programs with dma-bufs: a pytest plugin, and pending fences.

The plugin is installed with this package, and does nothing until a test uses it: see
docs/testing.md. The fences work without pytest.
"""

from typing import TYPE_CHECKING

from dmabuf._lazy import attributes

if TYPE_CHECKING:
    from dmabuf.testing.fences import PendingFence, SwSyncSource, VgemSource, open_source

__all__ = ["PendingFence", "SwSyncSource", "VgemSource", "open_source"]

# Imported when they are first used: every run of pytest imports this.
__getattr__, __dir__ = attributes(__name__, dict.fromkeys(__all__, "fences"))
