"""How the CPU accesses a buffer, and the scope of one access."""

from __future__ import annotations

import contextlib
from enum import IntFlag
from functools import partial
from types import TracebackType

from dmabuf import _wait
from dmabuf._fd import UNUSED, USED, HoldUsedError, held
from dmabuf._ioctl import SYNC_END, SYNC_READ, SYNC_RW, SYNC_WRITE, dma_buf_sync
from dmabuf._mapping import Mapped, mapping, prove, read_only

EVENTS = {
    SYNC_READ: _wait.READABLE,
    SYNC_WRITE: _wait.WRITABLE,
    SYNC_RW: _wait.WRITABLE,
}
"""What poll(2) reports of a buffer once an access could begin."""


class Access(IntFlag):
    """What an access does with the memory: DMA_BUF_SYNC_READ, _WRITE or _RW.

        wanted = Access.READ if is_viewer else Access.READ_WRITE
        with buffer.access(wanted) as memory:
            print(bytes(memory[:16]))

    `read()`, `write()` and `read_write()` of a buffer stand for these three. `buffer.access()`
    takes a value that is known only at run time.
    """

    READ = SYNC_READ
    """The CPU reads. Waits for pending writers."""
    WRITE = SYNC_WRITE
    """The CPU overwrites the memory. Waits for all pending readers and writers."""
    READ_WRITE = SYNC_RW
    """The CPU reads, and writes a part. Waits for all pending readers and writers."""


def access_bits(access: Access) -> int:
    """Return an access as the kernel's bits; TypeError or ValueError if it is none."""
    if type(access) is Access:
        bits: int = access._value_
    elif isinstance(access, int) and not isinstance(access, bool):
        bits = access
    else:
        raise TypeError(f"access must be a dmabuf.Access, not {type(access).__name__}")
    if not SYNC_READ <= bits <= SYNC_RW:
        raise ValueError(f"access must be READ, WRITE or READ_WRITE, not {bits:#x}")
    return bits


async def access_ready(buffer: Mapped, bits: int) -> None:
    """Wait in the event loop until an access could begin; NotADmaBufError if it is another file."""
    held(buffer, partial(prove, buffer))
    await _wait.ready(buffer, EVENTS[bits])


class Bracket:
    """One access to a buffer, from its SYNC START to its END. The scopes of an image are it, too.

    What of it a signal handler leaves open, by raising where a block has ended and its exit has not
    begun, ends as it is collected.
    """

    __slots__ = ("_bits", "_buffer", "_memory", "_number")
    _memory: memoryview  # while it is open

    def __init__(self, buffer: Mapped, bits: int) -> None:
        self._buffer, self._bits, self._number = buffer, bits, UNUSED

    def __del__(self) -> None:
        try:
            left = self._number >= 0
        except AttributeError:
            return  # the constructor was interrupted
        if left and self._buffer._number >= 0:  # else it was collected before, in a cycle
            end_left(self)


def enter(scope: Bracket) -> memoryview:
    """Block until the access may begin, issue SYNC START and return the memory."""
    buffer = scope._buffer
    there = None if buffer._closed else buffer._mapping
    memory = memoryview(mapping(buffer) if there is None else there)
    if scope._bits == SYNC_READ:
        memory = memory.toreadonly()
    elif memory.readonly:
        raise read_only(buffer)
    begin(scope)
    scope._memory = memory
    return memory


class AccessScope(Bracket):
    """The bracket of one CPU access: SYNC START on entry, SYNC END on exit, also on an error.

        with buffer.write() as memory:
            memory[:5] = b"hello"

    Entering returns a memoryview of the whole buffer, as bytes; it is read-only for READ. `with`
    blocks until the fences that this access waits for have signalled. `async with` waits for them
    in the event loop first. Exit releases the memoryview. An array made from it stays valid memory,
    but is then outside of any bracket.

    Raises ValueError if the scope is entered a second time or the buffer is closed, and
    PermissionError (EACCES) if the descriptor does not allow the access.

    Scopes of one buffer may nest and overlap, in any thread; each issues its own START and END. If
    a signal handler raises after the block and before the exit, END is issued when the scope is
    garbage collected. Follows DMA_BUF_IOCTL_SYNC in drivers/dma-buf/dma-buf.c.
    """

    __slots__ = ()

    __enter__ = enter

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Release the memory and issue SYNC END."""
        try:
            try:
                self._memory.release()
            except (AttributeError, BufferError):
                pass  # a handler came before it was kept; or exported, and then valid for longer
            end(self)
        except BaseException as raised:
            end_left(self, raised)
            raise

    async def __aenter__(self) -> memoryview:
        """Wait in the event loop, then issue SYNC START and return the memory."""
        await access_ready(self._buffer, self._bits)
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the memory and issue SYNC END, which never blocks."""
        try:
            self.__exit__()
        except BaseException:
            end_left(self)  # a signal handler raised before it had begun
            raise


def begin(scope: Bracket) -> None:
    """Begin the access of a scope, of which nothing is left if this raises; once.

    The hold is taken here as `Hold.take` does.
    """
    buffer = scope._buffer
    if scope._number != UNUSED:  # by somebody else, whose access goes on
        call = {SYNC_READ: "read()", SYNC_WRITE: "write()"}.get(scope._bits, "read_write()")
        raise HoldUsedError(
            f"this scope of {buffer!r} was entered before and can be used only once; make"
            f" a new one with {call}"
        )
    number = buffer._number
    if number < 0:
        buffer._require_open()
    try:
        # No signal handler runs here, between the two.
        scope._number = number
        buffer._holds.append(None)
        if buffer._closed:
            buffer._require_open()
    except BaseException:
        _drop(scope)
        raise
    try:
        dma_buf_sync(number, scope._bits)
    except BaseException as error:
        end_left(scope, error)
        raise


def end(scope: Bracket) -> None:
    """End the access of a scope; ValueError if it is not open. Where this raises, `end_left`."""
    number = scope._number
    if number < 0:
        raise ValueError("this access is not open")
    dma_buf_sync(number, scope._bits | SYNC_END)
    _drop(scope)


def leave(scope: Bracket) -> None:
    """End the access of a scope of which nobody else has the memory, and keep nothing of that."""
    try:
        end(scope)
        del scope._memory
    except BaseException as error:
        end_left(scope, error)
        raise


def _drop(scope: Bracket) -> None:
    """End a scope's hold, as `Hold.drop` does."""
    if scope._number >= 0:
        buffer = scope._buffer
        scope._number = USED
        # No signal handler runs here, between the two.
        try:
            buffer._holds.pop()
        finally:
            if buffer._closed:
                buffer._settle()


def end_left(scope: Bracket, error: BaseException | None = None) -> None:
    """End an access wherever its beginning or its end was left; nothing if it is not open.

    NotADmaBufError or OSError (EBADF) if the kernel refused it since others closed its number.
    """
    number = scope._number
    if number < 0:
        return  # the hold was not taken, or it was dropped
    try:
        if isinstance(error, OSError) and error.errno is not None:
            prove(scope._buffer, number)
        else:
            # A signal handler raised, before the SYNC took effect or just after it: an END too many
            # is harmless, one too few is not. udmabuf refuses one before its first START.
            with contextlib.suppress(OSError):
                dma_buf_sync(number, scope._bits | SYNC_END)
    finally:
        _drop(scope)
