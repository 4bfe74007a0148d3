"""A dma-buf: its descriptor, its memory, and the CPU's access to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from dmabuf import _ioctl, _parcel, _procfs, _wait
from dmabuf._closing import require_new
from dmabuf._fd import Hold, held, lock
from dmabuf._mapping import Mapped, loan_of, mapping, note_shared, prove, proved, read_only
from dmabuf._owning import check_dma_buf, descriptor_number, duplicate, own, owned_number
from dmabuf._polls import POLL_NEEDS_OWNER, note_polled
from dmabuf.access import (
    EVENTS,
    Access,
    AccessScope,
    Bracket,
    access_bits,
    access_ready,
    begin,
    end,
    end_left,
)
from dmabuf.fence import Fence, own_fence

if TYPE_CHECKING:
    import socket

    import numpy
    import numpy.typing

    from dmabuf._holders import Holder
    from dmabuf._mapping import Loan
    from dmabuf._owning import HasFileno

_NAME_BYTES = 31  # DMA_BUF_NAME_LEN in include/uapi/linux/dma-buf.h, less the NUL
_ENDS = frozenset(b"\n\r\0")


_Buffer = TypeVar("_Buffer", bound="Buffer")


class Buffer(Mapped):
    """One descriptor of a dma-buf. Its memory is mapped once, when it is first used.

        with dmabuf.allocate(1 << 20, name="frame") as buffer:
            with buffer.write() as memory:
                memory[:5] = b"hello"
            print(buffer.size, buffer.exporter)

    Buffers compare equal, and hash equal, if they refer to the same dma-buf: a duplicate equals its
    original. Thread-safe. Use it as a context manager, or call `close()`.

    A subclass may add methods. `dup()` and `from_fd()` do not call its `__init__`, so attributes
    that are set there are missing in their results. Follows Documentation/driver-api/dma-buf.rst in
    the kernel's sources.
    """

    __slots__ = ("_begun",)
    _begun: dict[int, list[Bracket]]
    """What `begin_access` has begun, by the kernel's bits; there once that was called."""

    def __init__(self, fd: int) -> None:
        """Take ownership of a dma-buf's descriptor.

        Raises NotADmaBufError if it refers to something else, and OSError (EBADF) if it is not
        open; the caller then still owns it. `from_fd` duplicates a descriptor instead.
        """
        number = owned_number(fd)
        found = check_dma_buf(number)
        require_new(self)
        self._own(number, None, found)
        # No signal handler runs from here on: its caller would take the number to be its own still.
        if POLL_NEEDS_OWNER:
            self._polls.may_be = True  # whoever had it may have polled

    @classmethod
    def from_fd(cls: type[_Buffer], fd: int | HasFileno) -> _Buffer:
        """Return a buffer that owns a duplicate of `fd`. `fd` stays open.

        `fd` is a number or an object with `fileno()`. Raises NotADmaBufError if it refers to
        something else, and OSError: EBADF if it is not open, EMFILE if this process can't open more
        descriptors.
        """
        if isinstance(fd, Buffer):
            copy: _Buffer = proved(fd, _duplicate, cls, fd, loan_of(fd))
            return copy
        number = descriptor_number(fd)
        found = check_dma_buf(number)
        buffer = own(cls.__new__(cls), partial(duplicate, number), None, found)
        if POLL_NEEDS_OWNER:
            note_polled(buffer)  # by whoever has it
        return buffer

    @property
    def inode(self) -> int:
        """The inode number, which identifies the buffer in fdinfo, maps and bufinfo.

        Works when closed.

        Before Linux 6.1 the kernel may use the number of a freed buffer again.
        """
        return self._inode

    @property
    def name(self) -> str | None:
        """The name that the kernel shows in fdinfo and bufinfo; None while unset. It can be set.

        The name belongs to the buffer, so every process that has the buffer sees it. At most 31
        bytes in UTF-8, without newline, carriage return or NUL: else ValueError. Before Linux 6.1
        setting it raises OSError (EBUSY) while a device is attached. Follows DMA_BUF_SET_NAME in
        drivers/dma-buf/dma-buf.c.
        """
        return self._about().name

    @name.setter
    def name(self, name: str | None) -> None:
        encoded = checked_name(name) if name is not None else b""
        proved(self, _ioctl.dma_buf_set_name, encoded)

    @property
    def exporter(self) -> str:
        """The kernel's name of the exporter: "system", "udmabuf", "drm" and so on."""
        return self._about().exporter

    def _about(self) -> _procfs.About:
        return proved(self, _procfs.about_own)

    def dup(self: _Buffer) -> _Buffer:
        """Return another `Buffer` of the same dma-buf, with its own descriptor and its own mapping.

        Raises OSError (EMFILE) if this process can't open more descriptors.
        """
        copy: _Buffer = proved(self, _duplicate, type(self), self, self._loan)
        return copy

    def read(self) -> AccessScope:
        """Return a scope in which the CPU reads: `with buffer.read() as memory`.

        `memory` is a read-only memoryview of all bytes. Entering blocks until pending writers are
        done; in asyncio use `async with`. The call itself does nothing.
        """
        return AccessScope(self, 1)

    def write(self) -> AccessScope:
        """Return a scope in which the CPU overwrites the memory: `with buffer.write() as memory`.

        The old contents may not be visible in it: use `read_write()` to change a part. Entering
        blocks until all other users are done; in asyncio use `async with`. PermissionError (EACCES)
        on a read-only descriptor.
        """
        return AccessScope(self, 2)

    def read_write(self) -> AccessScope:
        """Return a scope in which the CPU reads and writes: `with buffer.read_write() as memory`.

        Entering blocks until all other users are done; in asyncio use `async with`. PermissionError
        (EACCES) on a read-only descriptor.
        """
        return AccessScope(self, 3)

    def access(self, access: Access) -> AccessScope:
        """Return the scope for an `Access` that is known only at run time."""
        return AccessScope(self, access_bits(access))

    def begin_access(self, access: Access) -> None:
        """Begin an access without a scope; `end_access` with the same argument ends it.

        For code that can't use `with`. Blocks until the access may begin. Each begin needs its own
        end, which any thread may call, also after `close()`: the descriptor stays open until then.
        """
        bits = access_bits(access)
        scope = Bracket(self, bits)
        with lock:
            if not hasattr(self, "_begun"):
                self._begun = {1: [], 2: [], 3: []}
        begun = self._begun[bits]
        try:
            begin(scope)
            with lock:
                begun.append(scope)
        except BaseException as error:
            if scope in begun:
                begun.remove(scope)
            end_left(scope, error)
            raise

    def end_access(self, access: Access) -> None:
        """End an access that `begin_access` began. ValueError if none is open."""
        bits = access_bits(access)
        begun = self._begun[bits] if hasattr(self, "_begun") else []
        scope = None
        try:
            with lock:
                if begun:
                    # No signal handler runs here, between the two.
                    scope = begun[-1]
                    del begun[-1]
            if scope is None:
                raise ValueError(
                    f"no access {Access(bits)!r} is open on {self!r}; call begin_access() first"
                )
            end(scope)
        except BaseException as error:
            if scope is not None:
                end_left(scope, error)
            raise

    def export_fence(self, access: Access) -> Fence:
        """Export the fences that `access` would wait for, as one sync_file.

        READ waits for pending writers, WRITE and READ_WRITE for all users. The result is a
        snapshot: a fence that is added later is not in it. An idle buffer gives a fence that has
        already signalled. Needs Linux 6.0: UnsupportedError. Follows
        DMA_BUF_IOCTL_EXPORT_SYNC_FILE.
        """
        bits = access_bits(access)
        return proved(self, _export_fence, bits)

    def import_fence(self, fence: Fence, access: Access) -> None:
        """Add a fence to the buffer, as that of a reader (READ) or a writer (WRITE, READ_WRITE).

        Writers wait for a reader's fence; readers and writers wait for a writer's fence. The caller
        still owns `fence` and may close it. Needs Linux 6.0: UnsupportedError. Follows
        DMA_BUF_IOCTL_IMPORT_SYNC_FILE.
        """
        bits = access_bits(access)
        if not isinstance(fence, Fence):
            raise TypeError(f"fence must be a dmabuf.Fence, not {type(fence).__name__}")
        held(fence, lambda number: proved(self, _ioctl.dma_buf_import_sync_file, bits, number))

    def is_idle(self, access: Access) -> bool:
        """Return True if this access could begin without blocking.

        READ waits for pending writers, WRITE and READ_WRITE for all users. A buffer on a screen
        counts as idle: wait for the `Flip` that replaces it.
        """
        events = EVENTS[access_bits(access)]
        return proved(self, _wait.has, self, events)

    def wait(self, access: Access, timeout: float | None = None) -> bool:
        """Block until `access` could begin. Return False if `timeout` seconds pass first.

        Uses poll(2), so it works on every kernel. Other threads run meanwhile. A signal handler
        that raises ends the wait; `close()` in another thread does not.
        """
        events = EVENTS[access_bits(access)]
        return proved(self, _wait.wait_for, self, events, timeout)

    async def ready(self, access: Access) -> None:
        """Wait in asyncio until `access` could begin. ValueError if the buffer is closed meanwhile.

        It waits on a duplicate of the descriptor, so the program may have a reader of its own in
        the event loop. OSError (EMFILE) if this process can't open one more descriptor.
        """
        await access_ready(self, access_bits(access))

    @property
    def memory(self) -> memoryview:
        """A new memoryview of all bytes, without a bracket: begin and end each access yourself.

        Read-only if the descriptor is. It stays valid after `close()`.
        """
        return memoryview(mapping(self))

    def array(
        self,
        shape: int | Sequence[int],
        dtype: numpy.typing.DTypeLike = "u1",
        *,
        offset: int = 0,
        strides: Sequence[int] | None = None,
        writable: bool | None = None,
    ) -> numpy.ndarray[Any, Any]:
        """Return a numpy array on the buffer's memory, without a copy and without a bracket.

        `offset` and `strides` are in bytes. `writable` defaults to what the descriptor allows. The
        array keeps its memory mapped, whatever is closed. ValueError if an element would lie
        outside of the buffer, or at an address that is not aligned for `dtype`. PermissionError
        (EACCES) for a writable array on a read-only descriptor.
        """
        memory = memoryview(mapping(self))
        if writable is not None:
            if not writable:
                memory = memory.toreadonly()
            elif memory.readonly:
                raise read_only(self)
        return _array_on(memory, shape, dtype, offset, strides)

    def holders(self) -> tuple[Holder, ...]:
        """Return the processes that hold this buffer, including this one.

        A user sees only their own processes; root sees all. `usage.scan` also reports what could
        not be read. A process that ends meanwhile is left out. ValueError if closed.
        """
        from dmabuf._holders import holders  # which few need, and every start would wait for

        with Hold(self):
            return holders((self._device, self._inode))

    def send(self, sock: socket.socket) -> None:
        """Send the buffer over a connected Unix socket; it stays open here.

        The other process receives it with `Buffer.receive` or `share.receive`, and then both have
        the same memory. Raises what `share.send` raises.
        """
        from dmabuf import _message

        def send(number: int) -> None:
            note_shared(self)
            _message.send(sock, [(_message.BUFFER, number)], _message.ONE_BUFFER)

        proved(self, send)

    @classmethod
    def receive(cls, sock: socket.socket) -> Buffer:
        """Receive the one buffer that another process sent with `send` or `share.send`.

        Raises `share.MessageError` if the message holds anything else, and what `share.receive`
        raises.
        """
        from dmabuf import _message
        from dmabuf._scm import MessageError

        kinds = {_message.BUFFER: cls, _message.FENCE: Fence}
        arrival = _message.Arrival()
        try:
            _message.receive(sock, 0, kinds, arrival)
            if arrival.table != _message.ONE_BUFFER:
                raise MessageError("the peer's message is not a single buffer; use share.receive()")
            buffer: Buffer = arrival.owners[0]
            return buffer
        except BaseException:
            arrival.close()
            raise

    def __array__(self, *arguments: object, **options: object) -> NoReturn:
        raise TypeError(
            "a Buffer is not an array: use buffer.array(shape, dtype), or numpy.asarray(memory)"
            " in a scope, `with buffer.read() as memory`"
        )

    def __len__(self) -> NoReturn:
        raise TypeError("a Buffer has no len(): its bytes are buffer.size")

    def __bool__(self) -> Literal[True]:
        return True

    def __reduce__(self) -> Any:
        return _parcel.reduce(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Buffer):
            return NotImplemented
        return (self._device, self._inode) == (other._device, other._inode)

    def __hash__(self) -> int:
        return hash((self._device, self._inode))

    def __repr__(self) -> str:
        if not hasattr(self, "_number"):
            return "<dmabuf.Buffer [not opened]>"
        about = f"size={self._size} inode={self._inode}"
        if self._closed:
            return f"<dmabuf.Buffer [closed] {about}>"
        try:
            told = self._about()
        except (OSError, ValueError):
            return f"<dmabuf.Buffer fd={self._number} {about}>"
        name = f" name={told.name!r}" if told.name else ""
        return f"<dmabuf.Buffer fd={self._number} {about}{name} exporter={told.exporter!r}>"


