"""A V4L2 queue from its first buffer to its last: started, waited for and stopped, once.

Its state is NEW, RUNNING (`start()`), ENDING (`stop()` has begun) and OVER (its buffers are freed).
In a child that is forked after `start()` it is LEFT: the run is the parent's.
It is changed under `lock`, and so are the slots of the ring that is on it: no ioctl of one stream
can reach the next one on the same queue. The lock is re-entrant, since a signal handler may take
frames, give them back or stop while its thread has the lock.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from enum import Enum
from functools import partial

from dmabuf import _forks, _wait
from dmabuf._locks import Lock
from dmabuf.buffer import Buffer, own_buffer
from dmabuf.devices.v4l2 import _ioctl
from dmabuf.devices.v4l2._file import DeviceFile, Use
from dmabuf.devices.v4l2._waits import Waits
from dmabuf.errors import RefusedError

_CAUSES = {
    errno.EPIPE: (
        "the formats along its media pipeline don't fit together; give each pad, and this node, the"
        " format of the pad before it (`media-ctl -p` lists them, `media-ctl -V` sets them)"
    ),
    errno.ENOLINK: (
        "its media pipeline has no link to a source; enable the links from there to this node"
        " (`media-ctl -p` lists them, `media-ctl -l` sets them)"
    ),
    errno.ENOSPC: (
        "its bus, USB most likely, has not enough bandwidth left; ask for a smaller size, a lower"
        " frame rate or a compressed format, or use a port of another controller"
    ),
}
"""Why the device does not start, as the V4L2, media and USB drivers say it."""


class SessionState(Enum):
    """Whether the queue runs."""

    NEW, RUNNING, ENDING, OVER, LEFT = range(5)


# Not looked up in the class, which is a call in Python 3.10: a signal handler may raise there.
_NEW, _RUNNING, _ENDING, _OVER, _LEFT = SessionState


class StreamOverError(ValueError):
    """The stream was stopped, or its device closed."""


class Session:
    """One run of a queue. Thread-safe."""

    __slots__ = (
        "__weakref__",
        "_being_ended",
        "_count",
        "_exported",
        "_planes",
        "_state",
        "_waits",
        "device",
        "fills",
        "kind",
        "lock",
        "memory",
    )

    def __init__(
        self, device: DeviceFile, kind: int, planes: int, *, count: int, imports: bool
    ) -> None:
        """Prepare a run with `count` frames of `planes` buffers each, the caller's if `imports`."""
        most = _ioctl.VIDEO_MAX_FRAME
        if not 1 <= count <= most:
            raise ValueError(f"a stream has 1 to {most} buffers, not {count}")
        self.device = device
        self.kind = kind
        self.memory = _ioctl.V4L2_MEMORY_DMABUF if imports else _ioctl.V4L2_MEMORY_MMAP
        self.fills = kind in _ioctl.OUTPUTS
        """Whether frames come empty, for the caller to fill."""
        self.lock = Lock()
        self._count = count
        self._planes = planes
        self._state = _NEW
        self._exported: list[Buffer] = []
        self._being_ended = False  # by somebody, now
        self._waits = Waits(device, _wait.WRITABLE if self.fills else _wait.READABLE)

    @property
    def state(self) -> SessionState:
        """Whether it runs; closing the device leaves it as it is."""
        return self._state

    @property
    def running(self) -> bool:
        """Whether it was started, and neither stopped nor its device closed."""
        return self._state is _RUNNING and not self.device._closed

    @property
    def imports(self) -> bool:
        """Whether the buffers are the caller's. The device's own end with the session."""
        return self.memory == _ioctl.V4L2_MEMORY_DMABUF

    def require(self, state: SessionState) -> None:
        """Raise ValueError unless NEW, or RUNNING."""
        if self._state is state and not self.device._closed:
            return
        if self._state is _LEFT:
            path = self.device.path
            what = f"the stream from {path} is its parent's, and this is a forked child"
            raise ValueError(f"{what}; stop it there, and open {path} here")
        if state is _NEW:
            self.device.fileno()  # ValueError if closed
            raise ValueError("a stream can be used only once; make a new one")
        if self._state is _NEW:
            raise ValueError("the stream has not begun: use it as `with … as frames`")
        raise StreamOverError(f"the stream from {self.device.path} is over")

    def start(self, prepare: Callable[[int, int], None]) -> None:
        """Make buffers and start the device. NEW → RUNNING.

        In between `prepare` gets the device's descriptor and how many there are. The lock is held.
        """
        request = _ioctl.request_buffers(self.kind, self.memory, self._count)
        mine = False
        try:
            with self.lock, Use(self.device, "stream", _CAUSES) as fd:
                self.require(_NEW)
                _forks.leave_in_child(self)
                mine = True
                try:
                    _ioctl.reqbufs(fd, request)
                finally:
                    if request.capabilities:
                        self._state = _RUNNING
                self._state = _RUNNING  # of a driver that doesn't tell capabilities
                self._waits.begin()
                if self.imports:
                    self._require_count(request.count)
                prepare(fd, request.count)
                _ioctl.streamon(fd, self.kind)
        except BaseException:
            if mine:
                self.stop()  # nothing, if there are no buffers
            raise

    def _require_count(self, count: int) -> None:
        path = self.device.path
        if count > self._count:
            text = f"{path} needs at least {count} buffers, not {self._count}"
            raise RefusedError(errno.EINVAL, text)
        if count < self._count:
            text = f"{path} takes at most {count} buffers, not {self._count}"
            raise RefusedError(errno.EINVAL, text)

    def export(self, fd: int, count: int) -> list[tuple[Buffer, ...]]:
        """Return the device's own buffers, of each frame; they are closed with the session."""
        for index in range(count):
            for plane in range(self._planes):
                export = partial(_ioctl.expbuf, fd, self.kind, index, plane)
                self._exported.append(own_buffer(export))
        return list(zip(*[iter(self._exported)] * self._planes, strict=True))

    def stop(self) -> None:
        """Stop the device, end all waits and free the buffers. RUNNING → ENDING → OVER. Idempotent.

        One thread does it. If a signal handler raises amid it, it is done all the same; if a second
        one raises amid that, it is left to the next call, or to the stream's finalizer.
        """
        mine = False
        try:
            with self.lock:
                mine = self._state is _RUNNING or (self._state is _ENDING and not self._being_ended)
                if mine:
                    # No signal handler runs in these two lines.
                    self._state = _ENDING
                    self._being_ended = True
                elif self._state is _LEFT:
                    self._close_own()
            if mine:
                self._end()
        except BaseException:
            if mine and self._state is _ENDING:
                self._end()
            raise
        finally:
            if mine:
                self._being_ended = False

    def _end(self) -> None:
        try:
            with contextlib.suppress(ValueError), Use(self.device, "stop") as fd:
                _ioctl.streamoff(fd, self.kind)
                # A poll of a queue without buffers would start read(2) on it: while one goes on,
                # the buffers are left to the next stream, or to the device's close.
                nobody_waits = self._waits.end()
                self._close_own()
                if nobody_waits:
                    _ioctl.reqbufs(fd, _ioctl.request_buffers(self.kind, self.memory, 0))
        except OSError as error:
            if error.errno is not None:  # else a signal handler's
                self._state = _OVER
            if error.errno != errno.ENODEV:
                raise
        finally:
            self._close_own()
            self._waits.close()
        self._state = _OVER

    def leave_to_parent(self) -> None:
        """Leave the run to the parent; called in a forked child.

        The child may read what is held, so the buffers stay open until it stops, too.
        """
        self.lock = Lock()
        if self._state is not _OVER:
            self._state = _LEFT
        self._waits.leave()

    def _close_own(self) -> None:
        for buffer in self._exported:
            buffer.close()

    def wait(self, timeout: float | None) -> bool:
        """Wait until there may be a frame, or the session is over. False on a time-out."""
        try:
            return self._waits.wait(timeout)
        except ValueError:
            self.require(_RUNNING)  # or its device was closed
            raise

    async def ready(self) -> None:
        """Wait in asyncio until there may be a frame, or the session is over."""
        try:
            await self._waits.ready()
        except ValueError:
            self.require(_RUNNING)  # or its device was closed
            raise
