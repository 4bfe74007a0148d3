"""A running codec: frames go in and others come out, until all that was fed is finished."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable, Iterable, Iterator, Sequence

from dmabuf import _forks, _wait
from dmabuf._fd import Descriptor
from dmabuf._locks import Lock
from dmabuf._timeout import deadline
from dmabuf.buffer import Buffer
from dmabuf.devices.v4l2._file import DeviceFile, Use
from dmabuf.devices.v4l2._frames import Frames
from dmabuf.devices.v4l2._session import SessionState
from dmabuf.devices.v4l2._source import Source
from dmabuf.devices.v4l2._waits import Waits
from dmabuf.devices.v4l2.events import Event, Events
from dmabuf.devices.v4l2.format import Format
from dmabuf.devices.v4l2.frame import Data, Frame, FrameFlag
from dmabuf.devices.v4l2.stream import OutputStream, Stream
from dmabuf.errors import os_error

Results = Callable[[Format], Sequence[Source]]
"""What returns buffers for the frames that a codec makes, once their format is known."""


class Coding(Frames):
    """A running codec: `with encoder.stream() as coding`, or a decoder's.

        with v4l2.Decoder("/dev/video1") as decoder, decoder.stream() as coding:
            for frame in coding.process(packets):
                with frame:
                    frame.image.save("frame.png")

    `process()` feeds frames and returns the results in one loop. Or `feed()` frames and take the
    results as from a `Stream`: by `frame()`, `for`, `async for`, or by `take()` without waiting.
    Several threads or tasks may do both at once. The codec takes no more frames while its results
    wait to be taken.

    After `stop()` the codec finishes what it was given, and the iteration ends after the last
    frame. Leaving the block ends everything at once. A `Coding` can be used once.

    A decoder has no `format` until it has seen enough data. If the size of the pictures changes,
    later pictures come on new buffers, with another `format`. A frame of the old size that is still
    held stays valid if its buffers are your own; the device's own are closed. Thread-safe.
    """

    __slots__ = (
        "__weakref__",
        "_announced",
        "_announcements",
        "_at_end",
        "_device",
        "_events",
        "_lock",
        "_make",
        "_over",
        "_results",
        "_sources",
        "_stop",
        "_stopped",
        "_told",
        "_waits",
    )

    def __init__(
        self,
        device: DeviceFile,
        sources: OutputStream,
        results: Callable[[], Stream],
        stop: Callable[[int], None],
        announcements: Callable[[], Events] | None,
    ) -> None:
        """See `Encoder.stream` and `Decoder.stream`.

        `results` makes a stream of what comes out, `stop` is the ioctl that tells the end, and
        `announcements` gives the events that tell what comes; None if that is known beforehand.
        """
        self._device = device
        self._sources = sources
        self._make = results
        self._stop = stop
        self._announcements = announcements
        self._lock = Lock()
        self._events: Events | None = None
        self._results: Stream | None = None
        self._announced: Event | None = None  # by which the results began
        self._at_end = True  # nothing more comes of the results; or they have not begun
        self._stopped = False
        self._told = False  # and the device knows it
        self._over = False
        wanted = _wait.READABLE | _wait.WRITABLE | (select.POLLPRI if announcements else 0)
        self._waits = Waits(device, wanted)
        _forks.leave_in_child(self)

    @property
    def sources(self) -> OutputStream:
        """The stream of the frames to feed: take an empty one, fill it, and leave its scope."""
        return self._sources

    @property
    def format(self) -> Format:
        """The format of the results. ValueError for a decoder that has seen no picture yet."""
        return self._begun().format

    @property
    def buffers(self) -> list[tuple[Buffer, ...]]:
        """The buffers of the results. ValueError for a decoder that has seen no picture yet."""
        return self._begun().buffers

    def _require(self, state: SessionState) -> None:
        """Raise ValueError unless NEW, or RUNNING."""
        self._sources._ring.session.require(state)

    def _begun(self) -> Stream:
        if self._results is None:
            raise ValueError("the decoder has seen no picture yet; feed it, and take a frame first")
        return self._results

    def __enter__(self) -> Coding:
        self._require(SessionState.NEW)
        try:
            self._waits.begin()
            if self._announcements is not None:
                self._events = self._announcements()
            self._sources.__enter__()
            if self._events is None:
                self._begin(None)
        except BaseException:
            self._end()
            raise
        return self

    async def __aenter__(self) -> Coding:
        return self.__enter__()

    def _end(self) -> None:
        with self._lock:  # nobody begins results now
            self._over = True
        try:
            if self._results is not None:
                self._results.stop()
        finally:
            try:
                self._sources.stop()
            finally:
                try:
                    self._waits.end()
                finally:
                    self._waits.close()
                    if self._events is not None:
                        self._events.close()

    def leave_to_parent(self) -> None:
        """Leave the codec to the parent; called in a forked child."""
        self._lock = Lock()
        self._waits.leave()

    def feed(
        self, data: Data | Source, timestamp: float = 0.0, timeout: float | None = None
    ) -> None:
        """Give the codec a frame as soon as there is a free slot.

        `data` is bytes, which are copied: coded data, or a whole raw frame in the set format. Or it
        is your own Image, Buffer, or one Buffer per plane, if `stream()` was given some; the codec
        keeps these until `sources` lends them again. The result has the same `timestamp`, in
        seconds.

        TimeoutError if `timeout` seconds pass first, usually because results wait to be taken.
        Other errors are those of `Frame.fill()` and `Frame.replace()`.
        """
        with self._sources.frame(timeout) as frame:
            _fill(frame, data, timestamp)

    async def feed_async(self, data: Data | Source, timestamp: float = 0.0) -> None:
        """Do the same as `feed()`, and wait in asyncio."""
        await _wait.turn()
        while (frame := self._sources.take()) is None:
            await self._sources.ready()
        async with frame:
            _fill(frame, data, timestamp)

    def stop(self) -> None:
        """Tell the codec that no more frames follow; it finishes what it has.

        Then take the remaining frames: the iteration ends after the last one, or with OSError
        (EBADMSG) if a decoder found nothing in its data. Does nothing the second time. ValueError
        unless the codec is running. Follows VIDIOC_ENCODER_CMD and VIDIOC_DECODER_CMD.
        """
        self._require(SessionState.RUNNING)
        with self._lock:
            self._stopped = True
            if self._results is not None and not self._told:
                self._tell()
        if self._events is not None:
            self._events.wake()

    def _tell(self) -> None:
        """Have the device know that it was stopped. Before its results begin it would forget it."""
        with Use(self._device, "stop its work") as fd:
            try:
                self._stop(fd)
            except OSError as error:
                if error.errno != errno.EBUSY:  # it is told: a signal handler came amid that
                    raise
        self._told = True

    def process(
        self, data: Iterable[Data | Source], timeout: float | None = None
    ) -> Iterator[Frame]:
        """Feed all of `data`, and yield each frame that comes out, up to the last one.

        It takes the codec's results before it waits for a free slot, and calls `stop()` after the
        last item. TimeoutError if nothing happens for `timeout` seconds.
        """
        deadline(timeout)  # what is no time is refused before anything is fed
        for one in data:
            while (place := self._sources.take()) is None:
                frame = self.take()
                if self._events is not None:
                    self._events.peek()  # or what others don't read would end each wait
                if frame is not None:
                    yield frame
                elif not self._waits.wait(timeout):
                    raise self._timed_out(timeout)
            with place:
                _fill(place, one, 0.0)
            while (frame := self.take()) is not None:
                yield frame
        self.stop()
        while True:
            try:
                frame = self.frame(timeout)
            except BrokenPipeError:
                return
            yield frame

    def take(self) -> Frame | None:
        """Return a frame that the codec has made; None if there is none yet.

        BrokenPipeError (EPIPE) after the last one, OSError (EBADMSG) as described at `stop()`.
        Other errors are those of `frame()`.
        """
        with self._lock:
            while True:
                self._require(SessionState.RUNNING)
                if self._at_end and not self._go_on():
                    return None
                if self._stopped and not self._told:
                    self._tell()
                results = self._begun()
                try:
                    frame = results.take()
                except BrokenPipeError:
                    self._at_end = True
                    continue
                if frame is None or FrameFlag.LAST not in frame.flags:
                    return frame
                self._at_end = True
                if any(frame.bytes_used):
                    return frame
                results._ring.leave(frame._loan)  # which is no picture

    def _go_on(self) -> bool:
        """Begin the results that were announced; False without, an error if none will be."""
        events, event, ring = self._events, None, self._sources._ring
        finished = self._stopped and (self._told or ring.take_back())
        if events is not None:
            event = events.peek()
            if event is not None and event is self._announced:
                events.take()
                event = events.peek()
        if event is not None:
            self._begin(event)
            return True
        if events is not None:
            if not finished:
                return False
            events.wake()  # others who wait
        path = self._device.path
        if self._results is None and ring.was_used:
            raise os_error(
                errno.EBADMSG,
                f"{path} has found no {self._sources.format.fourcc} in all that it was given; begin"
                f" with the start of a stream, whose header tells the size of its pictures",
            )
        done = f"{path} has finished all that it was given"
        raise BrokenPipeError(errno.EPIPE, f"{os.strerror(errno.EPIPE)}: {done}")

    def _begin(self, event: Event | None) -> None:
        """Begin the results, with the format that they have now, and end those before."""
        if self._results is not None:
            self._results.stop()
        self._results = results = self._make()
        self._announced, self._at_end = event, False
        self._told = False  # a driver may forget it when its results end
        try:
            results.__enter__()
        except BaseException:
            if not results.running:
                self._announced, self._at_end = None, True
            raise
        if self._over:
            results.stop()  # a signal handler has ended it
            return
        if self._events is not None:
            self._events.wake()  # others who waited for the results

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until there may be a frame, or the codec has ended. Return False on a timeout.

        `timeout` is in seconds.
        """
        if not self._at_end:
            return self._begun().wait(timeout)
        try:
            if self._events is None:
                return True
            if self._stopped:  # and the sources that come back tell that there was no picture
                return self._waits.wait(timeout)
            return _wait.wait(self._events, _wait.READABLE, timeout)
        except ValueError:
            return True  # it was closed

    async def ready(self) -> None:
        """Wait in asyncio until there may be a frame, or the codec has ended."""
        if not self._at_end:
            await self._begun().ready()
        elif self._events is not None:
            waits: list[tuple[Descriptor, int]] = [(self._events, _wait.READABLE)]
            if self._stopped:
                waits.append((self._device, _wait.WRITABLE))
            try:
                await _wait.ready_first(waits)
            except ValueError:
                if not self._over:
                    raise

    def _timed_out(self, timeout: float | None) -> OSError:
        message = f"no frame from {self._device.path} within {timeout} s"
        return os_error(errno.ETIMEDOUT, f"{message}; feed it more, or stop() it")

    def __repr__(self) -> str:
        state = "over" if self._over else "stopped" if self._stopped else "running"
        return f"<dmabuf.devices.v4l2.Coding of {self._device!r} [{state}]>"


def _fill(frame: Frame, data: Data | Source, timestamp: float) -> None:
    frame.timestamp = timestamp
    try:
        view = memoryview(data)  # type: ignore[arg-type]
    except TypeError:
        frame.replace(data)  # type: ignore[arg-type]
    else:
        frame.fill(view)