def _array_on(*arguments: Any) -> numpy.ndarray[Any, Any]:
    """Return `array_on`; numpy comes with the first call, and is not looked up again."""
    global _array_on
    from dmabuf._array import array_on

    _array_on = array_on
    return array_on(*arguments)


def own_buffer(make: Callable[[list[int]], object], name: str | None = None) -> Buffer:
    """Own the dma-buf that `make` adds to a list (see `own`), and name it; closed if that fails."""
    if name is not None:
        make = partial(_make_named, make, checked_name(name))
    return own(Buffer.__new__(Buffer), make)


def _make_named(make: Callable[[list[int]], object], name: bytes, made: list[int]) -> None:
    make(made)
    _ioctl.dma_buf_set_name(made[0], name)


def lent_buffer(home: Buffer, loan: Loan, number: int | None = None) -> Buffer:
    """Return a buffer with a descriptor of its own, whose memory is lent.

    `number` is the home's, if the caller holds it.
    """
    if number is None:
        copy: Buffer = proved(home, _duplicate, Buffer, home, loan)
        return copy
    prove(home, number)
    return _duplicate(number, Buffer, home, loan)


def _duplicate(number: int, kind: type[_Buffer], source: Buffer, loan: Loan | None) -> _Buffer:
    """Return a buffer with a duplicate of the number, which the caller holds and has proved."""
    identity = source._device, source._inode, source._size
    return own(kind.__new__(kind), partial(duplicate, number), loan, identity)


def _export_fence(number: int, bits: int) -> Fence:
    return own_fence(partial(_ioctl.dma_buf_export_sync_file, number, bits))


def checked_name(name: str) -> bytes:
    """Return a buffer's name as the kernel takes it; TypeError or ValueError if it can't be one."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}")
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) > _NAME_BYTES:
        raise ValueError(f"name must be at most {_NAME_BYTES} bytes, {name!r} has {len(encoded)}")
    if not _ENDS.isdisjoint(encoded):  # of lines, for who reads fdinfo, and of the name
        raise ValueError(f"name must not contain a newline, a carriage return or a NUL: {name!r}")
    return encoded
