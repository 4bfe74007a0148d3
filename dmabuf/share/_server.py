"""What a publisher and GStreamer's sink have in common: a socket that is served by their callers.

There is no thread: `_serve` of each does what is to be done, in whichever thread calls. Under one
lock, which is re-entrant, since a signal handler may publish or close amid it.
"""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Callable
from typing import ClassVar, Protocol, TypeVar

from dmabuf import _forks
from dmabuf._closing import Kept
from dmabuf._locks import Lock
from dmabuf.share._events import READABLE, Events
from dmabuf.share._listening import Listener, Where

_Self = TypeVar("_Self", bound="Server")
_AT_ONCE = 32  # connections that are taken before those who are connected have their turn
_FEW = 64  # connections that are let in, however few descriptors this process may have
_LATER = 0.5  # seconds until a connection is taken again after EMFILE


class Items(Protocol):
    """What is not given back yet."""

    failures: list[Exception]
    """What giving back raised."""


class Delivery(Protocol):
    """Those who are connected, and what they have."""

    @property
    def items(self) -> Items:
        """What is not given back yet."""

    def add(self, sock: socket.socket) -> None:
        """Let a connection in."""

    def close(self) -> None:
        """Let everybody go, and give every item back."""

    def leave(self) -> None:
        """Close a forked child's copies."""


class Server(Kept):
    """A listening socket, those who are connected, and one descriptor for all that happens."""

    _NAME: ClassVar[str]
    _closed: bool
    _delivery: Delivery

    def _listen_at(
        self,
        where: Where | socket.socket,
        mode: int,
        kind: int,
        deliver: Callable[[Events], Delivery],
    ) -> None:
        """Begin; nothing is left open if this raises."""
        self._lock = Lock()
        self._closed = True
        self._listening = False
        listener = events = None
        try:
            self._events = events = Events()
            self._listener = listener = Listener(where, mode, kind)
            self._delivery = deliver(events)
            self._listen()
            _forks.leave_in_child(self)
            self._closed = False
        except BaseException:
            for made in (listener, events):
                if made is not None:
                    made.close()
            raise

    def fileno(self) -> int:
        """Return a descriptor that is readable while `service()` has something to do."""
        self._require_open()
        return self._events.descriptor.fileno()

    @property
    def closed(self) -> bool:
        """True once `close()` was called."""
        return self._closed

    def close(self) -> None:
        """Let everybody go, remove the path, and give every item back. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                self._delivery.close()
            finally:
                try:
                    self._listener.close()
                finally:
                    self._events.close()
            self._raise_failure()

    def leave_to_parent(self) -> None:
        """Close what a forked child has of it; called in the child."""
        self._lock = Lock()
        if not self._closed:
            self._closed = True
            self._events.leave()
            self._listener.leave()
            self._delivery.leave()

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError(f"operation on a closed {type(self).__name__}: {self!r}")

    def _connected(self) -> int:
        """Return how many are connected; to be defined by what serves them."""
        raise NotImplementedError

    def _listen(self) -> None:
        if not self._listening:
            self._listening = True
            self._events.watch(self._listener.sock.fileno(), READABLE, self._listener)

    def _accept(self) -> None:
        most = max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2, _FEW)
        for _ in range(_AT_ONCE):
            try:
                sock = self._listener.accept()
            except OSError:  # no descriptor is left, or no memory: those who wait go on waiting
                self._events.unwatch(self._listener.sock.fileno())
                self._listening = False
                self._events.wake_at(time.monotonic() + _LATER)
                return
            if sock is None:
                return
            if self._connected() >= most:
                sock.close()
            else:
                self._delivery.add(sock)

    def _raise_failure(self) -> None:
        """Raise what giving an item back raised; the first, where there are several."""
        failures = self._delivery.items.failures
        if failures:
            first = failures[0]
            failures.clear()
            raise first

    def __enter__(self: _Self) -> _Self:
        self._require_open()
        return self

    def __repr__(self) -> str:
        state = " [closed]" if self._closed else ""
        place = self._listener.name if hasattr(self, "_listener") else "?"
        return f"<{self._NAME} {place}{state}>"
