"""What a machine must have for tests, by the words of `--dmabuf-require`, and how to get at it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import dmabuf
from dmabuf._kernel import how_to_get, how_to_get_in_debugfs
from dmabuf._owning import own_result
from dmabuf.errors import UnsupportedError, os_error

_BUFINFO = "/sys/kernel/debug/dma_buf/bufinfo"
# The kernel's own test camera. Others show what is before them, and are not a test's to set up;
# vimc gives nothing before its media pipeline is.
_CAMERA = "vivid"
_FORMATS = ("XRGB8888", "RGB888", "BGR888")
_SIZE = 320, 180


def open_heap() -> dmabuf.Heap:
    """Open the system heap, or else the first that the processor may touch."""
    try:
        return dmabuf.Heap("system")
    except OSError as error:
        for info in dmabuf.heaps() if os.path.isdir("/dev/dma_heap") else ():
            if not info.protected:
                return dmabuf.Heap(info)
        raise error


def open_display() -> dmabuf.devices.kms.Display:
    """Open the first connected display whose driver imports buffers."""
    return dmabuf.devices.kms.Display()


def open_camera() -> dmabuf.devices.v4l2.Capture:
    """Open a test driver's camera, and set it to small pictures in colour."""
    path = _find_camera()
    camera = dmabuf.devices.v4l2.Capture(path)
    try:
        if camera.device.inputs():
            camera.device.set_input(0)
        formats = camera.formats()
        names = {info.format.name for info in formats if info.format}
        wanted = next((name for name in _FORMATS if name in names), None)
        camera.set_format(wanted or formats[0].fourcc, *_SIZE)
    except BaseException:
        camera.close()
        raise
    return camera


def _find_camera() -> str:
    from dmabuf.devices.v4l2 import _file

    def is_camera(path: str) -> bool:
        about = _file.inspect(path)
        return about.capture and not about.m2m and about.driver == _CAMERA

    try:
        return _file.first(is_camera, "test camera here")
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
    text = "there is no test camera here: it needs CONFIG_VIDEO_VIVID"
    raise UnsupportedError(errno.ENODEV, f"{text}; {how_to_get(('CONFIG_VIDEO_VIVID',), 'vivid')}")


def _try_debugfs() -> None:
    try:
        own_result(os.open, _BUFINFO, os.O_RDONLY | os.O_CLOEXEC).close()
    except FileNotFoundError:
        text = f"{_BUFINFO} is missing: it needs CONFIG_DEBUG_FS"
        how = how_to_get_in_debugfs("CONFIG_DEBUG_FS")
        raise UnsupportedError(errno.ENOENT, f"{text}; {how}") from None
    except PermissionError:
        raise os_error(errno.EACCES, f"{_BUFINFO} is root's: run as root") from None


ATTEMPTS: dict[str, Callable[[], object]] = {
    "heap": lambda: open_heap().close(),
    "udmabuf": lambda: dmabuf.udmabuf.allocate(4096).close(),
    "vgem": lambda: dmabuf.devices.drm.Vgem().close(),
    "debugfs": _try_debugfs,
    "camera": lambda: open_camera().close(),
    "display": lambda: open_display().close(),
}
"""What raises an OSError, which tells why and what to do, where the machine has no such thing."""
