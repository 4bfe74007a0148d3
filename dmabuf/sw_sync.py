"""The kernel's software timeline: fences that the caller signals, for tests and demonstrations.

Needs CONFIG_SW_SYNC, debugfs and root. Most distributions' kernels lack it; `devices.drm.Vgem` is
an alternative. Follows drivers/dma-buf/sw_sync.c.
"""

from __future__ import annotations

import errno
import os
from functools import partial

from dmabuf import _ioctl
from dmabuf._fd import Descriptor, Hold
from dmabuf._keep import keep
from dmabuf._kernel import how_to_get_in_debugfs
from dmabuf._owning import own
from dmabuf.errors import UnsupportedError, os_error
from dmabuf.fence import Fence, own_fence

PATH = "/sys/kernel/debug/sync/sw_sync"
_U32 = 2**32


class Timeline(Descriptor):
    """A counter that starts at 0, with fences that signal when it reaches their value.

        with sw_sync.Timeline() as timeline, timeline.fence(2) as fence:
            timeline.advance(2)
            assert fence.signaled

    Closing it ends the fences that are still active with the error ENOENT. Thread-safe. Use it as a
    context manager, or call `close()`.
    """

    __slots__ = ()

    def __init__(self) -> None:
        """Create a timeline.

        Raises UnsupportedError if the kernel has no sw_sync, and PermissionError (EACCES) if the
        user is not root.
        """
        try:
            own(self, lambda made: keep(made, os.open, PATH, os.O_RDWR | os.O_CLOEXEC))
        except FileNotFoundError:
            text = f"{PATH} is missing: it needs CONFIG_SW_SYNC and debugfs"
            how = how_to_get_in_debugfs("CONFIG_SW_SYNC")
            raise UnsupportedError(errno.ENOENT, f"{text}; {how}") from None
        except PermissionError:
            raise os_error(errno.EACCES, f"{PATH} is root's; run as root") from None
        except OSError as error:
            if error.filename is None:
                raise
            raise os_error(error.errno or errno.EIO, PATH) from None

    def fence(self, value: int) -> Fence:
        """Return a fence that signals when the counter reaches `value`, 0 to 2**32 - 1.

        A value that the counter has already reached gives a fence that has signalled. The counter
        wraps: a value more than 2**31 - 1 ahead counts as reached.
        """
        _check(value)
        with Hold(self) as number:
            return own_fence(partial(_ioctl.sw_sync_create_fence, number, value))

    def advance(self, count: int = 1) -> None:
        """Add `count`, 0 to 2**32 - 1, to the counter and signal the fences that it reaches."""
        _check(count)
        with Hold(self) as number:
            _ioctl.sw_sync_inc(number, count)

    def __repr__(self) -> str:
        state = "[closed]" if self._closed else f"fd={self._number}"
        return f"<dmabuf.sw_sync.Timeline {state}>"


def _check(value: int) -> None:
    if not isinstance(value, int):
        raise TypeError(f"a timeline's value must be an int, not {type(value).__name__}")
    if not 0 <= value < _U32:
        raise ValueError(f"a timeline counts from 0 to {_U32 - 1}; {value} is outside")
