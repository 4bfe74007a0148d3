"""Who holds which buffer: a scan of the machine, differences between two, and leak finding.

    now = dmabuf.usage.scan()
    for buffer in now.buffers:
        print(buffer.inode, buffer.size, [holder.command for holder in buffer.holders])

docs/usage.md is a guide.
"""

from dmabuf.usage._scan import scan
from dmabuf.usage.leaks import Leak, LeakError, leak_check
from dmabuf.usage.records import (
    BufferFence,
    BufferUsage,
    Diff,
    Growth,
    Holder,
    ProcessUsage,
    Total,
)
from dmabuf.usage.usage import Usage

__all__ = [
    "BufferFence",
    "BufferUsage",
    "Diff",
    "Growth",
    "Holder",
    "Leak",
    "LeakError",
    "ProcessUsage",
    "Total",
    "Usage",
    "leak_check",
    "scan",
]
