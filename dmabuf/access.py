"""How the processor may touch a buffer, and the scope in which it does."""

from __future__ import annotations

import contextlib
from enum import IntFlag
from types import TracebackType
from typing import TYPE_CHECKING

from dmabuf import _ioctl
from dmabuf._fd import Hold, HoldUsedError

if TYPE_CHECKING:
    from dmabuf.buffer import Buffer


class Access(IntFlag):
    """What an access does to the memory: the kernel's DMA_BUF_SYNC_READ, _WRITE and _RW."""

    READ = _ioctl.SYNC_READ
    """The memory is read; waits for pending writers."""
    WRITE = _ioctl.SYNC_WRITE
    """The memory is overwritten; waits for everybody."""
    READ_WRITE = _ioctl.SYNC_RW
    """The memory is read and written in part; waits for everybody."""


def access_bits(access: Access) -> int:
    """Return an access as the kernel's bits; TypeError or ValueError if it is none."""
    if not isinstance(access, int) or isinstance(access, bool):
        raise TypeError(f"access must be a dmabuf.Access, not {type(access).__name__}")
    if access not in (_ioctl.SYNC_READ, _ioctl.SYNC_WRITE, _ioctl.SYNC_RW):
        raise ValueError(f"access must be READ, WRITE or READ_WRITE, not {int(access):#x}")
    return int(access)


class AccessScope(Hold):
    """The bracket of one access: SYNC START on entry, SYNC END on exit, also when the body raises.

    Entering gives a memoryview of the whole buffer (bytes; read-only for READ), which is released
    on exit; arrays and other exports made from it stay valid memory, outside of any bracket. Single
    use. A scope belongs to whoever enters it; scopes of one buffer nest and overlap freely, each
    with its own pair.
    """

    __slots__ = ("_bits", "_memory")
    _owner: Buffer
    _memory: memoryview | None

    def __init__(self, buffer: Buffer, bits: int) -> None:
        self._owner = buffer
        self._bits = bits
        self._thread = None
        self._number = -1

    def __enter__(self) -> memoryview:  # type: ignore[override]
        """Wait for the fences that stand in the way, and give the memory."""
        memory = self._owner._view(self._bits)
        self.begin(memory=memory)
        return memory

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the memory and end the access."""
        self.end()

    def begin(self, thread: int | None = None, memory: memoryview | None = None) -> None:
        """Take the hold and issue START."""
        try:
            _ioctl.dma_buf_sync(self.take(thread), self._bits)
            self._memory = memory
        except HoldUsedError:
            raise  # by somebody else, whose access goes on
        except BaseException as error:
            self._abandon(error)
            raise

    def end(self) -> None:
        """Release the memory, issue END and drop the hold."""
        if self._number < 0:
            raise ValueError("this access is not open")
        try:
            if self._memory is not None:
                self._memory.release()
        except BufferError:
            pass  # exports of it stay valid memory, as arrays do
        try:
            _ioctl.dma_buf_sync(self._number, self._bits | _ioctl.SYNC_END)
        finally:
            self.drop()

    def _abandon(self, error: BaseException) -> None:
        """Undo `begin()`, wherever it was left."""
        if self._number < 0:
            return  # no hold was taken
        if not isinstance(error, OSError):
            # A signal handler raised, before the START took effect or just after it: an END too
            # many is harmless, one too few is not. udmabuf refuses one before its first START.
            with contextlib.suppress(OSError):
                _ioctl.dma_buf_sync(self._number, self._bits | _ioctl.SYNC_END)
        self.drop()
