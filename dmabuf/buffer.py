"""A dma-buf: its descriptor, its memory, and the processor's access to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from dmabuf import _ioctl, _parcel, _procfs, _wait
from dmabuf._closing import require_new
from dmabuf._fd import (
    Hold,
    check_dma_buf,
    descriptor_number,
    duplicate,
    held,
    lock,
    own,
    own_duplicate,
    owned_number,
)
from dmabuf._mapping import Mapped, loan_of, mapping, note_shared, prove, proved, read_only
from dmabuf._polls import POLL_NEEDS_OWNER, note_polled
from dmabuf.access import (
    EVENTS,
    Access,
    AccessScope,
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

    from dmabuf._fd import HasFileno, Identity
    from dmabuf._holders import Holder
    from dmabuf._mapping import Loan

_NAME_BYTES = 31  # DMA_BUF_NAME_LEN in include/uapi/linux/dma-buf.h, less the NUL
_ENDS = frozenset(b"\n\r\0")


_Buffer = TypeVar("_Buffer", bound="Buffer")


class Buffer(Mapped):
    """One descriptor of a dma-buf, mapped when its memory is first asked for.

        with dmabuf.allocate(1 << 20, name="frame") as buffer:
            with buffer.write() as memory:
                memory[:5] = b"hello"
            print(buffer.size, buffer.exporter)

    Buffers compare and hash by the memory they stand for, so a duplicate equals its original.
    Thread-safe. Use it as a context manager, or call `close()`. A subclass may add methods, but
    what its `__init__` sets is missing in what `dup()` and `from_fd()` return: they don't call it.
    Follows Documentation/driver-api/dma-buf.rst in the kernel's sources.
    """

    __slots__ = ("_begun",)

    def __init__(self, fd: int) -> None:
        """Take over a dma-buf's descriptor.

        NotADmaBufError if it is something else and OSError (EBADF) if it is not open; the caller
        keeps it then. See `from_fd` for a descriptor that stays the caller's.
        """
        number = owned_number(fd)
        found = check_dma_buf(number)
        require_new(self)
        self._own(number, None, found)
        # No signal handler runs from here on: its caller would take the number to be its own still.
        if POLL_NEEDS_OWNER:
            self._polls.may_be = True  # whoever had it may have polled

    def _own(
        self,
        number: int,
        loan: Loan | None = None,
        identity: Identity | None = None,
        name: str | None = None,
    ) -> None:
        self._begun: dict[int, list[AccessScope]] | None = None
        if name is not None:
            _ioctl.dma_buf_set_name(number, checked_name(name))
        super()._own(number, loan, identity)

    @classmethod
    def from_fd(cls: type[_Buffer], fd: int | HasFileno) -> _Buffer:
        """Return a buffer with a descriptor of its own, a duplicate of `fd`, which stays open."""
        if isinstance(fd, Buffer):
            copy: _Buffer = proved(fd, _duplicate, cls, fd, loan_of(fd))
            return copy
        number = descriptor_number(fd)
        found = check_dma_buf(number)
        buffer = own_duplicate(cls.__new__(cls), number, None, found)
        note_polled(buffer)  # by whoever has it
        return buffer

    @property
    def inode(self) -> int:
        """The inode number: the buffer's identity in fdinfo, maps and bufinfo. Also when closed."""
        return self._inode

    @property
    def name(self) -> str | None:
        """The name that the kernel shows to whoever looks (fdinfo, bufinfo); None while unset.

        At most 31 bytes in UTF-8, no newline, carriage return or NUL: ValueError. It belongs to
        the buffer, not to this descriptor. OSError (EBUSY) when set while attached to a device
        before Linux 6.1. Follows DMA_BUF_SET_NAME in drivers/dma-buf/dma-buf.c.
        """
        return self._about().name

    @name.setter
    def name(self, name: str | None) -> None:
        encoded = checked_name(name) if name is not None else b""
        proved(self, _ioctl.dma_buf_set_name, encoded)

    @property
    def exporter(self) -> str:
        """Who made the buffer, as the kernel calls it: "system", "udmabuf", "drm" and so on."""
        return self._about().exporter

    def _about(self) -> _procfs.About:
        return proved(self, _procfs.about_own)

    def dup(self: _Buffer) -> _Buffer:
        """Return another owner of the same memory, with a descriptor and a mapping of its own."""
        copy: _Buffer = proved(self, _duplicate, type(self), self, self._loan)
        return copy

    def read(self) -> AccessScope:
        """Return a scope in which the processor reads: `with buffer.read() as memory`.

        The memory is a read-only memoryview of all bytes. Entering blocks until pending writers are
        done; in asyncio use `async with`. The call itself does nothing.
        """
        return AccessScope(self, 1)

    def write(self) -> AccessScope:
        """Return a scope in which the processor overwrites: `with buffer.write() as memory`.

        Old contents may be invisible in it: a partial update is `read_write()`. Entering blocks
        until all other users are done; in asyncio use `async with`. PermissionError (EACCES) on a
        read-only descriptor.
        """
        return AccessScope(self, 2)

    def read_write(self) -> AccessScope:
        """Return a scope in which the processor reads and writes; it gives a memoryview.

        Entering blocks until all other users are done; in asyncio use `async with`.
        PermissionError (EACCES) on a read-only descriptor.
        """
        return AccessScope(self, 3)

    def access(self, access: Access) -> AccessScope:
        """Return the scope for an access that is known at run time only."""
        return AccessScope(self, access_bits(access))

    def begin_access(self, access: Access) -> None:
        """Begin an access without a scope; `end_access` with the same access ends it.

        For code that can't use `with`: each begin wants its own end, from any thread, and also
        after `close()`, which keeps the descriptor for it.
        """
        bits = access_bits(access)
        scope = AccessScope(self, bits)
        with lock:
            if self._begun is None:
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
        """End an access that was begun with the same argument; ValueError if none is open."""
        bits = access_bits(access)
        begun = self._begun[bits] if self._begun else []
        scope = None
        try:
            with lock:
                if begun:
                    # No signal handler runs here, between the two.
                    scope = begun[-1]
                    del begun[-1]
            if scope is None:
                raise ValueError(f"no access {Access(bits)!r} was begun on {self!r}")
            end(scope)
        except BaseException as error:
            if scope is not None:
                end_left(scope, error)
            raise

    def export_fence(self, access: Access) -> Fence:
        """Export the fences that `access` would wait for, as one sync_file.

        READ waits for pending writers, WRITE and READ_WRITE for all users. A snapshot: what is
        queued later does not join, and an idle buffer gives a fence that has signalled.
        Needs Linux 6.0: UnsupportedError. Follows DMA_BUF_IOCTL_EXPORT_SYNC_FILE.
        """
        bits = access_bits(access)
        return proved(self, _export_fence, bits)

    def import_fence(self, fence: Fence, access: Access) -> None:
        """Add a fence to the buffer, as that of a reader (READ) or of a writer (WRITE).

        A reader's fence holds back writers only, a writer's fence all users. The fence stays the
        caller's and may be closed. Needs Linux 6.0: UnsupportedError. Follows
        DMA_BUF_IOCTL_IMPORT_SYNC_FILE.
        """
        bits = access_bits(access)
        if not isinstance(fence, Fence):
            raise TypeError(f"fence must be a dmabuf.Fence, not {type(fence).__name__}")
        held(fence, lambda number: proved(self, _ioctl.dma_buf_import_sync_file, bits, number))

    def is_idle(self, access: Access) -> bool:
        """Return True if this access could begin without blocking.

        READ waits for pending writers, WRITE and READ_WRITE for all users. A buffer on a screen
        counts as idle: wait for the Flip that replaces it.
        """
        events = EVENTS[access_bits(access)]
        return proved(self, _wait.has, self, events)

    def wait(self, access: Access, timeout: float | None = None) -> bool:
        """Block until `access` could begin. Return False if `timeout` seconds pass first.

        By poll(2), on every kernel. Other threads run meanwhile, and a signal handler that raises
        ends the wait; `close()` in another thread does not.
        """
        events = EVENTS[access_bits(access)]
        return proved(self, _wait.wait_for, self, events, timeout)

    async def ready(self, access: Access) -> None:
        """Wait in asyncio until `access` could begin; ValueError if the buffer gets closed.

        It waits on a duplicate, so that the loop's own reader of the buffer is left alone. OSError
        (EMFILE) if this process can't have one more descriptor.
        """
        await access_ready(self, access_bits(access))

    @property
    def memory(self) -> memoryview:
        """A fresh memoryview of all bytes, without a bracket: begin and end accesses yourself.

        Read-only if the descriptor is. It stays valid after `close()`, for as long as it lives.
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
        """Return a numpy array on the memory: no copy and no bracket.

        `offset` and `strides` are bytes. `writable` is what the descriptor allows unless given.
        The array keeps its memory, whatever is closed. ValueError if an element would lie outside
        of the buffer or at an address that its dtype can't have; PermissionError for a writable
        array on a read-only descriptor.
        """
        memory = memoryview(mapping(self))
        if writable is not None:
            if not writable:
                memory = memory.toreadonly()
            elif memory.readonly:
                raise read_only(self)
        return _array_on(memory, shape, dtype, offset, strides)

    def holders(self) -> tuple[Holder, ...]:
        """Look for the processes that hold this buffer, this one among them.

        Everybody may look at processes of their own, root at all of them; `usage.scan` tells too
        what could not be looked at. Ends of processes meanwhile are no error. ValueError when
        closed.
        """
        from dmabuf._holders import holders  # which few need, and every start would wait for

        with Hold(self):
            return holders((self._device, self._inode))

    def send(self, sock: socket.socket) -> None:
        """Send the buffer over a connected Unix socket; it stays open here.

        The other process gets it with `Buffer.receive`, or `share.receive`. Both then have the
        same memory. Errors are those of `share.send`.
        """
        from dmabuf import _message

        def send(number: int) -> None:
            note_shared(self)
            _message.send(sock, [(_message.BUFFER, number)], _message.ONE_BUFFER)

        proved(self, send)

    @classmethod
    def receive(cls, sock: socket.socket) -> Buffer:
        """Receive the one buffer that a process sent with `send`, or with `share.send`.

        `share.MessageError` if it sent anything else. Errors are those of `share.receive`.
        """
        from dmabuf import _message
        from dmabuf._scm import MessageError

        kinds = {_message.BUFFER: cls, _message.FENCE: Fence}
        arrival = _message.Arrival()
        try:
            _message.receive(sock, 0, kinds, arrival)
            if arrival.table != _message.ONE_BUFFER:
                raise MessageError("the peer sent another message than one of one buffer")
            buffer: Buffer = arrival.owners[0]
            return buffer
        except BaseException:
            arrival.close()
            raise

    def __array__(self, *arguments: object, **options: object) -> NoReturn:
        raise TypeError(
            "a Buffer is no array: use buffer.array(shape, dtype), or numpy.asarray(memory) in a"
            " scope, `with buffer.read() as memory`"
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
    return own(Buffer.__new__(Buffer), make, None, None, name)


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
        raise ValueError(f"name must have no newline, no carriage return and no NUL: {name!r}")
    return encoded
