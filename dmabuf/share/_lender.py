"""Objects that wait in this process until another one takes them, by a claim.

A claim is plain bytes, which go wherever bytes go: through a pipe, a queue, a file. Whoever has it
connects to the lender, which answers by one message of `sockets`: with the object, once, or without
one. The lender is a thread and a socket in the abstract name space; both are gone as soon as
nothing waits. A claim is 128 random bits, so that nobody takes what he wasn't told of.

`multiprocessing.resource_sharer` isn't used: it keeps a descriptor for each item that is never
taken, as when its receiver dies. Here what was pickled waits for GRACE seconds by itself, and then
for as long as its original is open: nothing is left of either. A ticket waits until it is redeemed
or cancelled.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import socket
import threading
import time
import weakref

from dmabuf import _idle, _syspoll
from dmabuf._fd import Descriptor
from dmabuf._locks import Lock
from dmabuf._owning import own_result
from dmabuf._scm import MessageError
from dmabuf._scm import receive as receive_packet
from dmabuf.buffer import Buffer
from dmabuf.fence import Fence
from dmabuf.share._claim import REQUEST, TAKE, Claim, cancel
from dmabuf.share._objects import Shared, duplicate, owners_of
from dmabuf.share.sockets import send

GRACE = 30.0
"""Seconds for which what was pickled can be taken after its original was closed."""
_CLIENT_SECONDS = 5.0  # until a connection that asks for nothing is hung up
_LATER = 0.5  # seconds until a connection is taken again after EMFILE


class _Item:
    """One object that waits."""

    def __init__(self, item: Shared, original: Buffer | Fence | None) -> None:
        self.item: Shared | None = duplicate(item)
        self._original = None if original is None else weakref.ref(original)
        self.until = None if original is None else time.monotonic() + GRACE

    def current(self) -> Shared | None:
        """Return what is to be given: the duplicate, or one of the original if it is open."""
        original = self._original() if self._original is not None else None
        if self.item is None and original is not None:
            with contextlib.suppress(ValueError):
                self.item = duplicate(original)
        return self.item

    def expire(self, now: float) -> bool:
        """Close the duplicate when its time is over; return whether nothing is left to be given."""
        if self.until is None or now < self.until:
            return False
        self.close()
        self.until = now + GRACE
        original = self._original() if self._original is not None else None
        return original is None or original.closed

    def close(self) -> None:
        item, self.item = self.item, None
        if item is not None:
            for owner in owners_of(item):
                owner.close()


class _Lender:
    """The items of this process, and the thread that gives them."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.items: dict[bytes, _Item] = {}
        self.listener: socket.socket | None = None
        self.wake: Descriptor | None = None
        self.clients: dict[int, tuple[socket.socket, float]] = {}
        self.accepts_at = 0.0
        """From when on connections are taken: later, after there was no descriptor for one."""
        _idle.register(self)

    def idle(self) -> list[Buffer | Fence]:
        """Return what waits, for whoever looks for leaks."""
        items = [item.item for item in tuple(self.items.values())]
        return [owner for item in items if item is not None for owner in owners_of(item)]

    def lend(self, item: Shared, original: Buffer | Fence | None) -> Claim:
        token = os.urandom(16)
        try:
            with self.lock:
                self.items[token] = _Item(item, original)
                if self.listener is None:
                    self._start()
                else:
                    self._wake()
                assert self.listener is not None
                return Claim(self.listener.getsockname(), token, os.getpid())
        except BaseException:
            self.drop(token)
            raise

    def drop(self, token: bytes) -> None:
        with self.lock:
            item = self.items.pop(token, None)
            if item is not None:
                item.close()
            self._wake()

    def _wake(self) -> None:
        if self.wake is not None:
            os.eventfd_write(self.wake.fileno(), 1)

    def _start(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            listener.setblocking(False)
            listener.bind(b"\0dmabuf-" + os.urandom(16).hex().encode())
            listener.listen(128)
            self.wake = own_result(os.eventfd, 0)
            self.listener = listener
            threading.Thread(
                target=self._serve, args=(listener,), name="dmabuf-lender", daemon=True
            ).start()
        except BaseException:
            self.close_sockets()
            listener.close()
            raise

    def _serve(self, listener: socket.socket) -> None:
        while True:
            now = time.monotonic()
            with self.lock:
                wake = self.wake
                if self.listener is not listener or wake is None:
                    return  # a signal handler raised once this had begun
                self._expire(now)
                if not self.items and not self.clients:
                    self.close_sockets()
                    return
                number, timeout = listener.fileno(), self._timeout()
                poll = _syspoll.poll()
                for watched in (wake.fileno(), *self.clients):
                    poll.register(watched, select.POLLIN)
                if time.monotonic() >= self.accepts_at:
                    poll.register(number, select.POLLIN)
            for ready, _ in poll.poll(timeout):
                if ready == number:
                    self._accept()
                elif ready not in self.clients:
                    os.eventfd_read(ready)
                else:
                    self._answer(ready)
            self._hang_up(now)

    def _expire(self, now: float) -> None:
        for token, item in list(self.items.items()):
            if item.expire(now):
                del self.items[token]

    def _hang_up(self, then: float) -> None:
        """Close the connections whose time was over before it was looked who asks for something."""
        for number, (client, until) in list(self.clients.items()):
            if until <= then:
                del self.clients[number]
                client.close()

    def _timeout(self) -> float | None:
        now = time.monotonic()
        times = [until for _, until in self.clients.values()]
        times += [item.until for item in self.items.values() if item.until is not None]
        if self.accepts_at > now:
            times.append(self.accepts_at)
        return max(min(times) - now, 0.0) * 1000 + 1 if times else None

    def _accept(self) -> None:
        listener = self.listener
        if listener is None:
            return
        try:
            client, _ = listener.accept()  # signal handlers run in the main thread, not in this
        except (BlockingIOError, ConnectionAbortedError):
            return  # gone again
        except OSError:  # no descriptor is left, or no memory: those who wait go on waiting
            self.accepts_at = time.monotonic() + _LATER
            return
        client.setblocking(False)
        self.clients[client.fileno()] = client, time.monotonic() + _CLIENT_SECONDS

    def _answer(self, number: int) -> None:
        client, _ = self.clients.pop(number)
        # Whatever a client does ends its connection alone.
        with client, contextlib.suppress(OSError, MessageError, EOFError):
            with receive_packet(client, REQUEST.size) as packet:
                packet.adopt(())
                if len(packet.data) != REQUEST.size:
                    return
                what, token = REQUEST.unpack(packet.data)
            self._give(client, what, token)

    def _give(self, client: socket.socket, what: int, token: bytes) -> None:
        with self.lock:
            item = self.items.get(token)
            try:
                current = item.current() if item is not None and what == TAKE else None
                send(client, [] if current is None else [current])
            finally:
                if item is not None:
                    del self.items[token]
                    item.close()

    def close_sockets(self) -> None:
        listener, self.listener = self.listener, None
        wake, self.wake = self.wake, None
        if listener is not None:
            listener.close()
        if wake is not None:
            wake.close()

    def forget(self) -> None:
        """Close the child's copies after a fork; the parent gives what waits."""
        for item in self.items.values():
            item.close()
        for client, _ in self.clients.values():
            client.close()
        self.close_sockets()

    def end(self) -> None:
        """Give up what still waits, since the process ends."""
        with self.lock:
            for token in list(self.items):
                self.items.pop(token).close()


_lender = _Lender()


def lend(item: Shared) -> Claim:
    """Have an object wait until it is taken, or dropped; the original may be closed."""
    return _lender.lend(item, None)


def lend_for_a_while(item: Buffer | Fence) -> Claim:
    """Have an object wait for GRACE seconds, and for as long as it is open itself."""
    return _lender.lend(item, item)


def waiting() -> int:
    """Return how many objects wait, and whether the lender itself is still there."""
    with _lender.lock:
        return len(_lender.items) + (_lender.listener is not None)


def drop(claim: Claim) -> None:
    """Drop what waits, unless it was taken; also from another process."""
    if claim.pid == os.getpid():
        _lender.drop(claim.token)
    else:
        cancel(claim)


def _after_fork_in_child() -> None:
    global _lender
    parents, _lender = _lender, _Lender()
    parents.forget()


atexit.register(lambda: _lender.end())
os.register_at_fork(after_in_child=_after_fork_in_child)
