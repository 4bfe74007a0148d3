"""One producer, many consumers: the publisher, which tracks who holds which item."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from dmabuf._closing import require_new
from dmabuf._timeout import deadline, finite_seconds, seconds_left
from dmabuf.access import Access
from dmabuf.fence import Fence
from dmabuf.share._delivery import Delivery
from dmabuf.share._items import Item, ItemState
from dmabuf.share._listening import Where
from dmabuf.share._offers import offered
from dmabuf.share._peers import Peer, SubscriberInfo
from dmabuf.share._server import Server

if TYPE_CHECKING:
    from dmabuf.image import Image
    from dmabuf.share._offers import Publishable

_PATIENCE = 10.0  # seconds for what has no time of its own


class Publisher(Server):
    """Publishes buffers to every subscriber: the same memory for all of them, without a copy.

        with v4l2.Capture("/dev/video0") as camera, share.Publisher("/run/cam.sock") as publisher:
            with camera.stream(count=6) as frames:
                for frame in frames:
                    publisher.publish(frame)

    `where` is a path, "@name" for an abstract socket, or a listening SOCK_SEQPACKET socket, such as
    systemd's, which stays the caller's. The path gets the permissions `mode`, whatever the umask.
    What a dead publisher left there is replaced. OSError: EADDRINUSE if another publisher serves
    the path, EEXIST if something else than a socket is there, EPERM if it belongs to another user.

    At most `in_flight` items are with subscribers at a time, sent or queued. With `keep_last` the
    newest item is kept as well, for subscribers that start with the last one. When all are in use,
    a new item replaces one that was queued and not sent yet; otherwise nobody gets it. Each
    subscriber may hold one item. Subscribers that hold several share the remaining items, or one.
    So `in_flight` must exceed the number of subscribers that may stall at the same time.

    A subscriber that keeps a frame for more than `hold_timeout` seconds is disconnected (None:
    never). What it may still use is kept back for another `hold_timeout` seconds, at most
    `in_flight / 2` items and at least one. A camera needs that many additional buffers.

    `block` is the number of seconds for which `publish` waits for subscribers with the policy
    "every". Without it they lose items as those with "queue" do. A subscriber that lets items wait
    for `hold_timeout` seconds loses items too, until it asks again.

    There is no thread: `publish` and `service` do all the work, and `fileno()` is readable when
    there is some. Thread-safe. In a forked child the publisher is closed.

    All holders share one open file. So a subscriber may write if the descriptor allows it: for
    read-only subscribers allocate with `Heap.allocate(access=Access.READ)`.
    """

    _NAME = "dmabuf.share.Publisher"
    _delivery: Delivery

    def __init__(
        self,
        where: Where | socket.socket,
        *,
        in_flight: int = 2,
        mode: int = 0o600,
        block: float | None = None,
        hold_timeout: float | None = 10.0,
        keep_last: bool = True,
    ) -> None:
        require_new(self)
        if in_flight < 1:
            raise ValueError(f"in_flight must be at least 1, not {in_flight}")
        patience = _PATIENCE
        if hold_timeout is not None:
            patience = finite_seconds(hold_timeout, "hold_timeout")
        self._block = 0.0 if block is None else finite_seconds(block, "block")
        deliver = partial(
            Delivery,
            in_flight=in_flight,
            keep_last=keep_last,
            hold_timeout=hold_timeout,
            patience=patience,
        )
        self._listen_at(where, mode, socket.SOCK_SEQPACKET, deliver)

    def publish(
        self,
        item: Publishable,
        *,
        image: Image | None = None,
        message: bytes = b"",
        fence: Fence | None = None,
    ) -> int:
        """Publish an item, and return the number of subscribers that get it, now or later.

        Args:
            item: a `Buffer`, also one of a pool; an image that owns its buffer; a V4L2 frame; or
                any object that has `buffers` and one of `leave()`, `queue()`, `close()`. The
                publisher takes it over, and calls that method when nobody uses the memory any
                more, or the time to do so is over. Do not use the item afterwards.
            image: the description of the item's pixels; the default is the item's own `image`.
            message: up to 4,096 bytes that are sent with it.
            fence: the fence of a device that still writes the item. It is imported into the
                buffers, so that accesses of the subscribers wait for it. Needs Linux 6.0:
                UnsupportedError.

        If it raises TypeError or ValueError, the caller still owns the item. An error while an
        earlier item is given back (OSError of a device) is raised here or by `service()`; the new
        item is published then.

        """
        offer = offered(item, image, message)
        if fence is not None and not isinstance(fence, Fence):
            raise TypeError(f"fence must be a dmabuf.Fence, not {type(fence).__name__}")
        with self._lock:
            if self._closed:
                self._require_open()
            if item in self._delivery.items:
                raise ValueError(
                    f"{item!r} is already published and not given back yet; publish another"
                )
            if fence is not None:
                for buffer in offer.buffers:
                    buffer.import_fence(fence, Access.WRITE)
            self._serve()
        if self._block:
            self._wait_for_room(self._block)
        with self._lock:
            if self._closed:
                self._require_open()
            count = self._delivery.deliver(offer)
            if self._delivery.items.failures:
                self._raise_failure()
            return count

    def service(self, timeout: float | None = 0.0) -> None:
        """Accept subscribers, handle their requests, and notice those that have ended.

        Waits up to `timeout` seconds for something to do; None waits without limit. `publish` does
        the same, so call this between two calls of `publish` that are far apart.
        """
        self._require_open()
        found = self._events.wait(timeout)
        with self._lock:
            self._require_open()
            self._serve(found)
            if self._delivery.items.failures:
                self._raise_failure()

    def subscribers(self) -> list[SubscriberInfo]:
        """Return the connected subscribers, as of the last `publish` or `service`."""
        with self._lock:
            self._require_open()
            return [peer.info() for peer in self._delivery.room.joined()]

    @property
    def quarantined(self) -> int:
        """The number of items that are kept back because somebody may still use them."""
        with self._lock:
            return 0 if self._closed else len(self._delivery.items.in_state(ItemState.QUARANTINED))

    def close(self) -> None:
        """Tell the subscribers, remove the path, and give every item back.

        A subscriber may still read a frame that goes back to its camera now, and then sees what the
        camera writes next. The subscribers' iterations end. Queued items are not delivered. Does
        nothing the second time.
        """
        super().close()

    def _wait_for_room(self, timeout: float) -> None:
        """Wait until those of policy "every" need lose nothing."""
        end = deadline(timeout)
        while True:
            with self._lock:
                self._require_open()
                self._serve()
                if not self._delivery.room.every_would_lose():
                    return
            left = seconds_left(end)
            if left == 0.0:
                return
            self._events.wait(left)

    def _serve(self, found: Sequence[tuple[int, int]] | None = None) -> None:
        """Do what is to be done now: what was found to be, or else what is looked for."""
        for subject in self._events.ready(found):
            if isinstance(subject, Peer):
                self._delivery.hear(subject)
            elif isinstance(subject, Item):
                self._delivery.items.settle(subject)
            elif subject is self._listener:
                self._accept()
            elif subject is self._events:
                self._listen()
                self._delivery.look_at_times()
        self._delivery.tidy()

    def _connected(self) -> int:
        return len(self._delivery.peers)
