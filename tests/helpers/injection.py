"""Ioctls that fail: at each allocation inside of the kernel, or with an errno of their driver's."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from collections.abc import Callable

from dmabuf import _log
from helpers import confine
from helpers.leaks import kernel_buffers


def fail_each(call: Callable[[], object]) -> list[Exception]:
    """Call with the first allocation failing, then the second, until there are no more.

    Returns the errors. The kernel may do without an allocation, and then there is none. After each,
    nothing may be lost; in the end, without any that fails, the call must succeed.
    """
    errors: list[Exception] = []
    nth = os.open("/proc/thread-self/fail-nth", os.O_RDWR)
    try:
        number = 0
        while True:
            number += 1
            before = there()
            os.pwrite(nth, str(number).encode(), 0)
            failed = None
            try:
                call()
            except (OSError, MemoryError) as error:
                failed = error
            finally:
                left = int(os.pread(nth, 16, 0).strip(b"\0\n"))
                os.pwrite(nth, b"0", 0)
            if failed is not None:
                assert not left, failed
                forget(failed)
                errors.append(failed)
                if there() != before:
                    call()  # a display's picture, say, goes with the next one
            require_left(before)
            if left:
                return errors
    finally:
        os.close(nth)


def refused(request: int, error: int, call: Callable[[], object]) -> Exception | None:
    """Return what a call raises in a thread to which the kernel refuses an ioctl with an errno."""
    raised: list[Exception] = []

    def run() -> None:
        confine.refuse_ioctl(request, error)
        try:
            call()
        except Exception as caught:
            forget(caught)
            raised.append(caught)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def issued(call: Callable[[], object]) -> set[str]:
    """Return the names of the ioctls that a call issues."""
    names: set[str] = set()

    class Names(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert isinstance(record.args, tuple)
            names.add(str(record.args[0]))

    logger, handler = logging.getLogger("dmabuf.ioctl"), Names()
    logger.addHandler(handler)
    logger.propagate = False
    _log.enable()
    try:
        call()
    finally:
        _log.disable()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(handler)
    return names


def forget(error: BaseException) -> None:
    """Take from an error what keeps the objects of the frames that it came through."""
    error.__traceback__ = error.__context__ = error.__cause__ = None


def require_left(before: tuple[int, list[str]]) -> None:
    """Wait until what may not be lost is there, and no more.

    The kernel lets go of what a display has shown, and of what has failed, in its workers.
    """
    end = time.monotonic() + 5
    while there() != before and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    assert there() == before


def there() -> tuple[int, list[str]]:
    """Return what may not be lost: buffers of the kernel's, and descriptors."""
    return kernel_buffers(), os.listdir("/proc/self/fd")
