"""Fences: sync_files, which signal when the work that they stand for is done."""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Sequence
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from dmabuf import _ioctl, _parcel, _wait
from dmabuf._fd import Descriptor, Hold, close_kept, held
from dmabuf._owning import descriptor_number, own, own_duplicate, owned_number
from dmabuf._procfs import open_file
from dmabuf._record import record
from dmabuf.errors import NotASyncFileError

if TYPE_CHECKING:
    from dmabuf._owning import HasFileno

_NAME_BYTES = 31  # struct sync_merge_data in include/uapi/linux/sync_file.h, less the NUL
_NANOSECONDS = 1_000_000_000
_LATEST = 2**63 / _NANOSECONDS
_Fence = TypeVar("_Fence", bound="Fence")


class FenceStatus(Enum):
    """The state of the work that a fence stands for.

        if fence.status is FenceStatus.ERROR:
            print("the device failed:", os.strerror(fence.error))

    A fence that ends with an error has signalled too: waits for it return.
    """

    ACTIVE = "active"
    """Work is pending."""
    SIGNALED = "signaled"
    """The work is done."""
    ERROR = "error"
    """Finished with an error; waits return."""


@record
class FencePoint(NamedTuple):
    """One of the fences in a sync_file, as the kernel reports it.

        for point in fence.info().points:
            print(point.driver, point.timeline, point.status)

    `Fence.info()` lists them. A merged fence has several.
    """

    driver: str
    """The driver that signals the fence. Linux 7 and later no longer report it once signalled."""
    timeline: str
    """The name of the fence's timeline. Linux 7 and later no longer report it once signalled."""
    status: FenceStatus
    """The status of this fence alone."""
    timestamp_ns: int
    """The time when it signalled, in nanoseconds of CLOCK_MONOTONIC; 0 while it is active."""


@record
class FenceInfo(NamedTuple):
    """What the kernel reports about a sync_file: its name, its status and its fences.

        name, status, points = fence.info()

    `Fence.info()` returns it. It is a snapshot.
    """

    name: str
    """The name given to `merge()`, or one that the kernel chose."""
    status: FenceStatus
    """The status of all fences together."""
    points: list[FencePoint]
    """The fences in the sync_file."""


