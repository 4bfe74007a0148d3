"""The Linux dma-buf: memory that devices and processes share as a file descriptor.

    import dmabuf

    with dmabuf.allocate(1 << 20, name="frame") as buffer:
        with buffer.write() as memory:
            memory[:5] = b"hello"
        pixels = buffer.array((512, 512), "u4")  # numpy, no copy

`allocate` and `Heap` make a `Buffer`, and so do `udmabuf` and the devices. A `Buffer` gives its
memory in scopes of access, and takes and gives each `Fence` of the devices that work on it. An
`Image` says what its bytes are as pixels. A `Pool` lends the same buffers again and again.

`devices` has cameras (`devices.v4l2`), displays (`devices.kms`) and GPUs (`devices.drm`). `share`
passes buffers between processes. `interop` connects them to OpenGL, GStreamer and others. `usage`
tells who holds which buffer. `dmabuf.testing`, which a program imports by its name, has fences for
tests and a pytest plugin.

A closed object raises ValueError when it is used. Time-outs are seconds, None is for ever: what is
called `wait` returns False when the time is over, everything else raises TimeoutError. All of it is
safe to use from several threads. Needs Linux 5.6; what a kernel lacks raises `UnsupportedError`.
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
__getattr__ = attributes(
    __name__, {**{name: name for name in _LATER}, "Image": "image", "Pool": "pool"}
)


def log_ioctls() -> None:
    """Log each ioctl from now on: its name, file, argument, result and time.

    By the logger "dmabuf.ioctl" of the module `logging`, at DEBUG; to standard error unless the
    program has handlers. The environment variable DMABUF_LOG=debug does this at the start.
    """
    from dmabuf import _log

    _log.enable()


if os.environ.get("DMABUF_LOG") == "debug":
    log_ioctls()


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
