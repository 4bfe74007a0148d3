"""Frames for pipelines in other processes, through their unixfdsrc."""

from __future__ import annotations

import socket
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

from dmabuf._closing import require_new
from dmabuf._timeout import deadline, finite_seconds, seconds_left
from dmabuf.interop.gstreamer._clients import Client, ClientInfo
from dmabuf.interop.gstreamer._delivery import Delivery
from dmabuf.interop.gstreamer._messages import described
from dmabuf.interop.gstreamer._pushed import Pushed
from dmabuf.share._listening import Where
from dmabuf.share._offers import offered
from dmabuf.share._server import Server

if TYPE_CHECKING:
    from dmabuf.image import Image
    from dmabuf.share._offers import Publishable

_MOST_DEPTH = 64  # so many buffers under way fit into a socket


class Sink(Server):
    """Feeds every `unixfdsrc` that connects, in pipelines of other processes, without a copy.

        # gst-launch-1.0 unixfdsrc socket-path=/tmp/in.sock ! videoconvert ! autovideosink
        with v4l2.Capture("/dev/video0") as camera, gstreamer.Sink("/tmp/in.sock") as sink:
            camera.set_format("YUYV", 640, 480)
            with camera.stream(count=6) as frames:
                for frame in frames:
                    sink.push(frame)

    `where`, `mode` and the errors are those of `share.Publisher`; a listening socket must be
    SOCK_STREAM. `frame_rate`, in frames per second, becomes a part of the caps. With `drm` the caps
    are `video/x-raw(memory:DMABuf)` with a `drm-format`, for pipelines that import dma-bufs with
    any stride. Without it the images must have GStreamer's default strides, because its sources
    ignore others.

    A client holds at most `depth` buffers, and all clients together `in_flight`; they miss what is
    pushed beyond that. So `in_flight` must exceed the number of buffers of clients that may stall
    at the same time. A client is disconnected if it keeps a buffer for more than `hold_timeout`
    seconds (None: no limit) after a newer one was pushed, or does not read, or sends an invalid
    message. With `block` a push waits that many seconds for clients that would miss the buffer.

    There is no thread: `push` and `service` do all the work, and `fileno()` is readable when there
    is some. Thread-safe. In a forked child the sink is closed. The other process needs GStreamer
    1.24, this one needs none.
    """

    _NAME = "dmabuf.interop.gstreamer.Sink"
    _delivery: Delivery

    def __init__(
        self,
        where: Where | socket.socket,
        *,
        depth: int = 2,
        in_flight: int = 4,
        mode: int = 0o600,
        block: float | None = None,
        hold_timeout: float | None = 10.0,
        frame_rate: Fraction | int | None = None,
        drm: bool = False,
    ) -> None:
        require_new(self)
        self._closed = True
        if not 1 <= depth <= _MOST_DEPTH:
            raise ValueError(f"depth must be from 1 to {_MOST_DEPTH}, not {depth}")
        if in_flight < 1:
            raise ValueError(f"in_flight must be at least 1, not {in_flight}")
        if hold_timeout is not None:
            finite_seconds(hold_timeout, "hold_timeout")
        if frame_rate is not None and frame_rate < 0:
            raise ValueError(f"frame_rate must be in frames per second, not {frame_rate}")
        self._block = 0.0 if block is None else finite_seconds(block, "block")
        self._frame_rate = None if frame_rate is None else Fraction(frame_rate)
        self._drm = drm
        deliver = partial(Delivery, depth=depth, in_flight=in_flight, hold_timeout=hold_timeout)
        self._listen_at(where, mode, socket.SOCK_STREAM, deliver)

    def push(
        self,
        item: Publishable,
        *,
        pts: int | None = None,
        dts: int | None = None,
        duration: int | None = None,
        image: Image | None = None,
        caps: str | None = None,
    ) -> int:
        """Send an item to every client that has room, and return the number of clients.

        Args:
            item: an `Image` that owns its buffers, a `Buffer`, a V4L2 frame, or any object with
                `buffers` and `close()`. The sink takes it over, and gives it back (a frame) or
                closes it once every client has released it. Do not use the item afterwards.
            pts: the presentation time, in nanoseconds of `time.monotonic_ns()`; the default is
                the item's own `timestamp`, or now.
            dts: the decoding time, in the same unit; without it there is none.
            duration: the duration in nanoseconds; the default follows from `frame_rate`.
            image: the description of the item's pixels; the default is the item's own `image`.
            caps: the format of bytes that are not pixels, such as "image/jpeg".

        If it raises TypeError or ValueError, the caller still owns the item; ValueError if
        GStreamer has no such format or needs other strides. An error while an earlier item is given
        back (OSError of a device) is raised here or by `service()`; the new item is pushed then.

        """
        offer = offered(item, image, b"")
        about = described(offer, caps, self._frame_rate, drm=self._drm)
        if duration is None and self._frame_rate:
            duration = int(1_000_000_000 / self._frame_rate)
        stamps = (offer.timestamp_ns if pts is None else pts, dts, duration)
        if any(stamp is not None and not 0 <= stamp < 2**64 - 1 for stamp in stamps):
            raise ValueError(f"pts, dts and duration must be nanoseconds in 64 bits, not {stamps}")
        self._wait_for_room()
        with self._lock:
            self._require_open()
            if item in self._delivery.items:
                raise ValueError(f"{item!r} is already pushed and not given back yet; push another")
            self._serve()
            count = self._delivery.send(offer, about, stamps)
            self._raise_failure()
            return count

    def end(self) -> None:
        """Tell every client that the stream has ended, so that its pipeline can end.

        See also `wait`.
        """
        with self._lock:
            self._require_open()
            self._delivery.end()

    def wait(self, timeout: float | None = None) -> bool:
        """Serve until all pushed items are given back.

        Return False if `timeout` seconds pass first.
        """
        end = deadline(timeout)
        while True:
            with self._lock:
                self._require_open()
                self._serve()
                self._raise_failure()
                if not len(self._delivery.items):
                    return True
            left = seconds_left(end)
            if left == 0.0:
                return False
            self._events.wait(left)

    def service(self, timeout: float | None = 0.0) -> None:
        """Accept clients, handle their releases, and notice those that have ended.

        Waits up to `timeout` seconds for something to do; None waits without limit. `push` does the
        same, so call this between two calls of `push` that are far apart.
        """
        self._require_open()
        if timeout != 0:
            self._events.wait(timeout)
        with self._lock:
            self._require_open()
            self._serve()
            self._raise_failure()

    def clients(self) -> list[ClientInfo]:
        """Return the connected clients, as of the last `push` or `service`."""
        with self._lock:
            self._require_open()
            return [client.info() for client in self._delivery.clients.values()]

    @property
    def held(self) -> int:
        """The number of items that are pushed and not given back yet."""
        with self._lock:
            return 0 if self._closed else len(self._delivery.items)

    def close(self) -> None:
        """End the stream, remove the path, and give every item back. Does nothing the second time.

        A pipeline may still read a frame that goes back to its camera now, and then sees what the
        camera writes next. To let pipelines finish, call `end()` and `wait()` before.
        """
        with self._lock:
            if not self._closed:
                self._delivery.end()
            super().close()

    def _wait_for_room(self) -> None:
        """Wait until no client need miss an item."""
        if not self._block:
            return
        end = deadline(self._block)
        while True:
            with self._lock:
                self._require_open()
                self._serve()
                if self._delivery.has_room:
                    return
            left = seconds_left(end)
            if left == 0.0:
                return
            self._events.wait(left)

    def _serve(self) -> None:
        """Do what is to be done now."""
        for subject in self._events.ready():
            if isinstance(subject, Client):
                self._delivery.hear(subject)
            elif isinstance(subject, Pushed):
                self._delivery.items.settle(subject)
            elif subject is self._listener:
                self._accept()
            elif subject is self._events:
                self._listen()
                self._delivery.look_at_times()

    def _connected(self) -> int:
        return len(self._delivery.clients)
