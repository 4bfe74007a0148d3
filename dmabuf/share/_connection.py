"""A subscriber's connection to one publisher. Nothing that comes is trusted.

One thread at a time, but for `give_back`, which any thread may call, and a finalizer.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import NamedTuple

from dmabuf._locks import Lock
from dmabuf._scm import MessageError, Packet
from dmabuf.buffer import Buffer
from dmabuf.errors import RefusedError, os_error
from dmabuf.image import FORMATS, Image
from dmabuf.image.colors import unpack_colors
from dmabuf.share import _messages, _packets, _wire
from dmabuf.share._listening import Where, address, what_is_no_socket
from dmabuf.share._messages import (
    Busy,
    Bye,
    FrameMessage,
    Layout,
    Policy,
    Reason,
    Retire,
    Start,
    Welcome,
)
from dmabuf.share.frame import Contents, SharedFrame

_MOST_MEMORIES = 1024
_MOST_AT_ONCE = 4 * _MOST_MEMORIES  # messages between two frames: each memory may be retired
_MOST_SCENES = 64  # more than a camera has buffers

_ADVICE = {
    errno.ENOENT: "there is no publisher; start one, or use reconnect=True to wait for it",
    errno.ECONNREFUSED: "its publisher has ended; start one, or use reconnect=True to wait for it",
    errno.EAGAIN: "its publisher doesn't accept: it must call publish() or service()",
    errno.EACCES: "this user has no permission; the publisher's mode= decides who has",
    errno.EPROTOTYPE: "it is not a publisher's socket (SOCK_SEQPACKET)",
}


class Memory:
    """One memory of the publisher's, from the frame that brought it until it is retired."""

    __slots__ = ("buffer", "generation", "retired", "slot", "uses")

    def __init__(self, slot: int, generation: int, buffer: Buffer) -> None:
        self.slot = slot
        self.generation = generation
        self.buffer = buffer
        self.uses = 0
        """How many frames on it are held."""
        self.retired = False

    def retire(self) -> None:
        """Close it, now or with the last frame on it."""
        self.retired = True
        if not self.uses:
            self.buffer.close()

    def let_go(self) -> None:
        """Forget one frame on it."""
        self.uses -= 1
        if self.retired and not self.uses:
            self.buffer.close()


class Scene(NamedTuple):
    """What the frames on the same memories have in common."""

    memories: tuple[Memory, ...]
    buffers: tuple[Buffer, ...]
    used: tuple[int, ...]
    image: Image | None


