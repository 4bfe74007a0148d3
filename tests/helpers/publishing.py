"""Publishers and subscribers in processes of their own, and peers that keep to no rule."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import time
import traceback
import zlib
from collections.abc import Callable

import dmabuf
from dmabuf import _scm
from dmabuf.share import Publisher, _messages, _wire
from dmabuf.share._messages import Policy, Start
from helpers.process import awaited_orphans

NUMBERED = struct.Struct("<QI")
"""What stands at the beginning of a numbered frame: its number, and the checksum of the rest."""
ROUNDS = int(os.environ.get("DMABUF_TEST_ROUNDS", "10"))
"""How many processes are killed at random points; a thousand take a quarter of an hour."""
EACH = -(-ROUNDS // 10)
"""How many are killed at each message."""
SECONDS = 60.0
"""How long a test waits for what must happen; only a failure takes it."""


class Process:
    """A function in a forked process, which tells of what it does by `tell`."""

    def __init__(self, function: Callable[[Callable[[bytes], None]], object]) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.settimeout(SECONDS)
        self.pid = os.fork()
        if not self.pid:
            status = 1
            try:
                self._ours.close()
                function(lambda word: theirs.sendall(word))
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        theirs.close()
        self._status: int | None = None

    def hear(self) -> bytes:
        """Return what it tells next; nothing once it has ended."""
        return self._ours.recv(1024)

    def has_told(self) -> bool:
        """Return whether there is something to hear, its end too."""
        return bool(select.select([self._ours], [], [], 0)[0])

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for its end, and return its exit status."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self._ours.close()
        return self._status

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is None:
            with awaited_orphans(self.pid):
                self.kill()
                self.wait()


class Client:
    """A connection to a publisher that says whatever it is told to."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(SECONDS)
        self.sock.connect(path)

    def hello(self, depth: int = 1, policy: Policy = Policy.LATEST) -> None:
        self.sock.send(_wire.pack_hello(depth, policy, Start.NEXT))

    def want(self, frames: int = 1) -> None:
        self.sock.send(_wire.pack_want(frames))

    def message(self) -> _messages.Message | None:
        """Return the next message; its descriptors are closed."""
        with _scm.receive(self.sock, _wire.MOST_BYTES) as packet:
            return None if packet.ended else _wire.unpack(packet.data, packet.count)

    def frame(self) -> _messages.FrameMessage:
        """Return the next frame, whatever comes before it."""
        while not isinstance(message := self.message(), _messages.FrameMessage):
            assert message is not None, "the publisher has disconnected"
        return message

    def release(self, frame: _messages.FrameMessage) -> None:
        first = frame.memories[0]
        self.sock.send(_wire.pack_release(first.slot, first.generation, frame.sequence))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


class Ring:
    """Buffers that go round, as a camera's do; `free` are those that nobody has."""

    class Frame:
        """One of them, on its way."""

        def __init__(self, free: list[dmabuf.Buffer], buffer: dmabuf.Buffer) -> None:
            self._free = free
            self.buffers = (buffer,)

        def queue(self) -> None:
            self._free.append(self.buffers[0])

    def __init__(self, allocate: Callable[[int], dmabuf.Buffer], count: int) -> None:
        self.count = count
        self.free = [allocate(4096) for _ in range(count)]

    def frame(self) -> Frame:
        """Return the next; it fails if somebody has drained the ring."""
        return self.Frame(self.free, self.free.pop(0))

    def numbered(self, number: int) -> Frame:
        """Return the next, with its number and a checksum of what follows."""
        frame = self.frame()
        with frame.buffers[0].write() as memory:
            body = bytes([number % 251]) * (len(memory) - NUMBERED.size)
            memory[:] = NUMBERED.pack(number, zlib.crc32(body)) + body
        return frame

    def close(self) -> None:
        assert len(self.free) == self.count, "the publisher has kept some"
        for buffer in self.free:
            buffer.close()


def bad_messages(frame: _messages.FrameMessage) -> dict[str, bytes]:
    """Return what no subscriber may say that holds a frame."""
    first = frame.memories[0]
    return {
        "garbage": b"\xff" * 64,
        "a torn header": _wire.pack_want(1)[:7],
        "another version": b"DMAR\2" + _wire.pack_want(1)[5:],
        "a second HELLO": _wire.pack_hello(1, Policy.LATEST, Start.NEXT),
        "more than its depth": _wire.pack_want(2**32 - 1),
        "what only publishers say": _wire.pack_retire(0, 1),
        "a release of what it hasn't": _wire.pack_release(first.slot, first.generation, 2**63),
        "a release of another memory": _wire.pack_release(9, first.generation, frame.sequence),
        "another generation": _wire.pack_release(first.slot, 77, frame.sequence),
        "an unknown type": struct.pack("<4sBBHIHH", b"DMAR", 1, 0, 99, 0, 0, 0),
        "more than a packet": bytes(_wire.MOST_BYTES + 1),
    }


def serve_until(publisher: Publisher, condition: Callable[[], bool]) -> None:
    """Serve until something is so."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it doesn't happen"
        publisher.service(0.05)
