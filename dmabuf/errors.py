"""The package's exceptions, and the one way an `OSError` is made from an errno."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence


class UnsupportedError(OSError):
    """The running kernel or device lacks a feature; the message names the version or option.

        try:
            fence.set_deadline(time.monotonic() + 0.016)
        except dmabuf.UnsupportedError as error:
            print(error)  # ... needs Linux 6.6; this is Linux 6.1.0-44-amd64

    The same call can succeed on another kernel or with another device.
    """


class AllocationError(OSError):
    """The requested memory could not be allocated.

        try:
            buffer = dmabuf.allocate(1 << 40)
        except dmabuf.AllocationError as error:
            print(error, error.attempts)

    `attempts` holds the error of each exporter that was tried, in order. It is empty if a single
    exporter was asked.
    """

    def __init__(self, number: int, message: str, attempts: Sequence[OSError] = ()) -> None:
        super().__init__(number, message)
        self.attempts = tuple(attempts)


class RefusedError(OSError, ValueError):
    """The request can't work; the message gives the reason, which the kernel's errno would not.

        try:
            buffer = dmabuf.udmabuf.from_memfd(memfd)
        except dmabuf.RefusedError as error:
            print(error.strerror)  # memfd 5 could shrink under the buffer; seal it: ...

    Nothing was changed. The same request will fail again.
    """


class NotADmaBufError(ValueError):
    """The descriptor does not refer to a dma-buf. It is left open.

        try:
            buffer = dmabuf.Buffer(fd)
        except dmabuf.NotADmaBufError:
            os.close(fd)

    The message says what it refers to instead.
    """


class NotASyncFileError(ValueError):
    """The descriptor does not refer to a sync_file. It is left open.

        try:
            fence = dmabuf.Fence(fd)
        except dmabuf.NotASyncFileError:
            os.close(fd)

    The message says what it refers to instead.
    """


_REMEDIES = {
    errno.EMFILE: "; close descriptors, or raise their number with ulimit -n",
    errno.ENFILE: "; close descriptors, or have root raise their number in /proc/sys/fs/file-max",
}


def os_error(number: int, what: str) -> OSError:
    """Return the `OSError` subclass for an errno, saying what was tried and what to do."""
    return OSError(number, f"{os.strerror(number)}: {what}{_REMEDIES.get(number, '')}")


def message_of(error: OSError) -> str:
    """Return an error's message without its errno, and of one of Python's own all that it has."""
    message = error.strerror or str(error)
    if error.filename is None:
        return message
    return f"{error.filename}: {message}{_REMEDIES.get(error.errno or 0, '')}"
