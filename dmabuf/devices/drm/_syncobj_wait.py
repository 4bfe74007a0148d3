"""Waiting for sync objects until a deadline, and what the errors of their calls mean."""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack

from dmabuf._fd import Hold
from dmabuf._timeout import seconds
from dmabuf.devices.drm import _syncobj_ioctl as _ioctl
from dmabuf.devices.drm._node import Handle
from dmabuf.devices.drm.device import Device
from dmabuf.errors import UnsupportedError

_NANOSECONDS = 1_000_000_000
_NEVER = 2**63 - 1
_LONGEST = 2**33  # seconds, 272 years
_DRIVERS = "drivers of GPUs have them, and virtio-gpu from Linux 6.6 on"


def wait_for(
    device: Device,
    pairs: Sequence[tuple[Handle[Device], int]],
    timeout: float | None,
    flags: int,
    *,
    for_submit: bool,
    available: bool,
) -> int | None:
    """Wait for points of sync objects: the index of the first that signalled, None on a time-out.

    The flags say whether that is one of them or all.
    """
    deadline_ns = _deadline_ns(timeout)
    if for_submit or available:
        flags |= _ioctl.DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT
    if available:
        flags |= _ioctl.DRM_SYNCOBJ_WAIT_FLAGS_WAIT_AVAILABLE
    points = [point for _, point in pairs]
    with ExitStack() as holds:
        fd = holds.enter_context(Hold(device))
        handles = [holds.enter_context(Hold(syncobj)) for syncobj, _ in pairs]
        try:
            if any(points) or available:
                return _ioctl.syncobj_timeline_wait(fd, handles, points, deadline_ns, flags)
            return _ioctl.syncobj_wait(fd, handles, deadline_ns, flags)
        except OSError as error:
            if error.errno == errno.ETIME:
                return None
            raise call_error(error, pairs[0][0]) from None


def _deadline_ns(timeout: float | None) -> int:
    """Return the time of CLOCK_MONOTONIC, in nanoseconds, at which a wait ends."""
    if timeout is None:
        return _NEVER
    longest = min(seconds(timeout), _LONGEST)
    return time.monotonic_ns() + math.ceil(longest * _NANOSECONDS) if longest else 0


def creation_error(error: OSError, device: Device) -> OSError:
    """Return the error of a sync object that can't be created, with what to do."""
    number, about = error.errno or errno.EIO, f"{device.path} ({device.driver})"
    if number == errno.EOPNOTSUPP:
        return UnsupportedError(
            number, f"{device.path}: the driver {device.driver} has no sync objects; {_DRIVERS}"
        )
    if number == errno.EINVAL:
        return OSError(number, f"{about}: {error.strerror}; the descriptor is not a sync object")
    return OSError(number, f"{about}: {error.strerror}")


def call_error(error: OSError, syncobj: Handle[Device]) -> OSError:
    """Return the error of a call that a device refused, with what to do."""
    if isinstance(error, UnsupportedError):
        return error
    number, device = error.errno or errno.EIO, syncobj.device
    if number == errno.EOPNOTSUPP:
        return UnsupportedError(
            number,
            f"{device.path}: the driver {device.driver} has no timelines of sync objects; "
            f"{_DRIVERS}",
        )
    if number == errno.EINVAL:
        return OSError(
            number, f"{syncobj!r}: {error.strerror}; there is no fence at that point yet"
        )
    return OSError(number, f"{syncobj!r}: {error.strerror}")
