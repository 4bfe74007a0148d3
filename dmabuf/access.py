"""How the processor may touch a buffer, and the scope in which it does."""

from __future__ import annotations

import contextlib
from enum import IntFlag
from types import TracebackType
from typing import TYPE_CHECKING

from dmabuf._fd import UNUSED, Hold, HoldUsedError
from dmabuf._ioctl import SYNC_END, SYNC_READ, SYNC_RW, SYNC_WRITE, dma_buf_sync

if TYPE_CHECKING:
    from dmabuf.buffer import Buffer


class Access(IntFlag):
    """What an access does to the memory: the kernel's DMA_BUF_SYNC_READ, _WRITE and _RW."""

    READ = SYNC_READ
    """The memory is read; waits for pending writers."""
    WRITE = SYNC_WRITE
    """The memory is overwritten; waits for everybody."""
    READ_WRITE = SYNC_RW
    """The memory is read and written in part; waits for everybody."""


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


class AccessScope(Hold):
    """The bracket of one access: SYNC START on entry, SYNC END on exit, also when the body raises.

    Entering gives a memoryview of the whole buffer (bytes; read-only for READ), which is released
    on exit; arrays and other exports made from it stay valid memory, outside of any bracket. Single
    use. A scope belongs to whoever enters it; scopes of one buffer nest and overlap freely, each
    with its own pair.
    """

    __slots__ = ("_bits", "_memory")
    _owner: Buffer

    def __init__(self, buffer: Buffer, bits: int) -> None:
        self._owner = buffer
        self._bits = bits
        self.number = UNUSED

    def __enter__(self) -> memoryview:  # type: ignore[override]
        """Wait for the fences that stand in the way, and give the memory."""
        owner = self._owner
        mapping = owner._mapping
        memory = memoryview(owner._map() if mapping is None else mapping)
        if self._bits == SYNC_READ:
            memory = memory.toreadonly()
        elif memory.readonly:
            raise owner._is_read_only()
        self.begin()
        self._memory = memory
        return memory

    def begin(self) -> None:
        """Take the hold and issue START."""
        try:
            dma_buf_sync(self.take(), self._bits)
        except HoldUsedError:
            raise  # by somebody else, whose access goes on
        except BaseException as error:
            self.abandon(error)
            raise

    def end(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Release the memory, issue END and drop the hold."""
        number = self.number
        if number < 0:
            raise ValueError("this access is not open")
        try:
            try:
                self._memory.release()
            except (AttributeError, BufferError):
                pass  # begun without memory; or exported, and then valid for longer, as arrays are
            dma_buf_sync(number, self._bits | SYNC_END)
            self.drop()
        except BaseException as error:
            self.abandon(error)
            raise

    __exit__ = end

    def abandon(self, error: BaseException | None = None) -> None:
        """End an open access, or wherever `begin()` or `end()` was left by an error."""
        if self.number < 0:
            return  # no hold was taken, or it was dropped
        if not isinstance(error, OSError) or error.errno is None:
            # A signal handler raised, before the SYNC took effect or just after it: an END too
            # many is harmless, one too few is not. udmabuf refuses one before its first START.
            with contextlib.suppress(OSError):
                dma_buf_sync(self.number, self._bits | SYNC_END)
        self.drop()
