"""A real process that does with descriptors what it is told, one step at a time."""

from __future__ import annotations

import os
import pickle
import signal
import socket
from types import TracebackType


class Peer:
    """A forked child; `do(source)` runs statements in it and returns their `result`."""

    def __init__(self, *, user: int | None = None) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._gift, taken = socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            status = 1
            try:
                self._ours.close()
                self._gift.close()
                if user is not None:
                    os.setgroups([])
                    os.setgid(user)
                    os.setuid(user)
                _serve(theirs, taken)
                status = 0
            finally:
                os._exit(status)
        theirs.close()
        taken.close()

    def do(self, source: str) -> object:
        """Run statements in the peer, which keeps its variables; return its `result`."""
        self.tell(source)
        result, error = pickle.loads(self._ours.recv(1 << 20))
        if error is not None:
            raise error
        return result

    def tell(self, source: str) -> None:
        """Have statements run that give no answer."""
        self._ours.send(source.encode())

    def send(self, number: int) -> None:
        """Send a descriptor, which waits in the socket until `do("receive()")`."""
        socket.send_fds(self._gift, [b"x"], [number])

    def kill(self) -> None:
        """End it as a crash does, and wait."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        """Wait for its end."""
        if self.pid:
            os.waitpid(self.pid, 0)
            self.pid = 0

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ours.close()
        self._gift.close()
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()


def _serve(control: socket.socket, gifts: socket.socket) -> None:
    def receive() -> int:
        return socket.recv_fds(gifts, 1, 1)[1][0]

    names: dict[str, object] = {"receive": receive}
    while source := control.recv(1 << 16):
        error = None
        names["result"] = None
        try:
            exec(source, names)
        except BaseException as raised:
            error = raised
        control.send(pickle.dumps((names["result"], error)))
