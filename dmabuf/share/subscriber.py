"""One producer, many consumers: the side that gets frames."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import warnings
from typing import Literal, TypeVar

from dmabuf import _forks, _wait
from dmabuf._checked import whole
from dmabuf._closing import Closing, require_new
from dmabuf._scm import MessageError
from dmabuf._timeout import deadline, seconds_left
from dmabuf.share._connection import Connection
from dmabuf.share._events import READABLE, Events
from dmabuf.share._listening import Where
from dmabuf.share._messages import MOST_DEPTH, Policy, Start
from dmabuf.share.frame import SharedFrame

_Self = TypeVar("_Self", bound="Subscriber")
_RETRY = 0.1  # seconds until the next publisher is looked for again


class Subscriber(Closing):
    """Gets the frames that a `Publisher` of this machine publishes, without a copy.

    ::

        with share.Subscriber("/run/cam.sock") as subscriber:
            for frame in subscriber:
                with frame:
                    show(frame.image.to_rgb())

    `where` is the publisher's path or "@name". Only the socket's permission is needed: no node in
    /dev. The constructor waits for nobody, so that both may live in one thread; what is published
    after it comes. FileNotFoundError or ConnectionRefusedError if there is no publisher, unless
    `reconnect`: then it is waited for, and after its end the next one at that path.

    `depth` is how many frames may be held at once. Beside many subscribers the publisher's
    `in_flight` may leave fewer, two or more, and the next is waited for. `policy` says what comes
    if they are taken more slowly than published: "latest", the newest; "queue", the newest `depth`
    in order, or fewer if the publisher has no room; "every", what "queue" gives, but the publisher
    waits with each for as long as it was told to (`block`). `start="last"` begins with the last
    item that was published before.

    A frame is asked for when it is waited for: by `frame()`, the iterator, or `fileno()`.

    Iterate it (`for`, `async for` in asyncio), or call `frame()`; elsewhere wait for `fileno()` to
    be readable and call `frame(0)` until it raises TimeoutError. Iteration ends when the publisher
    closes. Thread-safe. A forked child has a closed one; frames stay what they were.
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
            raise ValueError(f"depth must be 1 to {MOST_DEPTH} frames, not {depth}")
        self._where = where
        self._terms = depth, Policy(policy), Start(start)
        self._reconnect = reconnect
        self._lock = threading.RLock()
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
        """Return the next frame, which is the caller's until given back: `with frame`.

        Waits `timeout` seconds at the most: TimeoutError; what was asked for then comes later.
        EOFError once the publisher has closed; ConnectionError if it died, sent what is no message,
        or disconnected this subscriber. RefusedError (EBUSY) while `depth` frames are held, since
        none could come; ValueError if the subscriber is closed, also by another thread meanwhile.
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
            what = f"the publisher at {os.fspath(self._where)} sent what is no message: {error}"
            error = ConnectionAbortedError(errno.ECONNABORTED, what)
        if self._reconnect and isinstance(error, (EOFError, ConnectionError)):
            self._events.wake_at(time.monotonic())
            return
        self._end = type(error), error.args
        self._events.wake_at(0.0)  # readable from now on: who waits is to hear of it
        raise error

    def fileno(self) -> int:
        """Ask for a frame, and return a descriptor that is readable once there is something to get.

        That is a frame, or the end. ValueError if closed.
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
        """Whether `close()` was called."""
        return self._closed

    def close(self) -> None:
        """End the connection, and the waits of others with ValueError. Idempotent.

        Frames that are held stay valid until they are closed; the publisher takes them back now.
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
        self._lock = threading.RLock()
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

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            try:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            finally:
                self.close()

    def __repr__(self) -> str:
        state = " [closed]" if self._closed else ""
        return f"<dmabuf.share.Subscriber {os.fspath(self._where)}{state}>"
