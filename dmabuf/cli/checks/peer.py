"""A child process that is sent buffers over a Unix socket, verifies them and changes them."""

from __future__ import annotations

import os
import socket
import struct

from dmabuf.buffer import Buffer
from dmabuf.cli.checks import contents
from dmabuf.cli.console.failure import Failure

_MESSAGE = struct.Struct("<HH")  # the pattern's index that is there, and that is to be written
_DONE = b"done"


class Peer:
    """The child, as its parent has it; `close()` ends it."""

    def __init__(self) -> None:
        """Fork it: what this process has open the child has too."""
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._pid = os.fork()
        except OSError:
            self._socket.close()
            other.close()
            raise
        if not self._pid:
            status = 1
            try:
                self._socket.close()
                _serve(other)
                status = 0
            finally:
                os._exit(status)
        other.close()

    def exchange(self, buffer: Buffer, found: int, written: int) -> None:
        """Have it verify the pattern `found` in a buffer, write another, and let go of it.

        Failure says what it has against the buffer.
        """
        socket.send_fds(self._socket, [_MESSAGE.pack(found, written)], [buffer.fileno()])
        answer = self._socket.recv(4096)
        if answer != _DONE:
            raise Failure(f"in the process it was sent to: {os.fsdecode(answer) or 'it has died'}")

    def close(self) -> None:
        """End it."""
        self._socket.close()
        if self._pid:
            pid, self._pid = self._pid, 0
            os.waitpid(pid, 0)


def _serve(own: socket.socket) -> None:
    while True:
        message, numbers, _, _ = socket.recv_fds(own, _MESSAGE.size, 1)
        if not message:
            return
        try:
            with Buffer(numbers[0]) as buffer:
                found, written = _MESSAGE.unpack(message)
                difference = contents.difference(buffer, found, contents.pattern, contents.unheard)
                contents.fill(buffer, written, contents.pattern, contents.unheard)
            answer = _DONE if difference is None else str(difference).encode()
        except OSError as error:
            answer = str(error).encode("utf-8", "backslashreplace")
        own.send(answer)
