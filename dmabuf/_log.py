"""The logger `dmabuf.ioctl`: each ioctl in words, once it is switched on.

While it is off, nothing of it is there: `enable` puts itself in the place of the functions that
issue ioctls. A line tells the name, the descriptor and its file, the argument as it was given, what
the kernel changed in it or the error, and the time. What an ioctl makes is in its caller's list
before that, so that a signal handler that raises can't lose it here either.
"""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable
from typing import Any

from dmabuf import _ioctl, _libc
from dmabuf._procfs import open_file

_NUMBER_BITS = 0xFFFF  # below it, a constant is no request number
_ISSUERS = ((_ioctl, "ioctl"), (_ioctl, "ioctl_into"), (_libc, "ioctl"))
_SYNC = {1: "READ", 2: "WRITE", 3: "READ|WRITE"}


def enable() -> None:
    """Log every ioctl at DEBUG; to standard error, unless the program has set up logging."""
    import logging

    logger = logging.getLogger("dmabuf.ioctl")
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    for module, name in _ISSUERS:
        issue = getattr(module, name)
        if not isinstance(issue, _Logged):
            setattr(module, name, _Logged(issue, logger.debug))


def disable() -> None:
    """Log no ioctl any more."""
    for module, name in _ISSUERS:
        issue = getattr(module, name)
        if isinstance(issue, _Logged):
            setattr(module, name, issue.issue)


class _Logged:
    """A function that issues an ioctl, and tells of it."""

    def __init__(self, issue: Callable[..., Any], tell: Callable[..., None]) -> None:
        self.issue = issue
        self._tell = tell

    def __call__(self, fd: int, request: int, argument: Any, *made: Any) -> Any:
        given = _words(request, argument)
        path = open_file(fd)
        outcome = "a signal handler raised"
        began = ended = time.perf_counter()
        try:
            result = self.issue(fd, request, argument, *made)
        except OSError as error:
            ended = time.perf_counter()
            outcome = errno.errorcode.get(error.errno or 0, str(error))
            raise
        except BaseException as error:
            ended = time.perf_counter()
            outcome = type(error).__name__  # a signal handler's
            raise
        else:
            ended = time.perf_counter()
            changed = [word for word in _words(request, argument) if word not in given]
            numbers = made[0] if made else [result if isinstance(result, int) else 0]
            outcome = " ".join(changed) or str(numbers[-1])
        finally:
            name, words = _name(request), " ".join(given)
            self._tell(
                "%s on %d (%s): %s -> %s, %.3f ms",
                *(name, fd, path, words, outcome, (ended - began) * 1000),
            )
        return result


def _name(request: int) -> str:
    """Return the name that a module of the package has for a request number."""
    for module in [one for name, one in sys.modules.items() if name.endswith("_ioctl")]:
        for name, value in vars(module).items():
            if name.isupper() and value == request and request > _NUMBER_BITS:
                return name
    return f"ioctl {request:#x}"


def _words(request: int, argument: Any) -> list[str]:
    """Return an argument's fields with their values, or its bytes where it is no struct."""
    layout = _ioctl.STRUCTS.get(request)
    if layout is None:
        data = bytes(argument)
        return [str(int.from_bytes(data, sys.byteorder))] if len(data) in (4, 8) else [repr(data)]
    ffi, struct = layout
    if isinstance(argument, ffi.CData):
        argument = ffi.buffer(argument)
    fields: Any = ffi.from_buffer(f"struct {struct} *", bytearray(argument))
    if request == _ioctl.DMA_BUF_IOCTL_SYNC:
        edge = "END" if fields.flags & _ioctl.SYNC_END else "START"
        return [f"flags={_SYNC.get(fields.flags & 3, 0)}|{edge}"]
    return list(_fields(ffi, fields, ffi.typeof(f"struct {struct}")))


def _fields(ffi: Any, data: Any, kind: Any) -> Any:
    """Give a struct's plain fields as words; what is nested in it is told by its name alone."""
    for name, field in kind.fields:
        value = getattr(data, name)
        if isinstance(value, int):
            written = hex(value) if "flags" in name or name.endswith("ptr") else value
            yield f"{name}={written}"
        elif field.type.kind == "array" and field.type.item.cname == "char":
            text = bytes(ffi.buffer(value)).split(b"\0", 1)[0]
            yield f"{name}={text.decode(errors='backslashreplace')!r}"
        elif name:
            yield f"{name}=…"
