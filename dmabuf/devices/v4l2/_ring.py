"""The ring of a V4L2 queue: its slots, each with its buffers, and who has them.

A queue has a fixed number of slots, which the kernel knows by their index. Each is in one state:

==========  ========================  =====================================================
state       who has the buffers       what ends it, and who does that
==========  ========================  =====================================================
FREE        the ring                  capture: `start()` and every `take()` queue it, once its
                                      buffers are idle → QUEUED, or REFUSED if QBUF fails;
                                      output: `take()` lends it, to be filled → HELD
QUEUED      the device                `take()`, by DQBUF → HELD; output: `take_back()` → FREE
HELD        the caller, by a `Loan`   `queue()`, by QBUF → QUEUED, or FREE once the ring is over;
                                      `queue_now()` → QUEUED, or FREE if that would wait;
                                      `leave()` → FREE; `collect()` → FREE
REFUSED     nobody                    nothing: the device has refused its buffers when nobody
                                      could be told at once; the `take()` that tried has raised
==========  ========================  =====================================================

Stopping changes no slot: what is HELD stays the caller's until it is given back. Whether the ring
runs is the state of its `Session`.

All changes are made in this file, by whoever has the session's lock. Only `collect()` goes without:
it is for finalizers, which may run amid anything, and nobody else knows such a frame's Loan.

A signal handler may raise after any call. So the state is changed in `finally`, by assignments
alone, if the struct that the kernel has written says that the ioctl was done. The Loan is the
caller's from before that: what does not reach its frame is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import repeat

from dmabuf import _mapping, _wait
from dmabuf._fd import held_all
from dmabuf._ioctl import SYNC_READ, SYNC_WRITE
from dmabuf.access import EVENTS
from dmabuf.buffer import Buffer
from dmabuf.devices.v4l2 import _ioctl
from dmabuf.devices.v4l2._file import DeviceFile, used
from dmabuf.devices.v4l2._session import Session, SessionState
from dmabuf.devices.v4l2._source import require_distinct
from dmabuf.devices.v4l2.format import Format, require_unchanged
from dmabuf.image import Image


class SlotState(Enum):
    """Who has the buffers of a slot: the table above."""

    FREE, QUEUED, HELD, REFUSED = range(4)


# Not looked up in the class, which is a call in Python 3.10: a signal handler may raise there.
_FREE, _QUEUED, _HELD, _REFUSED = SlotState
_NEW, _RUNNING, _OVER = SessionState.NEW, SessionState.RUNNING, SessionState.OVER

_IN_VAIN = 16
"""A device that is slower than its program lets each frame be waited for, and a DQBUF that has none
takes as long as all other calls of a frame: it raises. So after one the next frames are waited for
first, and then one is looked for again, in case the program has become the slower one."""


class GivenBackError(ValueError):
    """The frame is not the caller's any more."""


class Slot:
    """One place of a queue, and the buffers there."""

    __slots__ = (
        "_image",
        "_offsets",
        "buffers",
        "index",
        "lent",
        "loans",
        "state",
        "struct",
        "was_queued",
    )

    def __init__(self, index: int, buffers: tuple[Buffer, ...]) -> None:
        self.index = index
        self.state = _FREE
        self.loans = 0
        """How often it was lent: what tells a Loan from those before it."""
        self.lent: list[_mapping.Loan | None] = []
        """While the device has it: the memory does not go back to its pool, though all close it."""
        self.put(buffers)

    def put(self, buffers: tuple[Buffer, ...]) -> None:
        """Have these buffers here."""
        self.buffers = buffers
        self.was_queued = False
        self.struct: _ioctl.BufferStruct | None = None
        """What QBUF takes, kept from one to the next; None while one has it."""
        self._image: Image | None = None
        self._offsets: tuple[int, ...] = ()

    def image(self, format: Format, offsets: tuple[int, ...]) -> Image:
        """Return the picture, made once as long as its data begins at the same bytes."""
        image = self._image
        if image is None or self._offsets != offsets:
            image = self._image = format.image(self.buffers, offsets)
            self._offsets = offsets
        return image


