"""A running V4L2 output queue: frames come empty, and go to the device once filled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmabuf import _wait
from dmabuf.access import Access
from dmabuf.devices.v4l2.frame import Frame
from dmabuf.devices.v4l2.stream import Stream, _State

if TYPE_CHECKING:
    from dmabuf.buffer import Buffer
    from dmabuf.devices.v4l2._slot import Slot, Source


class OutputStream(Stream):
    """The frames of an output queue while it runs: `with output.stream(…) as frames`.

    As a `Stream`, but a frame comes empty: fill it and leave its scope, which queues it. A scope
    that is left by an exception does not. Queueing waits for pending writers of the buffers.
    """

    __slots__ = ()
    _fills = True
    _access = Access.READ
    _events = _wait.WRITABLE

    def _before(self) -> list[Slot]:
        return []

    def _start(self) -> None:
        super()._start()
        self._free.extend(self._slots)

    def _ready(self) -> Frame | None:
        self._require(_State.RUNNING)
        try:
            return Frame(self, self._free.popleft(), None)
        except IndexError:
            return super()._ready()

    def _take_abandoned(self) -> None:
        pass

    def _abandon(self, slot: Slot) -> None:
        self._free.append(slot)

    def queue(self, source: Source, timeout: float | None = None) -> tuple[Buffer, ...] | None:
        """Queue a frame on buffers of the caller's, once the device is done with an earlier one.

        Returns the buffers of that one, None while there is place without. `timeout` as for
        `frame()`. RefusedError if the buffers don't fit the format, or the stream has its own.
        """
        frame = self.frame(timeout)
        with frame:
            done = frame.buffers if frame.used else None
            frame.replace(source)
        return done
