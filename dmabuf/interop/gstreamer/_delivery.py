"""A sink's clients and what they have: who is sent a buffer, who misses it, who is let go."""

from __future__ import annotations

import math
import socket
import time
from contextlib import ExitStack

from dmabuf._fd import Hold
from dmabuf._mapping import prove
from dmabuf._polls import note_polled
from dmabuf._scm import MessageError
from dmabuf.interop.gstreamer._clients import Client
from dmabuf.interop.gstreamer._messages import Described
from dmabuf.interop.gstreamer._pushed import Pushed, PushedItems
from dmabuf.interop.gstreamer._unixfd import BufferMessage, Kind, pack, pack_buffer, pack_caps
from dmabuf.share._events import READABLE, Events
from dmabuf.share._offers import Offer

_PATIENCE = 10.0  # seconds for what has no time of its own


class Delivery:
    """All clients of a sink. Who uses it keeps to one thread at a time."""

    __slots__ = (
        "_caps",
        "_count",
        "_depth",
        "_events",
        "_hold_timeout",
        "_in_flight",
        "clients",
        "items",
    )

    def __init__(
        self, events: Events, *, depth: int, in_flight: int, hold_timeout: float | None
    ) -> None:
        self._events = events
        self._depth, self._in_flight = depth, in_flight
        self._hold_timeout = hold_timeout
        self._caps = b""
        self._count = 0
        self.clients: dict[int, Client] = {}
        """By their sockets' numbers."""
        self.items = PushedItems(events, _PATIENCE if hold_timeout is None else hold_timeout)

    def add(self, sock: socket.socket) -> None:
        """Let a client in, and tell it the caps."""
        client = self.clients[sock.fileno()] = Client(sock)
        self._events.watch(sock.fileno(), READABLE, client)
        if self._caps and not client.tell_caps(self._caps):
            self.disconnect(client)

    @property
    def has_room(self) -> bool:
        """Whether no client would miss a buffer."""
        if self.items.out >= self._in_flight:
            return False
        return all(len(client.held) < self._depth for client in self.clients.values())

    def send(
        self, offer: Offer, about: Described, stamps: tuple[int | None, int | None, int | None]
    ) -> int:
        """Send an item to every client that has room, and return to how many it went."""
        item = Pushed(self._count, offer)
        number = item.number
        message = pack_buffer(BufferMessage(number, *stamps, True, about.memories, about.video))
        with ExitStack() as holds:
            buffers = [item.offer.buffers[index] for index in about.buffers]
            numbers = [holds.enter_context(Hold(buffer)) for buffer in buffers]
            for buffer, descriptor in zip(buffers, numbers, strict=True):
                prove(buffer, descriptor)
                note_polled(buffer)  # by the client
            self._count += 1
            self._caps = pack_caps(about.caps)
            self.items.add(item)
            is_full = self.items.out >= self._in_flight
            try:
                for client in list(self.clients.values()):
                    self._expect_releases(client)
                    if is_full or len(client.held) >= self._depth:
                        client.dropped += 1
                    elif client.tell_caps(self._caps) and client.lend(number, message, numbers):
                        item.holders += 1
                    else:
                        self.disconnect(client)
                return item.holders
            finally:
                self.items.settle(item)

    def _expect_releases(self, client: Client) -> None:
        """Give a client its time for what it has, now that there is something newer."""
        if self._hold_timeout is not None and client.held:
            client.expect_releases(time.monotonic() + self._hold_timeout)
            self._events.wake_at(next(iter(client.held.values())))

    def end(self) -> None:
        """Tell every client that the stream has ended."""
        for client in list(self.clients.values()):
            if not client.send(pack(Kind.EOS)):
                self.disconnect(client)

    def hear(self, client: Client) -> None:
        """Take what a client says; let it go if it has gone, or says nonsense."""
        released: list[int] = []
        try:
            client.hear(released)
        except (EOFError, MessageError):
            self.disconnect(client)
        for number in released:
            self.items.let_go(number)

    def look_at_times(self) -> None:
        """Let those go whose time is over."""
        now = time.monotonic()
        self.items.look_at_times(now)
        for client in list(self.clients.values()):
            until = next(iter(client.held.values()), math.inf)
            if now >= until:
                self.disconnect(client)
            else:
                self._events.wake_at(until)

    def disconnect(self, client: Client) -> None:
        """Let a client go, with all that it holds."""
        number = client.sock.fileno()
        if self.clients.pop(number, None) is None:
            return
        self._events.unwatch(number)
        client.sock.close()
        for held in client.held:
            self.items.let_go(held)

    def close(self) -> None:
        """Let everybody go, and give every item back."""
        for client in list(self.clients.values()):
            self.disconnect(client)
        self.items.close()

    def leave(self) -> None:
        """Close this child's copies."""
        for client in self.clients.values():
            client.sock.close()
        self.items.leave()
