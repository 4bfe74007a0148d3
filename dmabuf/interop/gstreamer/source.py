"""Frames of a pipeline in another process, through its unixfdsink."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from functools import partial
from typing import TypeVar

from dmabuf import _forks, _wait
from dmabuf._closing import Kept, require_new
from dmabuf._locks import Lock
from dmabuf._owning import duplicate, own_descriptor
from dmabuf._scm import MessageError
from dmabuf._timeout import deadline, seconds_left
from dmabuf.errors import os_error
from dmabuf.interop.gstreamer._caps import Caps, parse_caps
from dmabuf.interop.gstreamer._content import adopt
from dmabuf.interop.gstreamer._inbox import Inbox, Message
from dmabuf.interop.gstreamer._unixfd import (
    Kind,
    pack_release,
    parse_buffer,
    parse_caps_text,
)
from dmabuf.interop.gstreamer.frame import PipelineFrame
from dmabuf.share._listening import Where, address, what_is_no_socket

_Self = TypeVar("_Self", bound="Source")
_SEND_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_MOST_UNSENT = 4096  # releases of a pipeline that doesn't read them


class Source(Kept):
    """Receives what the `unixfdsink` of a pipeline in another process sends, without a copy.

        # gst-launch-1.0 v4l2src io-mode=dmabuf ! unixfdsink socket-path=/tmp/out.sock
        with dmabuf.interop.gstreamer.Source("/tmp/out.sock") as source:
            for frame in source:
                with frame, frame.image.read() as planes:
                    print(frame.pts, planes[0].mean())

    `where` is the sink's `socket-path`, or "@name" for an abstract socket. OSError (ENOENT,
    ECONNREFUSED) if no pipeline serves it. Iterate it with `for` or `async for`, or take one frame
    with `frame()`. The pipeline lends its memory: give each frame back soon, or the pipeline has no
    buffers left.

    Everything received is checked: each descriptor is identified, and sizes are those of the
    kernel. Thread-safe. In a forked child the source is closed. The other process needs GStreamer
    1.24, this one needs none.
    """

    def __init__(self, where: Where) -> None:
        require_new(self)
        self._closed = True
        self._name = os.fspath(where)
        self._lock = Lock()
        self._releases: deque[bytes] = deque()
        self._caps: Caps | None = None
        self._over: Exception | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect(where)
            self._socket.setblocking(False)
            self._descriptor = own_descriptor(partial(duplicate, self._socket.fileno()))
        except BaseException:
            self._socket.close()
            raise
        self._inbox = Inbox(self._socket)
        self._closed = False
        _forks.leave_in_child(self)

    def _connect(self, where: Where) -> None:
        try:
            self._socket.connect(address(where))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            instead = what_is_no_socket(where)
            if instead is not None:
                what = f"{self._name} is {instead}, and not the socket of a pipeline's unixfdsink"
                raise os_error(errno.ENOTSOCK, what) from None
            what = (
                f"no pipeline serves {self._name}; start one that ends in"
                f" ! unixfdsink socket-path={self._name}"
            )
            raise os_error(error.errno or 0, what) from None

    def frame(self, timeout: float | None = None) -> PipelineFrame:
        """Return the next frame. The caller has it until it is given back: `with frame`.

        TimeoutError if `timeout` seconds pass first. EOFError after the end of the stream.
        ConnectionError if the pipeline is gone without an end of stream. MessageError (a
        ValueError) if it sent an invalid message, and OSError (EMFILE) if this process can't open
        that many descriptors; both end the connection.
        """
        end = deadline(timeout)
        left: float | None = None
        while (frame := self._take()) is None:
            late, left = left == 0.0, seconds_left(end)
            if late or not _wait.wait(self._descriptor, _wait.READABLE, left):
                what = f"no frame from the pipeline at {self._name} within {timeout:g} s"
                raise os_error(errno.ETIMEDOUT, what)
        return frame

    @property
    def caps(self) -> Caps | None:
        """The caps of the stream, as of the last frame; None before they are known."""
        return self._caps

    @property
    def closed(self) -> bool:
        """True once `close()` was called."""
        return self._closed

    def fileno(self) -> int:
        """Return a descriptor that is readable when a frame may have come."""
        return self._descriptor.fileno()

    def close(self) -> None:
        """Disconnect. The pipeline goes on. Does nothing the second time.

        Frames that are held stay valid memory, but the pipeline may write into them again.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._shut_down()
            self._leave()

    def leave_to_parent(self) -> None:
        """Close what a forked child has of it; called in the child."""
        self._lock = Lock()
        if not self._closed:
            self._closed = True
            self._leave()

    def _leave(self) -> None:
        self._inbox.close()
        self._releases.clear()
        self._descriptor.close()
        self._socket.close()

    def _shut_down(self) -> None:
        """End the connection; waits of other threads end."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the pipeline has closed it

    def give_back(self, number: int) -> None:
        """Tell the pipeline that a buffer is no longer used. Called by frames."""
        with self._lock:
            if self._closed or isinstance(self._over, ConnectionError):
                return
            self._releases.append(pack_release(number))
            self._send_releases()

    def _send_releases(self) -> None:
        while self._releases:
            release = self._releases.popleft()
            try:
                self._socket.send(release, _SEND_FLAGS)
            except BlockingIOError:
                self._releases.appendleft(release)
                if len(self._releases) > _MOST_UNSENT:
                    self._end(ConnectionResetError(errno.ECONNRESET, self._gone("reads nothing")))
                return
            except OSError:
                self._releases.clear()  # it has gone: reading will tell

    def _take(self) -> PipelineFrame | None:
        """Return the next frame, None if none has come."""
        with self._lock:
            while True:
                if self._closed:
                    raise ValueError(f"operation on a closed Source: {self!r}")
                if self._over is not None:
                    raise type(self._over)(*self._over.args)
                self._send_releases()
                try:
                    message = self._inbox.take()
                    if message is None:
                        return None
                    with message.packet:
                        frame = self._read(message)
                except (EOFError, ConnectionError):
                    what = self._gone("has ended without an end of stream")
                    self._end(ConnectionResetError(errno.ECONNRESET, what))
                except BaseException as error:
                    self._inbox.close()
                    what = self._gone(f"was left: {error}")
                    self._end(ConnectionAbortedError(errno.ECONNABORTED, what))
                    raise
                else:
                    if frame is not None:
                        return frame

    def _read(self, message: Message) -> PipelineFrame | None:
        """Take a message in; return the frame if it is one. Unknown types are skipped."""
        if message.kind == Kind.CAPS:
            try:
                self._caps = parse_caps(parse_caps_text(message.payload))
            except MessageError:
                raise
            except ValueError as error:
                raise MessageError(str(error)) from None
        elif message.kind == Kind.EOS:
            self._end(EOFError(f"the stream of {self._name} has ended"))
        elif message.kind == Kind.NEW_BUFFER:
            told = parse_buffer(message.payload)
            if self._caps is None:
                raise MessageError("a buffer before any caps")
            return PipelineFrame(told, adopt(told, message.packet), self._caps, self)
        return None

    def _end(self, why: Exception) -> None:
        """Remember why nothing comes any more."""
        if self._over is None:
            self._over = why
        if not isinstance(why, EOFError):
            self._shut_down()

    def _gone(self, how: str) -> str:
        return f"the pipeline at {self._name} {how}"

    def __enter__(self: _Self) -> _Self:
        self._descriptor.fileno()  # ValueError if it is closed
        return self

    def __iter__(self: _Self) -> _Self:
        return self

    def __next__(self) -> PipelineFrame:
        try:
            return self.frame()
        except EOFError:
            raise StopIteration from None

    def __aiter__(self: _Self) -> _Self:
        return self

    async def __anext__(self) -> PipelineFrame:
        await _wait.turn()
        try:
            while (frame := self._take()) is None:
                await _wait.ready(self._descriptor, _wait.READABLE)
            return frame
        except EOFError:
            raise StopAsyncIteration from None

    def __repr__(self) -> str:
        state = " [closed]" if self._closed else ""
        return f"<dmabuf.interop.gstreamer.Source {self._name}{state}>"
