"""What tests of drivers and of programs with dma-bufs need: a pytest plugin, and pending fences.

The plugin is there as soon as this package and pytest are, and does nothing until it is asked; see
docs/testing.md. `dmabuf.testing.fences` works without pytest.
"""

from dmabuf.testing.fences import PendingFence, SwSyncSource, VgemSource, open_source

__all__ = ["PendingFence", "SwSyncSource", "VgemSource", "open_source"]
