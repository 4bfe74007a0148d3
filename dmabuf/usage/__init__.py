"""Which process holds which buffer: a scan of the machine, the difference of two, and leak checks.

    now = dmabuf.usage.scan()
    for buffer in now.buffers:
        print(buffer.inode, buffer.size, [holder.command for holder in buffer.holders])

The guide is docs/usage.md.
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