class Fence(Descriptor):
    """One descriptor of a sync_file.

        fence = buffer.export_fence(dmabuf.Access.READ)
        if not fence.wait(timeout=1.0):
            print("still pending:", fence.info())

    `await fence` waits in asyncio. For trio and anyio wait until its `fileno()` is readable. Fences
    compare and hash by object identity, because the kernel gives a fence no identity. Thread-safe.
    Use it as a context manager, or call `close()`.

    A subclass may add methods. `dup()` and `from_fd()` do not call its `__init__`, so attributes
    that are set there are missing in their results. Follows include/uapi/linux/sync_file.h.
    """

    __slots__ = ()

    def __init__(self, fd: int) -> None:
        """Take ownership of a sync_file's descriptor.

        Raises NotASyncFileError if it refers to something else, and OSError (EBADF) if it is not
        open; the caller then still owns it. `from_fd` duplicates a descriptor instead.
        """
        number = owned_number(fd)
        _check_sync_file(number)
        super().__init__(number)

    @classmethod
    def from_fd(cls: type[_Fence], fd: int | HasFileno) -> _Fence:
        """Return a fence that owns a duplicate of `fd`. `fd` stays open.

        `fd` is a number or an object with `fileno()`. Raises NotASyncFileError if it refers to
        something else, and OSError: EBADF if it is not open, EMFILE if this process can't open more
        descriptors.
        """
        number = descriptor_number(fd)
        _check_sync_file(number)
        return own_duplicate(cls.__new__(cls), number)

    def dup(self: _Fence) -> _Fence:
        """Return another `Fence` of the same sync_file, with its own descriptor."""
        kind = type(self)
        return own_duplicate(kind.__new__(kind), self)

    @property
    def status(self) -> FenceStatus:
        """The current status."""
        return _status(self._file_info().status)

    @property
    def signaled(self) -> bool:
        """True once the work has ended, successfully or with an error."""
        return held(self, _ioctl.sync_file_info).status != 0

    @property
    def error(self) -> int | None:
        """The error that the work ended with, as a positive errno; None if active or successful."""
        status = self._file_info().status
        return -status if status < 0 else None

    @property
    def signaled_at(self) -> float | None:
        """The time when the last fence signalled, in `time.monotonic()` seconds; None while active.

        It has no meaning for the fence that an idle buffer exports.
        """
        if not self.signaled:
            return None
        return max((point.timestamp_ns for point in self.info().points), default=0) / _NANOSECONDS

    def info(self) -> FenceInfo:
        """Return what the kernel reports now: the name, the status and each fence.

        Follows SYNC_IOC_FILE_INFO in include/uapi/linux/sync_file.h.
        """
        with Hold(self) as number:
            about = _ioctl.sync_file_info(number)
            fences = _ioctl.sync_fences(number)
        points = [
            FencePoint(_ioctl.text(driver), _ioctl.text(timeline), _status(status), timestamp_ns)
            for timeline, driver, status, _, timestamp_ns in fences
        ]
        return FenceInfo(_ioctl.text(about.name), _status(_outcome(about.status, fences)), points)

    def _file_info(self) -> _ioctl.SyncFileInfo:
        with Hold(self) as number:
            about = _ioctl.sync_file_info(number)
            if about.status <= 0 or about.num_fences <= 1:
                return about
            return about._replace(status=_outcome(about.status, _ioctl.sync_fences(number)))

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the fence signals. Return False if `timeout` seconds pass first.

        A fence that ends with an error has signalled too: look at `error`. Uses poll(2). Other
        threads run meanwhile. A signal handler that raises ends the wait; `close()` in another
        thread does not.
        """
        return held(self, _wait.wait_for, self, _wait.READABLE, timeout)

    def __await__(self) -> Generator[object, None, None]:
        """Wait in the running asyncio event loop. ValueError if the fence is closed meanwhile.

        It waits on a duplicate of the descriptor, so the program may use `loop.add_reader(fence,
        …)` too. OSError (EMFILE) if this process can't open one more descriptor.
        """
        return _wait.ready(self, _wait.READABLE).__await__()

    def merge(self, *others: Fence, name: str | None = None) -> Fence:
        """Return a fence that signals when this one and all others have signalled.

        `name` is at most 31 bytes in UTF-8, else ValueError; without it the kernel chooses one. The
        kernel leaves out fences that have already signalled, with their errors, and keeps only the
        latest fence of each timeline. Follows SYNC_IOC_MERGE.
        """
        fences = [self, *others]
        for fence in fences:
            if not isinstance(fence, Fence):
                raise TypeError(f"only fences can be merged, not {type(fence).__name__}")
        label = _checked_label(name)
        if len(fences) == 1:
            fences.append(self)
        return own_fence(partial(_merge, fences, label))

    def __and__(self, other: Fence) -> Fence:
        """Return a fence that signals when both have signalled: `a & b`."""
        if not isinstance(other, Fence):
            return NotImplemented
        return self.merge(other)

    def set_deadline(self, monotonic_seconds: float) -> None:
        """Tell the driver by when the result is needed, in `time.monotonic()` seconds.

        A hint, which the driver may ignore. Needs Linux 6.6: UnsupportedError. Follows
        SYNC_IOC_SET_DEADLINE.
        """
        try:
            is_time = 0 <= monotonic_seconds < _LATEST
        except TypeError:
            kind = type(monotonic_seconds).__name__
            raise TypeError(f"a deadline is a number of seconds, not {kind}") from None
        if not is_time:
            raise ValueError(f"a deadline is a time of time.monotonic(), not {monotonic_seconds}")
        held(self, _ioctl.sync_set_deadline, int(monotonic_seconds * _NANOSECONDS))

    def __reduce__(self) -> Any:
        return _parcel.reduce(self)

    def __repr__(self) -> str:
        if not hasattr(self, "_number"):
            return "<dmabuf.Fence [not opened]>"
        if self._closed:
            return "<dmabuf.Fence [closed]>"
        try:
            about = self._file_info()
        except (OSError, ValueError):
            return f"<dmabuf.Fence fd={self._number}>"
        status = _status(about.status).value
        if about.status < 0:
            status += f" {errno.errorcode.get(-about.status, -about.status)}"
        return f"<dmabuf.Fence fd={self._number} {status} name={_ioctl.text(about.name)!r}>"


class OutFence(Fence):
    """The fence of a flip, which nobody has to close: whoever ignores it leaves nothing behind."""

    __slots__ = ()

    def __del__(self) -> None:
        self._closed = True
        super().__del__()


def own_fence(make: Callable[[list[int]], object]) -> Fence:
    """Own the sync_file that `make` adds to a list; see `own`."""
    return own(Fence.__new__(Fence), make)


def _check_sync_file(number: int) -> None:
    """Raise NotASyncFileError unless the descriptor is a sync_file."""
    try:
        _ioctl.sync_file_info(number)
    except OSError as error:
        if error.errno == errno.EBADF:
            raise
        what = f"descriptor {number} is not a sync_file but {open_file(number)}; it was left open"
        raise NotASyncFileError(what) from None


def _merge(fences: Sequence[Fence], name: bytes, made: list[int]) -> None:
    """Add to a list a sync_file of two or more fences.

    Merged is as a balanced tree: in a chain each merge would copy all before it. The list is the
    stack of what is merged so far, and `sizes` has how many fences each of that is of; few at any
    time, since two of the same size become one.
    """
    sizes: list[int] = []
    try:
        pairs = zip(fences[::2], fences[1::2], strict=False)
        for first, second in pairs:
            held(first, _merge_two, second, name, made)
            size = 2
            while sizes and sizes[-1] == size:
                _merge_last(name, made)
                size += sizes.pop()
            sizes.append(size)
        if len(fences) % 2:
            held(fences[-1], _ioctl.sync_merge, name, made[-1], made)
            close_kept(made, -2)
        while len(made) > 1:
            _merge_last(name, made)
    except BaseException:
        while made:
            close_kept(made)
        raise


def _merge_two(first: int, second: Fence, name: bytes, made: list[int]) -> None:
    """Add to a list a sync_file of a fence whose number is held, and of a second one."""
    held(second, _ioctl.sync_merge, name, first, made)


def _merge_last(name: bytes, made: list[int]) -> None:
    """Put the merge of the last two sync_files of a list in their place."""
    _ioctl.sync_merge(made[-2], name, made[-1], made)
    close_kept(made, -2, -2)


def _outcome(status: int, fences: Sequence[tuple[bytes, bytes, int, int, int]]) -> int:
    """Return a sync_file's status, with the error of its fences once all have signalled.

    The kernel's own has it only if somebody polled before (drivers/dma-buf/dma-fence-array.c).
    """
    if status <= 0:
        return status
    return next((error for _, _, error, _, _ in fences if error < 0), status)


def _status(status: int) -> FenceStatus:
    if status < 0:
        return FenceStatus.ERROR
    return FenceStatus.SIGNALED if status else FenceStatus.ACTIVE


def _checked_label(name: str | None) -> bytes:
    """Return a fence's name as the kernel takes it; TypeError or ValueError if it can't be one."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}")
    label = (name or "").encode("utf-8", "surrogateescape")
    if len(label) > _NAME_BYTES or b"\0" in label:
        raise ValueError(
            f"a fence's name must be at most {_NAME_BYTES} bytes without a NUL: {name!r}"
        )
    return label