class Loan:
    """A slot in the hands of one caller, until given back."""

    __slots__ = ("done", "number", "slot")

    def __init__(self) -> None:
        self.slot: Slot | None = None
        self.number = 0
        self.done: _ioctl.BufferStruct | None = None
        """What the driver says of the frame; None if the device has not had it."""


class Ring:
    """The slots of one queue, once it is started. Thread-safe; see the table above."""

    __slots__ = (
        "_empty",
        "_events",
        "_in_vain",
        "_may_have_free",
        "_session",
        "_slots",
        "fills",
        "format",
        "unused",
    )

    def __init__(
        self,
        device: DeviceFile,
        kind: int,
        format: Format,
        buffers: Sequence[tuple[Buffer, ...]] | None,
        count: int,
    ) -> None:
        """Prepare a ring on the buffers of the caller's, or on `count` of the device's own."""
        own = buffers is None
        count = count if buffers is None else len(buffers)
        self._session = Session(device, kind, len(format.sizeimage), count=count, imports=not own)
        self._slots = [Slot(index, slot) for index, slot in enumerate(buffers or ())]
        self.format = format
        """What the frames are."""
        self.fills = self._session.fills
        """Whether frames come empty, for the caller to fill."""
        self._events = EVENTS[SYNC_READ if self.fills else SYNC_WRITE]  # of what the device does
        self._may_have_free = True  # set after a slot became FREE, cleared before all are looked at
        self._empty: _ioctl.BufferStruct | None = None  # of a DQBUF that had no frame
        self._in_vain = 0  # for how many frames more it is not worth a look before the wait
        self.unused = format.sizeimage if self.fills else (0,) * len(format.sizeimage)
        """The bytes_used of a frame of which nothing is known."""

    @property
    def session(self) -> Session:
        """What starts and stops the queue: whether it runs, and the waits for it."""
        return self._session

    @property
    def path(self) -> str:
        """The device's path."""
        return self._session.device.path

    @property
    def buffers(self) -> list[tuple[Buffer, ...]]:
        """The buffers of each slot."""
        return [slot.buffers for slot in self._slots]

    def count(self, state: SlotState) -> int:
        """Return how many slots are in a state."""
        return sum(slot.state is state for slot in self._slots)

    @property
    def was_used(self) -> bool:
        """Whether the device has had any of the buffers."""
        return any(slot.was_queued for slot in self._slots)

    def wait_to_start(self) -> None:
        """Wait until the device may have what `start()` gives it."""
        self._session.require(_NEW)
        if not self.fills:
            for buffers in self.buffers:
                self._wait_idle(buffers)

    async def ready_to_start(self) -> None:
        """Wait in asyncio until the device may have what `start()` gives it."""
        self._session.require(_NEW)
        if not self.fills:
            for buffers in self.buffers:
                await self._idle(buffers)

    def start(self) -> None:
        """Give the device its buffers and start it. A capture's slots: FREE → QUEUED."""
        try:
            self._session.start(self._fill)
        except BaseException:
            self._take_back()
            raise

    def _fill(self, fd: int, count: int) -> None:
        require_unchanged(self.format, fd, self._session.kind, self.path)
        if not self._session.imports:
            self._slots.extend(map(Slot, range(count), self._session.export(fd, count)))
        if not self.fills:
            for slot in self._slots:
                self._qbuf(slot, self.unused, 0.0)  # or the next take does, if it is busy again

    def stop(self) -> None:
        """Stop the device and free the buffers. Idempotent."""
        try:
            self._session.stop()
        finally:
            self._take_back()

    def _take_back(self) -> None:
        """Let memory go back to its pool, once the device has none."""
        if self._session.state is _OVER:
            for slot in self._slots:
                slot.lent = []

    def take(self, loan: Loan) -> bool:
        """Lend a frame if there is one now. QUEUED, or FREE of an output → HELD.

        `leave()` the loan if this raises: the frame may have been taken.
        """
        session = self._session
        with session.lock:
            session.require(_RUNNING)
            if self._may_have_free and self._use_free(loan):
                return True
            try:
                if self._dqbuf(loan):
                    return True
            except (OSError, ValueError):
                session.require(_RUNNING)  # or a signal handler has stopped it
                raise
            if session.device.m2m and not self.count(_QUEUED):
                what = f"the device holds none of the stream's {len(self._slots)} buffers"
                raise ValueError(f"{what}; give a frame back before the next")
            self._in_vain = _IN_VAIN
            return False

    def is_late(self) -> bool:
        """Whether the next frame had better be waited for before `take()` looks for it."""
        if self._in_vain and not self._may_have_free:
            self._in_vain -= 1
            return True
        return False

    def take_back(self) -> bool:
        """Have back what an output has done, QUEUED → FREE; False if the device has some yet."""
        with self._session.lock:
            self._session.require(_RUNNING)
            while self.count(_QUEUED):
                loan = Loan()
                try:
                    if not self._dqbuf(loan):
                        return False
                finally:
                    self._free(loan)
        return True

    def _use_free(self, loan: Loan) -> bool:
        """Lend a slot of an output that is free, if there is one; queue those of a capture."""
        try:
            self._may_have_free = False
            for slot in self._slots:
                if slot.state is _FREE:
                    self._may_have_free = True
                    if self.fills:
                        # No signal handler runs in these three lines.
                        slot.loans = loan.number = slot.loans + 1
                        slot.state = _HELD
                        loan.slot = slot
                        return True
                    self._queue_free(slot)
        except BaseException:
            self._may_have_free = True
            raise
        return False

    def _dqbuf(self, loan: Loan) -> bool:
        """QUEUED → HELD; False if the device is done with none. The lock is held."""
        session = self._session
        buffer, self._empty = self._empty, None  # a signal handler may take a frame amid this
        if buffer is None:
            buffer = _ioctl.empty_buffer(session.kind, session.memory)
        try:
            used(session.device, "take a frame", _ioctl.dqbuf, buffer)
        finally:
            # No signal handler runs in here.
            index = buffer.data.index
            if index == _ioctl.NOT_DEQUEUED:
                self._empty = buffer
            else:
                slot = self._slots[index]
                slot.lent = []
                slot.loans = loan.number = slot.loans + 1
                slot.state = _HELD
                loan.slot = slot
                loan.done = buffer
        return loan.done is not None

    def _queue_free(self, slot: Slot) -> None:
        """FREE → QUEUED, if the device may have the buffers: idle, and open. The lock is held."""
        if _are_open(slot.buffers):
            try:
                self._qbuf(slot, self.unused, 0.0)
            except OSError as error:
                if error.errno is not None and slot.state is _FREE:
                    slot.state = _REFUSED
                raise

    def slot(self, loan: Loan) -> Slot:
        """Return what is HELD by a loan; GivenBackError if that was given back."""
        slot = loan.slot
        if slot is None or slot.state is not _HELD or slot.loans != loan.number:
            raise GivenBackError("operation on a frame that was given back")
        return slot

    def holds(self, loan: Loan) -> bool:
        """Whether a slot is HELD by a loan. One that was given back never is again."""
        slot = loan.slot
        return slot is not None and slot.state is _HELD and slot.loans == loan.number

    def _free(self, loan: Loan) -> None:
        """HELD → FREE; nothing if it was given back."""
        slot = loan.slot
        if slot is not None and slot.state is _HELD and slot.loans == loan.number:
            # No signal handler runs in these two lines.
            slot.state = _FREE
            self._may_have_free = True

    def replace(self, loan: Loan, buffers: tuple[Buffer, ...]) -> None:
        """Have other buffers at a slot that is HELD."""
        with self._session.lock:
            slot = self.slot(loan)
            # A capture's are all given to the device, sooner or later; an output's by the caller.
            others = (
                other.buffers
                for other in self._slots
                if other is not slot and (other.state is _QUEUED or not self.fills)
            )
            require_distinct([buffers, *others])
            slot.put(buffers)

    def leave(self, loan: Loan) -> None:
        """Take a slot back without queueing it: HELD → FREE. Nothing if it was given back."""
        if self.holds(loan):
            with self._session.lock:
                self._free(loan)

    def collect(self, loan: Loan) -> None:
        """Do as `leave()`, for a finalizer: without the lock, for which it must not wait."""
        self._free(loan)

    def queue(self, loan: Loan, bytes_used: Sequence[int], timestamp: float) -> None:
        """Give the device a slot, once it may have the buffers. HELD → QUEUED.

        Once the ring is over: HELD → FREE. HELD as before if this fails.
        """
        while True:
            try:
                if self._give(loan, bytes_used, timestamp):
                    return
                self._wait_idle(self.slot(loan).buffers)
            except ValueError as error:
                self._require_over(error)

    def queue_now(self, loan: Loan, bytes_used: Sequence[int], timestamp: float) -> None:
        """Give the device a slot, or leave it if the device may not have the buffers yet.

        HELD → QUEUED, or FREE. HELD as before if this fails.
        """
        with self._session.lock:
            slot = self.slot(loan)
            wanted = self._session.running and _are_open(slot.buffers)
            if not (wanted and self._qbuf(slot, bytes_used, timestamp)):
                self._free(loan)

    async def queue_later(self, loan: Loan, bytes_used: Sequence[int], timestamp: float) -> None:
        """Do as `queue()`, and wait in asyncio."""
        while True:
            try:
                if self._give(loan, bytes_used, timestamp):
                    return
                await self._idle(self.slot(loan).buffers)
            except ValueError as error:
                self._require_over(error)

    def _give(self, loan: Loan, bytes_used: Sequence[int], timestamp: float) -> bool:
        """HELD → QUEUED, or FREE once the ring is over; False if the device may not have it yet."""
        with self._session.lock:
            slot = self.slot(loan)
            if self._session.running:
                return self._qbuf(slot, bytes_used, timestamp)
            self._free(loan)
            return True

    def _require_over(self, error: ValueError) -> None:
        """Raise an error, unless it is that the ring's end has closed the buffers."""
        if isinstance(error, GivenBackError) or self._session.running:
            raise error

    def _qbuf(self, slot: Slot, bytes_used: Sequence[int], timestamp: float) -> bool:
        """FREE or HELD → QUEUED; False if a buffer's fences are pending. The lock is held."""
        return held_all(slot.buffers, self._qbuf_held, slot, slot.buffers, bytes_used, timestamp)

    def _qbuf_held(
        self,
        numbers: list[int],
        slot: Slot,
        buffers: tuple[Buffer, ...],
        bytes_used: Sequence[int],
        timestamp: float,
    ) -> bool:
        """Do as `_qbuf`, for who holds the numbers of the buffers."""
        session, loans = self._session, slot.loans
        struct, slot.struct = slot.struct, None  # a signal handler may queue the slot amid this
        if not all(map(_wait.has, numbers, buffers, repeat(self._events))):
            return False
        if struct is None:
            for number, buffer in zip(numbers, buffers, strict=True):
                _mapping.prove(buffer, number)
            planes = [
                (number, buffer.size) for number, buffer in zip(numbers, buffers, strict=True)
            ]
            struct = _ioctl.full_buffer(session.kind, session.memory, slot.index, planes)
        else:
            struct.renew()
        if self.fills:
            struct.fill(bytes_used, timestamp)
        lent = list(map(_mapping.loan_of, buffers))
        try:
            used(session.device, "queue a buffer", _ioctl.qbuf, struct)
        finally:
            # No signal handler runs in here.
            if struct.data.flags & _ioctl.QBUF_DONE:
                slot.was_queued = True
                if slot.loans == loans:  # else one has run, and taken it again
                    slot.lent = lent
                    slot.state = _QUEUED
        if slot.buffers is buffers:
            slot.struct = struct
        return True

    def _wait_idle(self, buffers: tuple[Buffer, ...]) -> None:
        for buffer in buffers:
            _wait.wait(buffer, self._events, None)

    async def _idle(self, buffers: tuple[Buffer, ...]) -> None:
        for buffer in buffers:
            if not _wait.is_ready(buffer, self._events):
                await _wait.ready(buffer, self._events)


def _are_open(buffers: tuple[Buffer, ...]) -> bool:
    """Whether the caller has closed none of the buffers, which the device does not get then."""
    return not any(buffer.closed for buffer in buffers)