class Connection:
    """What was asked of a publisher, what it told, and what is held of it."""

    __slots__ = (
        "_asked",
        "_busy",
        "_depth",
        "_expected",
        "_held",
        "_lock",
        "_memories",
        "_name",
        "_scenes",
        "_sock",
    )

    def __init__(self, where: Where, depth: int, policy: Policy, start: Start) -> None:
        self._name = os.fspath(where)
        self._depth = depth
        self._asked = 0
        self._lock = Lock()  # of what is held; a finalizer may come in the middle
        self._busy: Busy | None = None  # how many it said may be held beside others
        self._expected: int | None = None  # the sequence that would follow; None before WELCOME
        self._held: dict[int, tuple[Memory, ...]] = {}
        self._memories: dict[int, Memory] = {}  # by slot
        self._scenes: dict[bytes, Scene] = {}  # by what their frames have in common
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._sock.setblocking(False)
            self._sock.connect(address(where))
            _packets.send(self._sock, _wire.pack_hello(depth, policy, start))
        except OSError as error:
            self._sock.close()
            instead = what_is_no_socket(where) if error.errno == errno.ECONNREFUSED else None
            if instead is not None:
                what = f"subscribing at {self._name}: it is {instead}, not a publisher's socket"
                raise os_error(errno.ENOTSOCK, what) from None
            advice = _ADVICE.get(error.errno or 0)
            if advice is None:
                raise
            raise os_error(error.errno or 0, f"subscribing at {self._name}: {advice}") from None
        except BaseException:
            self._sock.close()
            raise

    def fileno(self) -> int:
        """Return the socket's number."""
        return self._sock.fileno()

    @property
    def has_asked(self) -> bool:
        """Whether a frame may come."""
        return self._asked > 0

    def ask(self, wanted: int) -> None:
        """Ask for so many frames, less those that are asked for, or can't be held."""
        count = min(wanted, self._depth - len(self._held)) - self._asked
        if count > 0:
            self._busy = None
            self._asked += count
            _packets.send(self._sock, _wire.pack_want(count))

    def require_room(self) -> None:
        """Raise RefusedError if no frame can come before one is given back."""
        count = len(self._held)
        if count >= self._depth:
            raise RefusedError(
                errno.EBUSY,
                f"the subscriber at {self._name} holds {count} frames, its depth; give one back"
                " (`with frame`), or subscribe with a greater depth",
            )

    @property
    def hint(self) -> str:
        """The end of a message for who waits for more frames than it may hold beside others."""
        busy, count = self._busy, len(self._held)
        if busy is None or count < busy.most:
            return ""
        return (
            f": this subscriber holds {count}, and its publisher lets it have {busy.most} at a time"
            f" beside others; give one back (`with frame`), or have the publisher made with"
            f" in_flight={busy.in_flight}"
        )

    def frame(self) -> SharedFrame | None:
        """Return a frame that has come, None if there is none.

        EOFError after the publisher's close; ConnectionError if it died, or disconnected this one;
        MessageError if it says what is no message, or so much at once that nobody need listen.
        """
        for _ in range(_MOST_AT_ONCE):
            try:
                with _packets.receive(self._sock, _wire.MOST_BYTES) as packet:
                    same, sequence, timestamp_ns, text = _wire.split(packet.data)
                    scene = None if packet.count else self._scenes.get(same)
                    if scene is not None:
                        return self._hold(scene, sequence, timestamp_ns, text)
                    if packet.ended:
                        raise ConnectionResetError(
                            errno.ECONNRESET, f"the publisher at {self._name} died"
                        )
                    message = _wire.unpack(packet.data, packet.count)
                    if isinstance(message, FrameMessage):
                        return self._take(message, packet, same)
            except BlockingIOError:
                return None
            if message is not None:
                self._obey(message)
        raise MessageError(f"{_MOST_AT_ONCE} messages at once, and no frame among them")

    def _obey(self, message: _messages.Message) -> None:
        if isinstance(message, Welcome) and self._expected is None:
            self._expected = message.sequence
        elif isinstance(message, Retire):
            memory = self._memories.get(message.slot)
            if memory is None or memory.generation != message.generation:
                raise MessageError(f"the publisher retires slot {message.slot}, which it never had")
            del self._memories[message.slot]
            self._scenes.clear()
            with self._lock:
                memory.retire()
        elif isinstance(message, Busy):
            self._busy = message
        elif isinstance(message, Bye):
            raise self._farewell(message.reason)
        else:
            raise MessageError(f"a publisher must not send {type(message).__name__} now")

    def _farewell(self, reason: Reason) -> Exception:
        if reason is Reason.CLOSED:
            return EOFError(f"the publisher at {self._name} has closed")
        if reason is Reason.HELD_TOO_LONG:
            return ConnectionAbortedError(
                errno.ECONNABORTED,
                f"the publisher at {self._name} disconnected this subscriber: it held a frame for"
                f" longer than hold_timeout{self.hint}",
            )
        return ConnectionAbortedError(
            errno.ECONNABORTED, f"the publisher at {self._name} refused what this subscriber sent"
        )

    def _take(self, message: FrameMessage, packet: Packet, same: bytes) -> SharedFrame:
        """Make a frame of a message and its descriptors; nothing is kept if that fails."""
        self._require_next(message.sequence)
        count = message.new.bit_count()
        if len(self._memories) + count > _MOST_MEMORIES:
            raise MessageError(f"the publisher has more than {_MOST_MEMORIES} memories")
        if count:
            packet.adopt([Buffer] * count)
            with contextlib.ExitStack() as stack:
                fresh = [Memory(0, 0, stack.enter_context(buffer)) for buffer in packet.take()]
                scene = self._scene(message, fresh)
                stack.pop_all()
        else:
            scene = self._scene(message, [])
            if same:
                if len(self._scenes) >= _MOST_SCENES:
                    self._scenes.clear()
                self._scenes[same] = scene
        return self._hold(scene, message.sequence, message.timestamp_ns, message.message)

    def _require_next(self, sequence: int) -> int:
        """Return the sequence that would follow; MessageError if this one can't come now."""
        expected = self._expected
        if expected is None:
            raise MessageError("the publisher sent a frame before WELCOME")
        if sequence in self._held:
            raise MessageError(f"the publisher sent item {sequence} twice")
        return expected

    def _hold(self, scene: Scene, sequence: int, timestamp_ns: int, message: bytes) -> SharedFrame:
        """Return a frame, which is held from here on."""
        expected = self._require_next(sequence)
        with self._lock:
            for memory in scene.memories:
                self._memories[memory.slot] = memory
                memory.uses += 1
            self._held[sequence] = scene.memories
        if self._asked:  # one that comes unasked is as good
            self._asked -= 1
        dropped = max(sequence - expected, 0)
        self._expected = sequence + 1
        contents = Contents(
            sequence, timestamp_ns, scene.buffers, scene.used, scene.image, message, dropped
        )
        return SharedFrame(contents, self)

    def _scene(self, message: FrameMessage, fresh: list[Memory]) -> Scene:
        memories = self._resolve(message, fresh)
        buffers = tuple([memory.buffer for memory in memories])
        used = tuple([part.used for part in message.memories])
        return Scene(memories, buffers, used, self._image(message.layout, memories))

    def _resolve(self, message: FrameMessage, fresh: list[Memory]) -> tuple[Memory, ...]:
        memories = []
        for index, part in enumerate(message.memories):
            known = self._memories.get(part.slot)
            if message.new >> index & 1:
                if known is not None:
                    raise MessageError(f"the publisher announced slot {part.slot} twice")
                memory = fresh.pop(0)
                memory.slot, memory.generation = part.slot, part.generation
            elif known is None or known.generation != part.generation:
                raise MessageError(
                    f"the publisher names slot {part.slot}, which it never announced"
                )
            else:
                memory = known
            if part.used > memory.buffer.size:
                raise MessageError(
                    f"the publisher says that {part.used} bytes of slot {part.slot} are used, whose"
                    f" buffer has {memory.buffer.size}"
                )
            memories.append(memory)
        return tuple(memories)

    def _image(self, layout: Layout | None, memories: tuple[Memory, ...]) -> Image | None:
        if layout is None or layout.format not in FORMATS:
            return None
        try:
            return Image(
                [memories[plane.memory].buffer for plane in layout.planes],
                FORMATS[layout.format],
                layout.width,
                layout.height,
                strides=[plane.stride for plane in layout.planes],
                offsets=[plane.offset for plane in layout.planes],
                modifier=layout.modifier,
                **unpack_colors(layout.colors),
            )
        except ValueError as error:
            raise MessageError(f"the publisher's layout is wrong: {error}") from error

    def give_back(self, sequence: int) -> None:
        """Give a frame back; nothing is sent if the publisher has gone."""
        memories = self._held[sequence]
        try:
            first = memories[0]
            packet = _wire.pack_release(first.slot, first.generation, sequence)
            _packets.send(self._sock, packet)
        except BlockingIOError:
            self._sock.shutdown(socket.SHUT_RDWR)  # it doesn't read: the next frame() says so
        except OSError:
            pass  # it has gone: the next frame() says so
        finally:
            with self._lock:  # from here on there is room for one that is asked for
                del self._held[sequence]
                for memory in memories:
                    memory.let_go()

    def close(self) -> None:
        """Close the connection, and the memories that no frame is held on. Nothing is said."""
        self._sock.close()
        self._scenes.clear()
        with self._lock:
            while self._memories:
                self._memories.popitem()[1].retire()

    def leave(self) -> None:
        """Close this child's copies, whatever another thread was doing at the fork."""
        self._lock = Lock()
        self.close()
