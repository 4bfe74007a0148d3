"""A connection to a Wayland compositor: requests out, events in. Nothing that comes is trusted.

Whoever waits for an event reads for all: one thread at a time, which sleeps until there is
something to read. Events are handled by functions that note what they tell, and send at the most.
Where the connection ends, it says why at every later use, and what came or was to go is closed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from dmabuf import _forks, _scm, _wait
from dmabuf._fd import Descriptor, Hold
from dmabuf._keep import keep
from dmabuf._locks import Lock
from dmabuf._owning import duplicate, own, own_duplicate
from dmabuf._timeout import deadline, seconds_left
from dmabuf.errors import os_error
from dmabuf.interop.wayland import _wire
from dmabuf.interop.wayland._wire import HEADER, MalformedError

DISPLAY = 1
"""The object that is there from the beginning, wl_display."""
FIRST_OF_SERVER = 0xFF000000
"""From here on, objects are made by the compositor."""
_READ = 4096
_MOST_READS = 64  # at once, whatever the compositor sends
_MOST_DESCRIPTORS = 64  # that came before their events
_MOST_UNSENT = 1 << 20
_DONTWAIT = int(socket.MSG_DONTWAIT)

Handler = Callable[..., None]
Events = Mapping[int, tuple[str, Handler | None]]
"""What an object tells: by opcode, the signature of the event, and who notes it."""


class Client(Descriptor):
    """One connection, and its objects. Thread-safe. A forked child leaves it to its parent."""

    __slots__ = (
        *("_bytes", "_dead", "_descriptors", "_forked", "_free", "_last", "_lock", "_lost"),
        *("_more", "_name", "_objects", "_reading", "_sock", "_unsent"),
    )

    def __init__(self, where: str | os.PathLike[str] | None) -> None:
        self._forked = False
        self._lost: str | None = None
        self._lock = Lock()
        self._reading = threading.Lock()
        self._bytes = bytearray()
        self._descriptors: list[Descriptor] = []
        self._unsent: list[tuple[bytes, list[Descriptor]]] = []
        self._more: tuple[Descriptor, Callable[[], None]] | None = None
        self._last = DISPLAY
        self._free: list[int] = []
        self._dead: set[int] = set()
        self._objects: dict[int, Events] = {
            DISPLAY: {0: ("ous", self._note_error), 1: ("u", self._note_deleted)}
        }
        _forks.leave_in_child(self)
        self._sock, self._name = _connect(where)
        try:
            own(self, partial(duplicate, self._sock.fileno()))
        except BaseException:
            self._sock.close()
            raise

    # Objects.

    def new(self, events: Events) -> int:
        """Return the number of a new object, whose events are noted so."""
        with self._lock:
            if self._free:
                number = self._free.pop()
            else:
                self._last += 1
                number = self._last
            self._objects[number] = events
            return number

    def adopt(self, number: int, events: Events) -> None:
        """Take an object that the compositor has made."""
        if number < FIRST_OF_SERVER or (number in self._objects and number not in self._dead):
            raise MalformedError(f"the compositor made an object {number}, which can't be new")
        self._dead.discard(number)
        self._objects[number] = events

    def forget(self, number: int) -> None:
        """Note no event of an object any more: it is destroyed, here or by the compositor."""
        with self._lock:
            events = self._objects.get(number, {})
            self._objects[number] = {code: (words, None) for code, (words, _) in events.items()}
            self._dead.add(number)

    def _note_error(self, sender: int, code: int, words: str) -> None:
        self.lose(f"it says {words!r} (error {code} of object {sender})")

    def _note_deleted(self, number: int) -> None:
        if number >= FIRST_OF_SERVER or self._objects.pop(number, None) is None:
            raise MalformedError(f"the compositor deleted an object {number}, which it has not")
        self._dead.discard(number)
        self._free.append(number)

    def also_read(self, more: Descriptor, note: Callable[[], None]) -> None:
        """Note what else has come whenever something is readable, as if the compositor told it."""
        self._more = more, note

    # Requests.

    def send(
        self, sender: int, opcode: int, *arguments: int | str, owners: Sequence[Descriptor] = ()
    ) -> None:
        """Queue a request, with duplicates of the owners' descriptors; `flush` sends it."""
        message = _wire.pack(sender, opcode, *arguments)
        copies: list[Descriptor] = []
        try:
            for owner in owners:
                copies.append(own_duplicate(Descriptor.__new__(Descriptor), owner))
            with self._lock:
                self.require_alive()
                self._unsent.append((message, copies))
                copies = []
        finally:
            _wire.close(copies)

    def flush(self) -> None:
        """Send what is queued, as far as the compositor reads; the rest goes with what follows."""
        with self._lock, Hold(self):
            try:
                while self._unsent and self._lost is None:
                    self._send_first()
            except BlockingIOError:
                if sum(len(message) for message, _ in self._unsent) > _MOST_UNSENT:
                    self.lose("it doesn't read any more")
            except OSError as error:
                self._receive()  # it may have said why
                self.lose(f"it has closed the connection ({error.strerror})")
            except BaseException:
                self.lose("this process was interrupted amid a message to it")
                raise

    def _send_first(self) -> None:
        message, copies = self._unsent[0]
        with contextlib.ExitStack() as holds:
            numbers = [holds.enter_context(Hold(copy)) for copy in copies]
            sent = _scm.send(self._sock, (message,), numbers, flags=_DONTWAIT)
        if sent < len(message):
            self._unsent[0] = message[sent:], []
        else:
            del self._unsent[0]
        _wire.close(copies)

    # Events.

    def read(self) -> None:
        """Send what is queued, and note all events that have come, without waiting."""
        self._require_own()
        taken: list[bool] = []
        try:
            keep(taken, self._reading.acquire, False)
            if taken[0]:
                self._read()
        finally:
            if taken and taken[0]:
                self._reading.release()

    def _read(self) -> None:
        with self._lock, Hold(self):
            self.flush()
            self._receive()
        _wait.wake(self, _wait.READABLE)

    def _receive(self) -> None:
        try:
            if self._more is not None:
                self._more[1]()
            for _ in range(_MOST_READS):
                if self._lost is not None or not self._receive_once():
                    return
        except ValueError as error:  # what came is malformed, or no fence
            self.lose(str(error))
        except OSError as error:
            self.lose(error.strerror or str(error))
        except BaseException:
            self.lose("this process was interrupted amid a message of it")
            raise

    def _receive_once(self) -> bool:
        """Receive once, and note the events that are whole; False if nothing has come."""
        try:
            try:
                packet = _scm.receive(self._sock, _READ, flags=_DONTWAIT)
            except ConnectionResetError:  # told once, before the last that it sent
                packet = _scm.receive(self._sock, _READ, flags=_DONTWAIT)
        except BlockingIOError:
            return False
        with packet:
            if packet.ended:
                self.lose("it has closed the connection")
                return False
            packet.adopt([Descriptor] * packet.count)
            self._descriptors += packet.take()
            self._bytes += packet.data
        if len(self._descriptors) > _MOST_DESCRIPTORS:
            raise MalformedError("the compositor sent descriptors that no event has")
        while self._lost is None and self._note_first():
            pass
        return True

    def _note_first(self) -> bool:
        """Note the first event that has come; False if it isn't whole yet."""
        if len(self._bytes) < HEADER.size:
            return False
        sender, word = HEADER.unpack_from(self._bytes)
        size, opcode = word >> 16, word & 0xFFFF
        if size < HEADER.size or size % 4:
            raise MalformedError(f"the compositor sent an event of {size} bytes")
        if len(self._bytes) < size:
            return False
        body = bytes(self._bytes[HEADER.size : size])
        del self._bytes[:size]
        known = self._objects.get(sender, {}).get(opcode)
        if known is None:
            raise MalformedError(f"the compositor sent an event {opcode} of an object {sender}")
        signature, note = known
        values = _wire.parse(signature, body, self._descriptors)
        try:
            if note is not None:
                note(*values)
        finally:
            _wire.close(values)
        return True

    # Waits.

    def wait_for(self, is_done: Callable[[], bool], timeout: float | None) -> bool:
        """Block until something was told. Returns False if `timeout` seconds pass first."""
        end = deadline(timeout)
        while not is_done():
            self._require_own()
            self.require_alive()
            left = seconds_left(end)
            longest = -1 if left is None else min(left, threading.TIMEOUT_MAX)
            taken: list[bool] = []
            try:
                keep(taken, self._reading.acquire, True, longest)
                if not taken[0]:
                    return False
                self._read()
                if is_done() or self._lost is not None:
                    continue
                events = _wait.READABLE | (_wait.WRITABLE if self._unsent else 0)
                if not self._sleep(events, seconds_left(end)):
                    return False
                self._read()
            finally:
                if taken and taken[0]:
                    self._reading.release()
        return True

    def _waits(self, events: int) -> list[tuple[Descriptor, int]]:
        more = [] if self._more is None else [(self._more[0], _wait.READABLE)]
        return [(self, events), *more]

    def _sleep(self, events: int, timeout: float | None) -> bool:
        """Wait until there is something to read, or its time to send; False on a time-out."""
        try:
            return _wait.first(self._waits(events), timeout) is not None
        except ValueError:
            self.require_alive()  # it was closed
            raise

    async def ready_for(self, is_done: Callable[[], bool]) -> None:
        """Wait until something was told, in the running event loop."""
        await _wait.turn()
        while not is_done():
            self.read()
            if is_done():
                return
            self.require_alive()
            await _wait.ready_first(self._waits(_wait.READABLE))

    def round_trip(self, what: str, timeout: float | None) -> None:
        """Wait until the compositor has done what was requested; TimeoutError says what that is."""
        done: list[int] = []
        with self._lock:
            callback = self.new({0: ("u", done.append)})
            self.send(DISPLAY, 0, callback)
        if not self.wait_for(lambda: bool(done), timeout):
            raise TimeoutError(
                errno.ETIMEDOUT,
                f"the Wayland compositor at {self._name} did not answer within {timeout} s: {what}",
            )

    # Its end.

    def require_alive(self) -> None:
        """Raise ConnectionResetError, with the reason, once the connection is over."""
        if self._closed:
            self._require_open()
        if self._lost is not None:
            raise os_error(
                errno.ECONNRESET,
                f"the connection to the Wayland compositor at {self._name} is over: {self._lost}",
            )

    def lose(self, reason: str) -> None:
        """End the connection, and close all that came and was to go, and fences that were told."""
        with self._lock:
            if self._lost is None:
                self._lost = reason
            self._objects = {}
            unsent, self._unsent = self._unsent, []
            for _, copies in unsent:
                _wire.close(copies)
            descriptors, self._descriptors = self._descriptors, []
            _wire.close(descriptors)

    def _require_own(self) -> None:
        if self._forked:
            raise ValueError(f"this is a forked child, and {self!r} is its parent's")

    def leave_to_parent(self) -> None:
        """Leave the connection to the parent; called in a forked child."""
        self._forked = True
        self._lock, self._reading = Lock(), threading.Lock()

    def _let_go(self) -> None:
        super()._let_go()
        if not self._forked:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)  # wakes whoever waits
        if self._number < 0:  # else somebody is about to use it
            self.lose("it was closed")
            self._sock.close()

    def __del__(self) -> None:
        try:
            super().__del__()
        finally:  # the warning may be an error
            if hasattr(self, "_sock"):
                self.lose("it was collected")
                self._sock.close()


def _connect(where: str | os.PathLike[str] | None) -> tuple[socket.socket, str]:
    """Return the socket of a compositor, and its name; by the environment as libwayland has it."""
    inherited = os.environ.pop("WAYLAND_SOCKET", None) if where is None else None
    if inherited is not None:
        return socket.socket(fileno=int(inherited)), f"descriptor {inherited}"
    name = os.fspath(where or os.environ.get("WAYLAND_DISPLAY") or "wayland-0")
    if not os.path.isabs(name):
        folder = os.environ.get("XDG_RUNTIME_DIR")
        if not folder:
            raise os_error(
                errno.ENOENT,
                "no Wayland compositor is known: XDG_RUNTIME_DIR is not set; run this in a desktop"
                " session, or give the path of a compositor's socket",
            )
        name = os.path.join(folder, name)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(name)
        return sock, name
    except OSError as error:
        sock.close()
        raise os_error(
            error.errno or errno.EIO,
            f"no Wayland compositor answers at {name}: start one, or name its socket in"
            " WAYLAND_DISPLAY",
        ) from None
    except BaseException:
        sock.close()
        raise
