"""vgem, the kernel's test device: it exports and imports buffers, and puts fences on them."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import NamedTuple

from dmabuf._fd import Hold
from dmabuf._kernel import how_to_get
from dmabuf._record import record
from dmabuf.access import Access, access_bits
from dmabuf.devices.drm import _ioctl
from dmabuf.devices.drm._node import sibling
from dmabuf.devices.drm.device import Device
from dmabuf.devices.drm.gem import GemBuffer
from dmabuf.errors import UnsupportedError, os_error

_DIRECTORY = Path("/dev/dri")
_CLASS = "/sys/class/drm"


class Vgem(Device):
    """vgem, a test device of most distributions' kernels: it puts fences on buffers for the caller.

        with Vgem() as vgem, vgem.import_buffer(buffer) as gem:
            fence = vgem.attach_fence(gem, Access.WRITE)
            assert not buffer.is_idle(Access.READ)
            fence.signal()

    A fence that nobody signals expires after 10 seconds: it then counts as signalled, without an
    error. Closing the device signals all of its fences. Thread-safe. Use it as a context manager,
    or call `close()`. Follows drivers/gpu/drm/vgem.
    """

    __slots__ = ()

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Open vgem. Without `path` find its node: the primary node if this user may open it.

        UnsupportedError if the kernel has no vgem, or has not loaded it. PermissionError (EACCES)
        or FileNotFoundError if it has, and this user may not open the node, or the node is missing
        here.
        """
        super().__init__(_find() if path is None else path)
        if self.driver != "vgem":
            self.close()
            raise os_error(
                errno.ENODEV, f"{self.path} is not vgem but {self.driver}; leave out path"
            )

    def attach_fence(self, gem: GemBuffer[Vgem], access: Access) -> VgemFence:
        """Put a pending fence on a buffer, as a reader's (READ) or a writer's (WRITE, READ_WRITE).

        The buffer is busy until the fence is signalled. OSError (EBUSY) if another fence of vgem is
        pending that excludes it: a buffer has one writer, or readers. Follows
        DRM_IOCTL_VGEM_FENCE_ATTACH.
        """
        flags = _ioctl.VGEM_FENCE_WRITE if access_bits(access) & Access.WRITE else 0
        if not isinstance(gem, GemBuffer):
            raise TypeError(f"gem must be a drm.GemBuffer, not {type(gem).__name__}")
        if gem.device is not self:
            raise ValueError(f"the buffer was imported by {gem.device!r}, not by {self!r}")
        made: list[int] = []
        try:
            with Hold(self) as number, Hold(gem) as handle:
                _ioctl.vgem_fence_attach(number, handle, flags, made)
            return VgemFence(self, made[0])
        except BaseException as error:
            if made:  # nobody else can signal it
                VgemFence(self, made[0]).signal()
            if isinstance(error, OSError) and error.errno == errno.EBUSY:
                who = "writer" if flags else "reader"
                raise os_error(
                    errno.EBUSY,
                    f"{self.path} can't add a {who}'s fence to {gem!r}, on which one is pending:"
                    " vgem has one writer of a buffer, or readers; signal that one, or wait for it",
                ) from None
            raise


@record
class VgemFence(NamedTuple):
    """A pending fence of vgem, which `Vgem.attach_fence` returns. The caller signals it.

        with vgem.import_buffer(buffer) as gem:
            fence = vgem.attach_fence(gem, Access.WRITE)
            fence.signal()

    `buffer.export_fence()` returns the same fence as a sync_file.
    """

    device: Vgem
    """The device that the fence belongs to."""
    handle: int
    """The device's own number of the fence."""

    def signal(self) -> None:
        """Signal the fence.

        TimeoutError (ETIMEDOUT) if the fence has expired. FileNotFoundError (ENOENT) the second
        time, also after that.
        """
        with Hold(self.device) as number:
            try:
                _ioctl.vgem_fence_signal(number, self.handle)
            except OSError as error:
                raise self._refused(error) from None

    def _refused(self, error: OSError) -> OSError:
        fence = f"fence {self.handle} of {self.device.path}"
        if error.errno == errno.ETIMEDOUT:
            return os_error(
                errno.ETIMEDOUT,
                f"{fence} has expired: vgem signals each fence by itself after 10 s;"
                " signal it earlier",
            )
        if error.errno == errno.ENOENT:
            return os_error(errno.ENOENT, f"{fence} was signalled before; attach another one")
        return error


def _find() -> str:
    # Render nodes first: whoever opens a primary node may become the master of its display.
    for node in (*sorted(_DIRECTORY.glob("renderD*")), *sorted(_DIRECTORY.glob("card*"))):
        with contextlib.suppress(OSError), Device(node) as device:
            if device.driver == "vgem":
                return _primary(node)
    for name in sorted(os.listdir(_CLASS) if os.path.isdir(_CLASS) else (), reverse=True):
        if os.path.basename(os.path.realpath(f"{_CLASS}/{name}/device")) == "vgem":
            Device(_DIRECTORY / name).close()  # says what is in the way
    text = f"this kernel (Linux {os.uname().release}) has no vgem: it needs CONFIG_DRM_VGEM"
    raise UnsupportedError(errno.ENODEV, f"{text}; {how_to_get(('CONFIG_DRM_VGEM',), 'vgem')}")


def _primary(node: Path) -> str:
    """Return the primary node of the same device, which can do more, if it may be opened."""
    primary = sibling(node, "card")
    if primary and os.access(primary, os.R_OK | os.W_OK, effective_ids=True):
        return primary
    return str(node)
