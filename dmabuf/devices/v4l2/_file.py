"""An open V4L2 node, and its use by system calls: what its queues, streams and settings share."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType, TracebackType
from typing import TypeVar

from dmabuf import _processes
from dmabuf._fd import UNUSED, Descriptor, Hold, held
from dmabuf._node import Kind, open_node
from dmabuf._owning import own
from dmabuf.devices.v4l2.info import V4l2Info, read_info
from dmabuf.errors import RefusedError, os_error

_Result = TypeVar("_Result")

_NODE = Kind("V4L2 device", "video4linux", "video", "", ("CONFIG_VIDEO_DEV",), "")
_CAUSES = {
    errno.ENODEV: "the device has gone, unplugged or unbound from its driver; close it",
    errno.EIO: "the device has failed; its driver's messages are in the kernel's log (dmesg)",
    errno.EFAULT: "it can't reach this memory; try that of a CMA heap, or its own",
}


class DeviceFile(Descriptor):
    """An open V4L2 node."""

    __slots__ = ("_info",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a node. OSError, with the path, if that fails."""
        node = os.fspath(path)
        own(self, partial(open_node, node, os.O_RDWR | os.O_NONBLOCK, _NODE), node)

    def _own(self, number: int, node: str = "") -> None:
        self._info = read_info(number, node)
        super()._own(number)

    @property
    def info(self) -> V4l2Info:
        """What the node reported when it was opened. Works when closed."""
        return self._info

    @property
    def path(self) -> str:
        """The path of the node. Works when closed."""
        return self._info.path

    @property
    def m2m(self) -> bool:
        """True for a memory-to-memory device: a codec, a scaler, a converter."""
        return self._info.m2m

    def __repr__(self) -> str:
        state = "[closed]" if self._closed else f"fd={self._number}"
        name, info = type(self).__name__, self._info
        return f"<dmabuf.devices.v4l2.{name} {info.path} {info.driver} {state}>"


def inspect(path: str | os.PathLike[str]) -> V4l2Info:
    """Open a node, query it and close it. Other users of the device are not disturbed.

    A node without video (metadata, radio, touch) has neither `capture` nor `output`. OSError, with
    the path, if it can't be opened. Follows VIDIOC_QUERYCAP and VIDIOC_REQBUFS.
    """
    with DeviceFile(path) as file:
        return file.info


def first(fits: Callable[[str], bool], what: str) -> str:
    """Return the path of the first node here that fits, in the order of their numbers.

    One that can't be asked doesn't. OSError if there is none: that of a node which this user may
    not open, or ENODEV, by `what` was wanted.
    """
    refused = None
    for path in sorted(glob.glob("/dev/video[0-9]*"), key=lambda path: (len(path), path)):
        try:
            if fits(path):
                return path
        except PermissionError as error:
            refused = error
        except OSError:
            pass
    raise refused or os_error(errno.ENODEV, f"there is no {what}")


class Use(Hold):
    """A device's descriptor in use by system calls: `with Use(device, "take a frame") as fd`.

    The number stays the device's until the block ends. An OSError of the block says what was tried,
    on which device, and the cause where that is known: by `causes`, or as for all of its calls.
    """

    __slots__ = ("_causes", "_what")
    owner: DeviceFile

    def __init__(
        self, device: DeviceFile, what: str, causes: Mapping[int, str] = MappingProxyType({})
    ) -> None:
        self.owner, self.number = device, UNUSED
        self._what = what
        self._causes = causes

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self.drop()
        if isinstance(error, OSError):
            _raise_explained(error, self.owner, self._what, self._causes)


def used(
    device: DeviceFile, what: str, call: Callable[..., _Result], *arguments: object
) -> _Result:
    """Return what a call returns that is given a device's descriptor; `Use` for one call alone."""
    try:
        return held(device, call, *arguments)
    except OSError as error:
        _raise_explained(error, device, what)
        raise


def _raise_explained(
    error: OSError, device: DeviceFile, what: str, causes: Mapping[int, str] = MappingProxyType({})
) -> None:
    """Raise an error of a device's system call with its cause; nothing if it says enough."""
    number = error.errno
    if number is None or isinstance(error, RefusedError | BlockingIOError):
        return  # without a number it is a signal handler's
    path = device.path
    if number == errno.EBUSY:
        cause = _in_use(path)
    else:
        said = str(error.strerror).removeprefix(f"{os.strerror(number)}: ")
        cause = causes.get(number) or _CAUSES.get(number, said)
    raise os_error(number, f"{path}: can't {what}: {cause}") from error


def _in_use(path: str) -> str:
    """Return why a device is busy, with the programs that have it open, as far as they show it."""
    others = ", ".join(_users(path))
    if others:
        return f"its buffers are in use; leave its stream here, or end what has it open: {others}"
    return "its buffers are in use; leave its stream, or end the program that has one"


def _users(path: str) -> Iterator[str]:
    """Give the other processes that have a node open, by name and number."""
    node = os.path.realpath(path)
    try:
        pids = _processes.pids()
    except OSError:
        return  # no /proc
    for pid in pids:
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if any(link == node for _, link in _processes.with_folder(pid, _processes.links)):
                yield f"{_processes.with_folder(pid, _processes.identity).command} ({pid})"
