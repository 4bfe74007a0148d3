"""One producer, many consumers: the subscriber, which receives frames."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import Literal, TypeVar

from dmabuf import _forks, _wait
from dmabuf._checked import whole
from dmabuf._closing import Kept, require_new
from dmabuf._locks import Lock
from dmabuf._scm import MessageError
from dmabuf._timeout import deadline, seconds_left
from dmabuf.share._connection import Connection
from dmabuf.share._events import READABLE, Events
from dmabuf.share._listening import Where
from dmabuf.share._messages import MOST_DEPTH, Policy, Start
from dmabuf.share.frame import SharedFrame

_Self = TypeVar("_Self", bound="Subscriber")
_RETRY = 0.1  # seconds until the next publisher is looked for again


class Subscriber(Kept):
    """Receives the frames of a `Publisher` on the same machine, without a copy.

        with share.Subscriber("/run/cam.sock") as subscriber:
            for frame in subscriber:
                with frame:
                    show(frame.image.to_rgb())

    `where` is the publisher's path or "@name". Only the permission for the socket is needed, no
    device node. The constructor does not wait, so publisher and subscriber may be in one thread;
    every item that is published afterwards can be received. FileNotFoundError or
    ConnectionRefusedError if there is no publisher. With `reconnect` it waits for one instead, and
    when it ends, for the next one.

    `depth` is the number of frames that may be held at once. If there are many subscribers, the
    publisher's `in_flight` may allow fewer, and the next frame comes after one was given back.
    `policy` decides what happens if frames are taken more slowly than they are published: "latest"
    gives only the newest; "queue" gives the newest `depth` frames in order, or fewer if the
    publisher has no room; "every" is like "queue", but the publisher waits up to its `block`
    seconds. With `start="last"` the first frame is the last one that was published before.

    Iterate it with `for` or `async for`, or call `frame()`. In other event loops wait until
    `fileno()` is readable, and call `frame(0)` until it raises TimeoutError. A frame is requested
    only by one of these. The iteration ends when the publisher closes. Thread-safe. In a forked
    child the subscriber is closed; frames that it holds stay valid.
    """

    def __init__(
        self,
        where: Where,
        *,
        depth: int = 1,
        policy: Literal["latest", "queue", "every"] = "latest",
        start: Literal["next", "last"] = "next",
        reconnect: bool = False,
    ) -> None:
        require_new(self)
        depth = whole(depth, "depth")
        if not 1 <= depth <= MOST_DEPTH:
            raise ValueError(f"depth must be from 1 to {MOST_DEPTH} frames, not {depth}")
        self._where = where
        self._terms = depth, Policy(policy), Start(start)
        self._reconnect = reconnect
        self._lock = Lock()
        self._waiting = 0  # how many threads and tasks want a frame
        self._end: tuple[type[Exception], tuple[object, ...]] | None = None
        self._connection: Connection | None = None
        self._closed = True
        with contextlib.ExitStack() as stack:
            self._events = Events()
            stack.callback(self._events.close)
            self._connect()
            if self._connection is not None:
                stack.callback(self._connection.close)
            _forks.leave_in_child(self)
            stack.pop_all()
            self._closed = False

    def _connect(self) -> None:
        """Connect now; if nobody is there, later, if that was asked for."""
        try:
            connection = Connection(self._where, *self._terms)
        except (FileNotFoundError, ConnectionError, BlockingIOError):
            if not self._reconnect:
                raise
            self._events.wake_at(time.monotonic() + _RETRY)
            return
        self._connection = connection
        self._events.watch(connection.fileno(), READABLE, connection)

    def frame(self, timeout: float | None = None) -> SharedFrame:
        """Return the next frame. The caller has it until it is given back: `with frame`.

        TimeoutError if `timeout` seconds pass first. EOFError once the publisher has closed.
        ConnectionError if it died, sent an invalid message, or disconnected this subscriber.
        RefusedError (EBUSY) while `depth` frames are held. ValueError if the subscriber is closed,
        also during the wait.
        """
        end = deadline(timeout)
        left: float | None = None
        with self._lock:
            self._waiting += 1
        try:
            while (frame := self._next()) is None:
                late, left = left == 0.0, seconds_left(end)
                if late or not self._events.wait(left):
                    connection = self._connection
                    hint = "" if connection is None else connection.hint
                    what = f"no frame from {os.fspath(self._where)} within {timeout} s{hint}"
                    raise TimeoutError(what)
            return frame
        finally:
            with self._lock:
                self._waiting -= 1

    def _next(self) -> SharedFrame | None:
        """Return a frame that has come; ask for one, and return None, if there is none."""
        with self._lock:
            if self._closed or self._end is not None:
                self._require_open()
            connection = self._connection
            if connection is None:
                if self._events in self._events.ready():
                    self._connect()
                connection = self._connection
                if connection is None:
                    return None
            try:
                if connection.has_asked:
                    frame = connection.frame()
                    if frame is not None:
                        return frame
                self._ask(connection)
            except (EOFError, OSError, MessageError) as error:
                self._disconnect(error)
                return None
            connection.require_room()
            return None

    def _ask(self, connection: Connection) -> None:
        """Ask for what is waited for. What the publisher said before it ended is raised first."""
        try:
            connection.ask(self._waiting)
        except ConnectionError:
            connection.frame()
            raise

    def _disconnect(self, error: Exception) -> None:
        """Leave a publisher that has ended; raise the error unless the next is looked for."""
        assert self._connection is not None
        self._events.unwatch(self._connection.fileno())
        self._connection.close()
        self._connection = None
        if isinstance(error, MessageError):
            what = f"the publisher at {os.fspath(self._where)} sent an invalid message: {error}"
            error = ConnectionAbortedError(errno.ECONNABORTED, what)
        if self._reconnect and isinstance(error, (EOFError, ConnectionError)):
            self._events.wake_at(time.monotonic())
            return
        self._end = type(error), error.args
        self._events.wake_at(0.0)  # readable from now on: who waits is to hear of it
        raise error

    def fileno(self) -> int:
        """Request a frame, and return a descriptor that is readable when there is one, or the end.

        ValueError if closed.
        """
        with self._lock:
            self._require_open()
            if self._connection is not None:
                try:
                    self._connection.ask(max(self._waiting, 1))
                except OSError:
                    pass  # it has gone, and is readable: frame() says how
            return self._events.descriptor.fileno()

    @property
    def closed(self) -> bool:
        """True once `close()` was called."""
        return self._closed

    def close(self) -> None:
        """Disconnect, and end the waits of other threads and tasks with ValueError.

        Frames that are held stay valid memory until they are closed, but the publisher takes them
        back now and may write into them. Does nothing the second time.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                if self._connection is not None:
                    self._events.unwatch(self._connection.fileno())
                    self._connection.close()
            finally:
                self._events.close()

    def leave_to_parent(self) -> None:
        """Close what a forked child has of it; called in the child."""
        self._lock = Lock()
        if not self._closed:
            self._closed = True
            self._events.leave()
            if self._connection is not None:
                self._connection.leave()

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError(f"operation on a closed Subscriber: {self!r}")
        if self._end is not None:
            kind, arguments = self._end
            raise kind(*arguments)

    def __iter__(self: _Self) -> _Self:
        return self

    def __next__(self) -> SharedFrame:
        try:
            return self.frame()
        except EOFError:
            raise StopIteration from None

    def __aiter__(self: _Self) -> _Self:
        return self

    async def __anext__(self) -> SharedFrame:
        with self._lock:
            self._waiting += 1
        try:
            while (frame := self._next()) is None:
                await _wait.ready(self._events.descriptor, _wait.READABLE)
            return frame
        except EOFError:
            raise StopAsyncIteration from None
        finally:
            with self._lock:
                self._waiting -= 1

    def __enter__(self: _Self) -> _Self:
        if self._closed:
            self._require_open()
        return self

    def __repr__(self) -> str:
        state = " [closed]" if self._closed else ""
        return f"<dmabuf.share.Subscriber {os.fspath(self._where)}{state}>"
