"""The Linux dma-buf: memory that devices and processes share through a file descriptor.

    import dmabuf

    with dmabuf.allocate(1 << 20, name="frame") as buffer:
        with buffer.write() as memory:
            memory[:5] = b"hello"
        pixels = buffer.array((512, 512), "u4")  # numpy, no copy

`allocate` and `Heap` make a `Buffer`; so do `udmabuf` and the devices. A `Buffer` gives access to
its memory in scopes, and exports and imports the fences (`Fence`) of the devices that work on it.
An `Image` describes the pixels in a buffer. A `Pool` lends the same buffers again and again.

`devices` has cameras (`devices.v4l2`), displays (`devices.kms`) and GPUs (`devices.drm`). `share`
passes buffers between processes. `interop` connects them to OpenGL, Vulkan, Wayland, GStreamer and
others. `usage` lists the processes that hold a buffer. `dmabuf.testing`, which a program imports by
name, has fences for tests and a pytest plugin.

Rules for the whole package: a closed object raises ValueError when it is used. Timeouts are in
seconds; None waits without limit. A method that is called `wait` returns False on a timeout, and
everything else raises TimeoutError. Every object may be used from several threads. Linux 5.6 or
later is needed; `UnsupportedError` names what the running kernel lacks.
"""

import os
from typing import TYPE_CHECKING

from dmabuf._lazy import attributes
from dmabuf.access import Access, AccessScope
from dmabuf.buffer import Buffer
from dmabuf.errors import (
    AllocationError,
    NotADmaBufError,
    NotASyncFileError,
    RefusedError,
    UnsupportedError,
)
from dmabuf.exporters import allocate
from dmabuf.fence import Fence, FenceInfo, FencePoint, FenceStatus
from dmabuf.heap import Heap, HeapInfo, heaps
from dmabuf.waiting import wait_any

if TYPE_CHECKING:
    from dmabuf import devices, image, interop, pool, share, sw_sync, udmabuf, usage
    from dmabuf.image import Image
    from dmabuf.pool import Pool

__version__ = "0.1.0"

__all__ = [
    "Access",
    "AccessScope",
    "AllocationError",
    "Buffer",
    "Fence",
    "FenceInfo",
    "FencePoint",
    "FenceStatus",
    "Heap",
    "HeapInfo",
    "Image",
    "NotADmaBufError",
    "NotASyncFileError",
    "Pool",
    "RefusedError",
    "UnsupportedError",
    "allocate",
    "devices",
    "heaps",
    "image",
    "interop",
    "log_ioctls",
    "pool",
    "share",
    "sw_sync",
    "udmabuf",
    "usage",
    "wait_any",
]

# Imported when they are first used: they would slow every start.
_LATER = ("devices", "image", "interop", "pool", "share", "sw_sync", "udmabuf", "usage")
__getattr__, __dir__ = attributes(
    __name__, {**{name: name for name in _LATER}, "Image": "image", "Pool": "pool"}
)


def log_ioctls() -> None:
    """Log every ioctl from now on: its name, file, argument, result and duration in milliseconds.

    The records go to the logger "dmabuf.ioctl" of the module `logging`, at level DEBUG. They appear
    on standard error unless the program has configured handlers. The environment variable
    DMABUF_LOG=debug switches this on when the package is imported.
    """
    from dmabuf import _log

    _log.enable()


if os.environ.get("DMABUF_LOG") == "debug":
    log_ioctls()
