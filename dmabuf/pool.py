"""Buffers that are used again: allocated once, lent, and returned when the last view is gone."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any, SupportsIndex

from dmabuf import _idle, _memory, _wait, exporters
from dmabuf._checked import whole
from dmabuf._closing import Kept, require_new
from dmabuf._fd import Descriptor, Hold, lock
from dmabuf._owning import own_result
from dmabuf._slots import Loan, Return, Slot, never
from dmabuf._timeout import deadline, seconds_left
from dmabuf.buffer import Buffer, lent_buffer
from dmabuf.errors import AllocationError

if TYPE_CHECKING:
    from dmabuf._owning import HasFileno


_process = os.getpid()
_NONBLOCKING = os.EFD_NONBLOCK | os.EFD_CLOEXEC
_wake = methodcaller("wake")


class Pool(Kept):
    """A fixed number of buffers of one size, allocated once and lent again and again.

        with dmabuf.Pool(4, 1920 * 1080 * 4) as pool:
            with pool.acquire() as buffer:
                with buffer.write() as memory:
                    memory[:5] = b"frame"

    `acquire` returns a `Buffer`. Closing it gives the memory back to the pool. The pool lends the
    memory again when nothing uses it any more: no duplicate, no open access, no memoryview, no
    array, and no pending fence. `detach()` takes the memory out of the pool, which then allocates
    another buffer.

    Memory that is lent again still has its old contents. Another process or device that has a
    descriptor or a mapping of it still sees it. `zero` clears it each time before it is lent, which
    isolates nobody. With `retire_after_share` the pool never lends memory again that was sent to
    another process, or that anybody else still has according to the kernel's reference count; it
    allocates another buffer instead. That count includes every descriptor. It includes mappings
    too, except with exporters that map a file of their own (vgem before Linux 6.1, i915).

    `size` is in bytes. `allocate` is a callable that takes the size and returns a `Buffer`. The
    constructor allocates all buffers: AllocationError if that fails. Thread-safe. Use it as a
    context manager, or call `close()`. A forked child can't acquire from its parent's pool.
    """

    def __init__(
        self,
        count: SupportsIndex,
        size: SupportsIndex,
        *,
        allocate: Callable[[int], Buffer] = exporters.allocate,
        zero: bool = False,
        retire_after_share: bool = False,
    ) -> None:
        require_new(self)
        self._closed = True  # until it is complete
        self._count = whole(count, "count")
        self._size = whole(size, "size")
        if self._count < 1:
            raise ValueError(f"count must be at least 1, not {self._count}")
        if self._size < 1:
            raise ValueError(f"size must be at least 1 byte, not {self._size}")
        if not callable(allocate):
            raise TypeError(f"allocate must be callable, not {type(allocate).__name__}")
        what = f"a pool of {self._count} x {self._size} bytes"
        _memory.require(self._count * _memory.rounded(self._size), what)
        self._allocate = allocate
        self._zero = zero
        self._retire_after_share = retire_after_share
        self._process = _process
        self._waiters = 0  # threads and tasks
        self._slots: list[Slot] = []
        self._wakes: list[Descriptor] = []
        try:
            self._wakes.append(own_result(os.eventfd, 0, _NONBLOCKING))
            while len(self._slots) < self._count:
                self._slots.extend(map(Slot, self._allocated(), (not retire_after_share,)))
            self._closed = False
            _idle.register(self)
        except BaseException:
            self.close()
            raise

    @property
    def count(self) -> int:
        """The number of buffers."""
        return self._count

    @property
    def size(self) -> int:
        """The requested size in bytes. The size of a buffer is that, rounded up to whole pages."""
        return self._size

    @property
    def free(self) -> int:
        """The number of buffers that are not lent.

        A buffer with pending fences counts, although it can't be acquired yet.
        """
        return sum(slot.loan() is None for slot in self._slots)

    @property
    def closed(self) -> bool:
        """True once `close()` was called."""
        return self._closed

    def acquire(self, timeout: float | None = None) -> Buffer:
        """Return a buffer of the pool. Block until one is free and its fences have signalled.

        TimeoutError if `timeout` seconds pass first. ValueError if the pool is closed, also while
        waiting. AllocationError if a retired buffer can't be replaced.
        """
        end = deadline(timeout)
        buffer = self._lend()
        if buffer is not None:
            return buffer
        with self._waiting() as wake:
            while (buffer := self._lend(wake)) is None:
                left = seconds_left(end)
                if left == 0.0:
                    raise TimeoutError(
                        errno.ETIMEDOUT,
                        f"no buffer was given back in time to {self!r}; close one, or use more",
                    )
                _wait.first(self._events(wake), left)
        return buffer

    async def acquire_async(self) -> Buffer:
        """Acquire a buffer in asyncio: as `acquire`, but wait in the event loop."""
        await _wait.turn()
        buffer = self._lend()
        if buffer is not None:
            return buffer
        import asyncio

        with self._waiting() as wake:
            while (buffer := self._lend(wake)) is None:
                waits = [
                    asyncio.ensure_future(_wait.ready(owner, events))
                    for owner, events in self._events(wake)
                ]
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for wait in waits:
                        wait.cancel()
                    await asyncio.gather(*waits, return_exceptions=True)
        return buffer

    def allocate(self, size: SupportsIndex, *, name: str | None = None) -> Buffer:
        """Acquire a buffer without waiting.

        For what takes an allocator: `Image.allocate(…, allocate=pool.allocate)`. AllocationError if
        no buffer is free. ValueError if `size` exceeds that of the pool.
        """
        wanted = whole(size, "size")
        if not 1 <= wanted <= self._size:
            raise ValueError(
                f"{self!r} has buffers of {self._size} bytes; {wanted} bytes do not fit"
            )
        buffer = self._lend()
        if buffer is None:
            busy = f"all {self._count} buffers of {self!r} are in use; close one, or make more"
            raise AllocationError(errno.ENOMEM, busy, ())
        try:
            if name is not None:
                buffer.name = name
            return buffer
        except BaseException:
            buffer.close()
            raise

    def close(self) -> None:
        """Free the buffers that are not lent.

        Lent ones stay valid, and are freed with their last user.

        Threads and tasks that wait in `acquire` get ValueError. Does nothing the second time.
        """
        self._closed = True
        self._wake()
        slots = self._slots
        while slots:
            with lock:
                slots[-1].loan = never  # it wakes nobody any more
            slots[-1].home.close()
            del slots[-1]
        for wake in self._wakes:
            wake.close()

    def idle(self) -> list[HasFileno]:
        """Return what the pool itself keeps open, for whoever looks for leaks."""
        return [slot.home for slot in self._slots]

    def __enter__(self) -> Pool:
        self._require_open()
        return self

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"free={self.free}"
        return f"<dmabuf.Pool count={self._count} size={self._size} {state}>"

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError(f"operation on a closed pool: {self!r}")
        if self._process != _process:
            raise ValueError(
                "this pool belongs to the parent process, which lends its memory; make one here"
            )

    def _lend(self, wake: Descriptor | None = None) -> Buffer | None:
        """Lend the first memory that is back and idle; None if there is none.

        Before that it takes note of what has woken it, so that it can't miss what comes later.
        """
        self._require_open()
        if wake is not None:
            with contextlib.suppress(BlockingIOError), Hold(wake) as number:
                os.eventfd_read(number)
        for slot in tuple(self._slots):
            seen = slot.loan
            if seen() is not None:
                continue
            home = slot.home
            with Hold(home) as number:
                if not _wait.has(number, home, _wait.WRITABLE):
                    continue
                loan = Loan(slot)
                back = Return(loan, _wake)
                with lock:
                    if self._waiters and not self._closed:
                        self._have_wake(back)
                    # No signal handler runs here, between the two.
                    if slot.loan is seen and not self._closed:
                        slot.loan = back
                if slot.loan is back:
                    return self._prepared(slot, loan, number)
                del back  # before the loan, whose end wakes nobody then
        return None

    def _have_wake(self, back: Callable[[], Loan | None]) -> None:
        """Have the end of a loan wake who waits; until somebody does, it wakes nobody."""
        if isinstance(back, Return):
            back.wake = partial(os.eventfd_write, self._wakes[0].fileno(), 1)

    def _prepared(self, slot: Slot, loan: Loan, number: int | None) -> Buffer:
        """Return the buffer of a loan; if that fails, the memory is back, whoever has the error.

        `number` is that of its home, which the caller holds.
        """
        try:
            if slot.spent or (self._retire_after_share and (slot.shared or slot.has_others())):
                self._replace(slot)
                number = None
            if self._zero:
                with slot.home.write():
                    slot.home.array(slot.home.size)[:] = 0
            return lent_buffer(slot.home, loan, number)
        except BaseException:
            slot.loan = never
            self._wake()
            raise

    def _replace(self, slot: Slot) -> None:
        """Have new memory at a slot, in place of one that is never lent again."""
        [home] = self._allocated()
        try:
            # No signal handler runs between these.
            home, slot.home = slot.home, home
            slot.shared = slot.spent = False
            slot.counted = None
        finally:
            home.close()

    def _allocated(self) -> list[Buffer]:
        made: list[Any] = []
        try:
            made.extend(map(self._allocate, (self._size,)))
            buffer = made[0]
            if not isinstance(buffer, Buffer):
                raise TypeError(
                    f"allocate must return a dmabuf.Buffer, not {type(buffer).__name__}"
                )
            if buffer.size < self._size:
                raise ValueError(f"allocate must return {self._size} bytes, not {buffer!r}")
            return made
        except BaseException:
            for buffer in made:
                if isinstance(buffer, Buffer):
                    buffer.close()
            raise

    def _events(self, wake: Descriptor) -> list[tuple[Descriptor, int]]:
        """Return what to wait for: a memory that comes back, or the fences of one that did."""
        homes = [slot.home for slot in tuple(self._slots) if slot.loan() is None]
        return [(wake, _wait.READABLE), *((home, _wait.WRITABLE) for home in homes)]

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[Descriptor]:
        """Give what is readable when a memory is back; have the others look when this one leaves.

        What one has taken note of, the others don't see any more.
        """
        wake = self._wakes[0]
        with lock:
            self._waiters += 1
        try:
            with lock:
                for slot in tuple(self._slots):
                    self._have_wake(slot.loan)
            yield wake
        finally:
            with lock:
                self._waiters -= 1
            self._wake()

    def _wake(self) -> None:
        """Have everybody who waits look again."""
        for wake in self._wakes:
            with contextlib.suppress(ValueError), Hold(wake) as number:
                os.eventfd_write(number, 1)


def _after_fork_in_child() -> None:
    global _process
    _process = os.getpid()


os.register_at_fork(after_in_child=_after_fork_in_child)
