"""What tests of drivers and of programs with dma-bufs need: a pytest plugin, and pending fences.

The plugin is there as soon as this package and pytest are, and does nothing until it is asked; see
docs/testing.md. The fences work without pytest.
"""

from typing import TYPE_CHECKING

from dmabuf._lazy import attributes

if TYPE_CHECKING:
    from dmabuf.testing.fences import PendingFence, SwSyncSource, VgemSource, open_source

__all__ = ["PendingFence", "SwSyncSource", "VgemSource", "open_source"]

# Imported when they are first used: every run of pytest imports this.
__getattr__ = attributes(__name__, dict.fromkeys(__all__, "fences"))
