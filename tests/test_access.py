"""The CPU access scope: which SYNC reaches the kernel, in which order, whatever comes between."""

import contextlib
import ctypes
import errno
import gc
import os
import re
import signal
import sys
import threading
import time

import numpy
import pytest
from helpers import fences, interrupt, strace, vgem
from helpers.process import in_child
from helpers.program import run_program

import dmabuf
from dmabuf import Access, _ioctl, _log

READ, WRITE, RW = 1, 2, 3  # SYNC START with these flags
END_READ, END_WRITE, END_RW = 5, 6, 7

SCOPES = [
    (dmabuf.Buffer.read, READ),
    (dmabuf.Buffer.write, WRITE),
    (dmabuf.Buffer.read_write, RW),
    (lambda buffer: buffer.access(Access.READ), READ),
    (lambda buffer: buffer.access(Access.WRITE), WRITE),
    (lambda buffer: buffer.access(Access.READ_WRITE), RW),
    (lambda buffer: buffer.access(3), RW),
]

forks_with_threads = pytest.mark.filterwarnings(
    r"ignore:This process \(pid=\d+\) is multi-threaded:DeprecationWarning"  # Python 3.12
)


class Stop(BaseException):
    """What a signal handler raises to get out of a wait."""


# OSError without an errno is never the kernel's, but what an alarm's handler may well raise.
RAISED = [Stop, KeyboardInterrupt, TimeoutError, InterruptedError, OSError]


def flags_of(buffer, body) -> list[int]:
    """Return the flags of each SYNC that `body` issues in a child, all of them on the buffer."""
    seen = strace.syncs(body)
    assert {descriptor for descriptor, _ in seen} <= {buffer.fileno()}
    return [flags for _, flags in seen]


def is_open(number: int, inode: int) -> bool:
    """Whether a descriptor is open, and still the buffer's."""
    try:
        return os.fstat(number).st_ino == inode
    except OSError:
        return False


def is_idle(buffer) -> bool:
    """Whether nobody holds the buffer."""
    try:
        number = buffer.detach()
    except OSError as error:
        assert error.errno == errno.EBUSY  # noqa: PT017
        return False
    os.close(number)
    return True


@contextlib.contextmanager
def in_thread(body):
    """Run `body` in a thread, meanwhile the block; what it raises is raised at the end."""
    errors = []

    def run() -> None:
        try:
            body()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()
    if errors:
        raise errors[0]


class TestSequences:
    """What strace shows, sequence by sequence."""

    @pytest.mark.parametrize(("scope", "start"), SCOPES)
    def test_a_scope_is_a_start_and_an_end(self, buffer, scope, start):
        def body() -> None:
            with scope(buffer) as memory:
                assert len(memory) == 8192

        assert flags_of(buffer, body) == [start, start | 4]

    def test_an_end_follows_a_body_that_raises(self, buffer):
        def body() -> None:
            for error in (KeyError, KeyboardInterrupt, GeneratorExit):
                with pytest.raises(error), buffer.read_write():
                    raise error

        assert flags_of(buffer, body) == [RW, END_RW] * 3

    def test_nested_scopes_have_a_pair_each(self, buffer):
        def body() -> None:
            with buffer.write(), buffer.read(), buffer.read():
                pass

        expected = [WRITE, READ, READ, END_READ, END_READ, END_WRITE]
        assert flags_of(buffer, body) == expected

    def test_overlapping_scopes_end_in_their_own_order(self, buffer):
        def body() -> None:
            first, second = buffer.read(), buffer.write()
            first.__enter__()
            second.__enter__()
            first.__exit__(None, None, None)
            second.__exit__(None, None, None)

        assert flags_of(buffer, body) == [READ, WRITE, END_READ, END_WRITE]

    def test_begin_and_end_are_the_same_pair(self, buffer):
        def body() -> None:
            for access in (Access.READ, Access.WRITE, Access.READ_WRITE):
                buffer.begin_access(access)
                buffer.end_access(access)

        assert flags_of(buffer, body) == [READ, END_READ, WRITE, END_WRITE, RW, END_RW]

    def test_begin_and_end_nest_and_mix_with_scopes(self, buffer):
        def body() -> None:
            buffer.begin_access(Access.READ)
            buffer.begin_access(Access.READ)
            buffer.begin_access(Access.WRITE)
            with buffer.read():
                buffer.end_access(Access.READ)
            buffer.end_access(Access.WRITE)
            buffer.end_access(Access.READ)

        expected = [READ, READ, WRITE, READ, END_READ, END_READ, END_WRITE, END_READ]
        assert flags_of(buffer, body) == expected

    def test_duplicates_are_bracketed_on_their_own_descriptors(self, buffer):
        with buffer.dup() as other:

            def body() -> None:
                with buffer.read(), other.write():
                    pass

            ours, others = buffer.fileno(), other.fileno()
            expected = [(ours, READ), (others, WRITE), (others, END_WRITE), (ours, END_READ)]
            assert strace.syncs(body) == expected

    def test_nothing_is_issued_before_with(self, buffer):
        def body() -> None:
            scopes = [make(buffer) for make, _ in SCOPES]
            del scopes
            scope = buffer.read()
            assert buffer.memory[0] == 0
            buffer.array(1)
            with pytest.raises(ValueError, match="not open"):
                scope.__exit__(None, None, None)
            buffer.close()
            with pytest.raises(ValueError, match="closed"):
                scope.__enter__()

        assert flags_of(buffer, body) == []

    @pytest.mark.needs("vgem")
    def test_what_is_refused_issues_nothing(self):
        with vgem.allocate(4096, flags=0) as buffer:

            def body() -> None:
                for scope in (buffer.write(), buffer.read_write(), buffer.access(Access.WRITE)):
                    with pytest.raises(PermissionError, match="READ_WRITE") as caught:
                        scope.__enter__()
                    assert caught.value.errno == errno.EACCES
                for wrong in (0, 4, 8, None, True, "READ"):
                    with pytest.raises((TypeError, ValueError), match="access must be"):
                        buffer.begin_access(wrong)
                with buffer.read() as memory:
                    assert memory.readonly

            assert flags_of(buffer, body) == [READ, END_READ]

    def test_a_scope_is_for_a_single_use(self, buffer):
        words = (
            rf"this scope of <dmabuf.Buffer .* inode={buffer.inode} .*make a new one with read\(\)"
        )

        def body() -> None:
            scope = buffer.read()
            with scope as memory:
                for _ in range(2):
                    with pytest.raises(ValueError, match=words):
                        scope.__enter__()
                assert memory[0] == 0
            with pytest.raises(ValueError, match=words):
                scope.__enter__()
            with pytest.raises(ValueError, match="not open"):
                scope.__exit__(None, None, None)

        assert flags_of(buffer, body) == [READ, END_READ]

    def test_an_exported_memoryview_is_no_hindrance(self, buffer):
        def body() -> None:
            with buffer.write() as memory:
                kept = ctypes.c_uint32.from_buffer(memory)
                part = memory[:100]
            kept.value = 7
            assert part[0] == buffer.memory[0] == 7

        assert flags_of(buffer, body) == [WRITE, END_WRITE]

    def test_a_collected_generator_ends_its_scope(self, buffer):
        def body() -> None:
            def frames():
                with buffer.read() as memory:
                    yield memory[0]

            frame = frames()
            next(frame)
            del frame
            gc.collect()
            buffer.close()

        seen = [call.what for call in strace.calls(body) if call.descriptor == buffer.fileno()]
        assert seen == ["START", "END", "close"]

    @pytest.mark.parametrize("closing", ["here", "by a thread", "by a handler"])
    def test_a_buffer_closed_in_a_scope_is_ended_and_then_given_back_once(self, buffer, closing):
        def body() -> None:
            with buffer.write() as memory:
                if closing == "here":
                    buffer.close()
                elif closing == "by a thread":
                    with in_thread(buffer.close):
                        pass
                else:
                    signal.signal(signal.SIGUSR1, lambda *_: buffer.close())
                    signal.raise_signal(signal.SIGUSR1)
                assert buffer.closed
                with pytest.raises(ValueError, match="closed"):
                    buffer.read().__enter__()
                with pytest.raises(ValueError, match="closed"):
                    buffer.begin_access(Access.READ)
                memory[0] = 1
            buffer.close()

        number = buffer.fileno()
        seen = [call for call in strace.calls(body) if call.descriptor == number]
        assert [(call.what, call.flags) for call in seen[:3]] == [
            ("START", WRITE),
            ("END", END_WRITE),
            ("close", 0),
        ]
        assert seen[3:] == []

    def test_the_last_of_overlapping_scopes_gives_a_closed_buffer_back(self, buffer):
        def body() -> None:
            first, second = buffer.read(), buffer.write()
            buffer.begin_access(Access.READ_WRITE)
            with first:
                second.__enter__()
                buffer.close()
            second.__exit__(None, None, None)
            buffer.end_access(Access.READ_WRITE)

        seen = [call.what for call in strace.calls(body) if call.descriptor == buffer.fileno()]
        assert seen == ["START", "START", "START", "END", "END", "END", "close"]

    def test_a_scope_is_ended_in_both_processes_of_a_fork(self, buffer):
        def body() -> None:
            buffer.begin_access(Access.WRITE)
            with buffer.read():
                child = os.fork()
                buffer.close()
            buffer.end_access(Access.WRITE)
            if not child:
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0

        seen = [call for call in strace.calls(body) if call.descriptor == buffer.fileno()]
        assert [call.flags for call in seen[:2]] == [WRITE, READ]
        assert sorted(call.flags for call in seen) == [0, 0, READ, WRITE, 5, 5, 6, 6]
        assert {call.error for call in seen} == {0}

    def test_an_interrupted_start_is_issued_again(self, buffer, caplog):
        """By a signal that comes while it waits for a fence, to a thread without a handler."""

        def read() -> None:
            with buffer.read():
                pass

        handled = []
        caplog.set_level("DEBUG", "dmabuf.ioctl")
        dmabuf.log_ioctls()
        try:
            with (
                fences.handled(lambda: handled.append(None)),
                vgem.Fence(buffer) as fence,
                in_thread(read) as thread,
            ):
                until_it_waits(thread, buffer)
                signal.pthread_kill(thread.ident, signal.SIGUSR1)
                while not handled:  # the main thread runs handlers once it wakes
                    time.sleep(0.001)
                until_it_waits(thread, buffer)
                fence.signal()
        finally:
            _log.disable()
        expected = [("READ|START", "EINTR"), ("READ|START", "0"), ("READ|END", "0")]
        if sys.version_info >= (3, 14):
            del expected[0]  # fcntl.ioctl itself does so there
        logged = re.findall(r"DMA_BUF_IOCTL_SYNC on .* flags=(\S+) -> (\w+)", caplog.text)
        assert logged == expected


def until_it_waits(thread, buffer) -> None:
    """Return once a thread is asleep in a SYNC on the buffer."""
    call = re.compile(rf"\d+ {buffer.fileno():#x} {strace.DMA_BUF_IOCTL_SYNC:#x} ")
    path = f"/proc/self/task/{thread.native_id}/syscall"
    while True:
        with open(path) as file:
            if call.match(file.read()):
                return
        time.sleep(0.001)


class TestMemory:
    def test_of_a_read_scope_is_read_only_down_to_numpy(self, buffer):
        with buffer.read() as memory:
            assert memory.readonly
            with pytest.raises(TypeError, match="read-only"):
                memory[0] = 1
            with pytest.raises(TypeError, match="not writable"):
                ctypes.c_char.from_buffer(memory)
            for array in (numpy.frombuffer(memory, "u4"), numpy.asarray(memory)):
                assert not array.flags.writeable
                with pytest.raises(ValueError, match="WRITEABLE"):
                    array.flags.writeable = True
        assert not buffer.memory.readonly

    @pytest.mark.parametrize("make", [dmabuf.Buffer.write, dmabuf.Buffer.read_write])
    def test_of_the_others_is_the_buffers_own(self, buffer, make):
        with make(buffer) as memory:
            assert (memory.nbytes, memory.format, memory.ndim) == (8192, "B", 1)
            memory[4090:4100] = b"0123456789"
            memory[0:0] = b""
        with buffer.dup() as other, other.read() as memory:
            assert bytes(memory[4090:4100]) == b"0123456789"

    @pytest.mark.parametrize(("scope", "_start"), SCOPES)
    def test_is_released_with_its_scope(self, buffer, scope, _start):
        with scope(buffer) as memory:
            pass
        for use in (lambda: memory[0], lambda: len(memory), lambda: numpy.frombuffer(memory)):
            with pytest.raises(ValueError, match="released"):
                use()

    def test_is_released_when_the_body_raises(self, buffer):
        with pytest.raises(KeyError), buffer.read() as memory:
            raise KeyError
        with pytest.raises(ValueError, match="released"):
            memory[0]

    def test_may_be_released_by_the_body(self, buffer):
        with buffer.read() as memory:
            memory.release()
        with buffer.write() as memory, memory:
            pass
        assert is_idle(buffer)

    def test_arrays_of_it_remain(self, buffer):
        with buffer.write() as memory:
            array = numpy.frombuffer(memory, "u1")
            array[:4] = 9
        buffer.close()
        array[0] += 1
        assert array[:5].tolist() == [10, 9, 9, 9, 0]

    def test_each_scope_has_its_own(self, buffer):
        with buffer.read() as outer:
            with buffer.read() as inner:
                assert inner is not outer
            assert outer[0] == 0


class TestArguments:
    @pytest.mark.parametrize(
        ("wrong", "error"),
        [
            (0, ValueError),
            (4, ValueError),
            (5, ValueError),
            (8, ValueError),
            (-1, ValueError),
            (1 << 64, ValueError),
            (Access(0), ValueError),
            ("READ", TypeError),
            (None, TypeError),
            (True, TypeError),
            (1.0, TypeError),
        ],
    )
    @pytest.mark.parametrize("method", ["access", "begin_access", "end_access"])
    def test_what_is_no_access_is_refused(self, buffer, method, wrong, error):
        with pytest.raises(error, match="access must be"):
            getattr(buffer, method)(wrong)
        assert is_idle(buffer)

    def test_access_is_the_kernels(self):
        assert (Access.READ, Access.WRITE) == (1, 2)
        assert Access.READ | Access.WRITE == Access.READ_WRITE == 3

    def test_an_end_without_its_begin_is_refused(self, buffer):
        with pytest.raises(ValueError, match=r"no access .*READ.* is open on .*Buffer"):
            buffer.end_access(Access.READ)
        buffer.begin_access(Access.READ)
        with pytest.raises(ValueError, match=r"no access .*WRITE.* is open"):
            buffer.end_access(Access.WRITE)
        buffer.end_access(Access.READ)
        with pytest.raises(ValueError, match=r"no access .* is open"):
            buffer.end_access(Access.READ)

    def test_a_begun_access_keeps_a_closed_buffer_open(self, allocate):
        buffer = allocate(4096)
        number, inode = buffer.fileno(), buffer.inode
        buffer.begin_access(Access.WRITE)
        with pytest.raises(OSError, match="end its accesses") as caught:
            buffer.detach()
        assert caught.value.errno == errno.EBUSY
        buffer.close()
        assert is_open(number, inode)
        buffer.end_access(Access.WRITE)
        assert not is_open(number, inode)
        with pytest.raises(ValueError, match=r"no access .* is open"):
            buffer.end_access(Access.WRITE)

    @forks_with_threads
    def test_an_access_belongs_to_the_process_and_lives_on_in_a_fork(self, buffer):
        """Also where another thread has begun it, which is not there in the child."""
        number = buffer.fileno()

        def end() -> None:
            buffer.close()
            assert is_open(number, buffer.inode)
            buffer.end_access(Access.READ)
            assert not is_open(number, buffer.inode)

        with in_thread(lambda: buffer.begin_access(Access.READ)):
            pass
        in_child(end)
        end()

    def test_an_access_may_be_ended_by_another_thread(self, buffer):
        buffer.begin_access(Access.WRITE)
        with in_thread(lambda: buffer.end_access(Access.WRITE)):
            pass
        assert is_idle(buffer)


class TestBody:
    def test_its_exception_passes_unchanged(self, buffer):
        error = KeyError("body")
        with pytest.raises(KeyError) as caught, buffer.write():
            raise error
        assert caught.value is error
        assert caught.value.__context__ is None
        assert is_idle(buffer)

    def test_its_return_ends_the_scope(self, buffer):
        def first() -> int:
            with buffer.read() as memory:
                return memory[0]

        assert first() == 0
        assert is_idle(buffer)


class Seam:
    """In the place of ioctl, since no kernel can be made to do it: `answers` first, then the truth.

    An answer is an error to raise instead of asking the kernel; `asked` are the flags of each SYNC.
    """

    def __init__(self, monkeypatch) -> None:
        self.answers = {}
        self.asked = []
        self.kernel = _ioctl.ioctl
        monkeypatch.setattr(_ioctl, "ioctl", self)

    def __call__(self, number, request, argument):
        flags = bytes(argument)[0]
        self.asked.append(flags)
        answers = self.answers.get(flags)
        if answers:
            raise answers.pop(0)
        return self.kernel(number, request, argument)


@pytest.fixture
def seam(monkeypatch):
    return Seam(monkeypatch)


class TestErrors:
    @pytest.mark.parametrize("flags", [RW, END_RW])
    def test_a_storm_of_interruptions_changes_nothing(self, buffer, seam, flags):
        storm = [InterruptedError(errno.EINTR, "test"), BlockingIOError(errno.EAGAIN, "test")] * 500
        seam.answers[flags] = storm
        with buffer.read_write() as memory:
            memory[0] = 1
        assert not storm
        assert seam.asked.count(flags) == 1001
        assert sorted(set(seam.asked)) == [RW, END_RW]
        assert is_idle(buffer)

    @pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO, errno.ENOTTY])
    def test_a_start_that_fails_leaves_nothing_held(self, buffer, seam, number):
        seam.answers[WRITE] = [OSError(number, "test"), OSError(number, "test")]
        fd = buffer.fileno()
        with pytest.raises(OSError, match=rf"SYNC with flags 0x2 on descriptor {fd}") as caught:
            buffer.write().__enter__()
        assert caught.value.errno == number
        with pytest.raises(OSError, match="SYNC with flags 0x2"):
            buffer.begin_access(Access.WRITE)
        assert seam.asked == [WRITE, WRITE]
        with pytest.raises(ValueError, match=r"no access .* is open"):
            buffer.end_access(Access.WRITE)
        assert is_idle(buffer)

    def test_a_start_that_fails_gives_a_buffer_back_that_was_closed_meanwhile(self, buffer, seam):
        def fail(*_):
            buffer.close()
            raise OSError(errno.EIO, "test")

        number, inode = buffer.fileno(), buffer.inode
        seam.kernel = fail
        with pytest.raises(OSError, match="SYNC with flags 0x1"):
            buffer.read().__enter__()
        assert not is_open(number, inode)

    @pytest.mark.parametrize("closed", [False, True])
    def test_an_end_that_fails_raises_and_leaves_nothing_held(self, buffer, seam, closed):
        seam.answers[END_READ] = [OSError(errno.EIO, "test")]
        number, inode = buffer.fileno(), buffer.inode
        scope = buffer.read()
        memory = scope.__enter__()
        if closed:
            buffer.close()
        with pytest.raises(OSError, match="SYNC with flags 0x5 on descriptor") as caught:
            scope.__exit__(None, None, None)
        assert caught.value.errno == errno.EIO
        assert seam.asked == [READ, END_READ]
        with pytest.raises(ValueError, match="released"):
            memory[0]
        if closed:
            assert not is_open(number, inode)
        else:
            assert is_idle(buffer)

    def test_an_end_that_fails_does_not_hide_the_bodys_exception(self, buffer, seam):
        seam.answers[END_READ] = [OSError(errno.EIO, "test")]
        with pytest.raises(OSError, match="flags 0x5") as caught, buffer.read():
            raise KeyError("body")
        context, seen = caught.value, []
        while context.__context__ is not None:
            context = context.__context__
            seen.append(type(context))
        assert KeyError in seen

    @pytest.mark.parametrize("kind", RAISED)
    def test_a_handler_that_raises_in_a_start_gets_out(self, buffer, seam, kind):
        seam.answers[READ] = [InterruptedError(errno.EINTR, "test"), kind("test")]
        with pytest.raises(kind, match=r"^test$"):
            buffer.read().__enter__()
        assert seam.asked == [READ, READ, END_READ]
        assert is_idle(buffer)

    @pytest.mark.parametrize("kind", RAISED)
    def test_a_handler_that_raises_in_an_end_gets_out_after_it(self, buffer, seam, kind):
        seam.answers[END_READ] = [kind("test"), InterruptedError(errno.EINTR, "test")]
        with pytest.raises(kind, match=r"^test$"), buffer.read():
            pass
        assert seam.asked == [READ, END_READ, END_READ, END_READ]
        assert is_idle(buffer)

    def test_an_allocation_that_is_timed_out_says_so(self, seam):
        seam.answers[1] = [InterruptedError(errno.EINTR, "test"), TimeoutError("too slow")]
        with pytest.raises(TimeoutError, match=r"^too slow$"):
            _ioctl.call(0, 0, b"\1", "TEST")
        assert seam.asked == [1, 1]


class TestSignals:
    """A handler comes at each point of the code, one after the other, on the real kernel."""

    def test_a_handler_that_raises_leaves_no_access_open(self, allocate):
        def body() -> None:
            for moment in interrupt.every_point():
                buffer = allocate(4096)
                assert buffer.memory[0] == 0
                strace.mark()
                with (
                    contextlib.suppress(interrupt.Interrupted),
                    moment.runs(interrupt.raise_interrupted),
                    buffer.write() as memory,
                ):
                    memory[0] = 1
                assert is_idle(buffer), moment.where
                strace.mark()
                os.write(report, f"{moment.where}\n".encode())

        read, report = os.pipe()
        with open(read) as told:
            sequences = strace.sequences(body)[1::2]
            os.close(report)
            places = told.read().splitlines()
        assert len(places) > 10
        for place, calls in zip(places, sequences, strict=True):
            flags = [call.flags for call in calls if call.what in ("START", "END")]
            # An END too many is harmless, one too few is not.
            assert WRITE not in flags or flags[-1] == END_WRITE, f"{flags}; a signal at {place}"
            assert flags.count(WRITE) <= 1
            assert calls[-1].what == "close"

    @pytest.mark.parametrize("make", [dmabuf.Buffer.read, dmabuf.Buffer.write])
    def test_a_handler_that_closes_leaves_nothing_open(self, allocate, make):
        for moment in interrupt.every_point():
            buffer = allocate(4096)
            number, inode = buffer.fileno(), buffer.inode
            scope = make(buffer)
            with contextlib.suppress(ValueError), moment.runs(buffer.close), scope as memory:
                assert is_open(number, inode), moment.where
                assert memory[0] == 0
            assert buffer.closed == moment.reached
            buffer.close()
            assert not is_open(number, inode), moment.where

    def test_a_handler_may_use_the_buffer_amid_a_scope(self, buffer):
        def use() -> None:
            with buffer.write() as memory:
                memory[1] = 2

        for moment in interrupt.every_point():
            with moment.runs(use), buffer.read() as memory:
                pass
            assert memory is not None
        assert buffer.memory[1] == 2
        assert is_idle(buffer)

    def test_a_handler_that_raises_amid_a_begin_leaves_nothing_begun(self, allocate):
        for moment in interrupt.every_point():
            buffer = allocate(4096)
            with (
                contextlib.suppress(interrupt.Interrupted),
                moment.runs(interrupt.raise_interrupted),
            ):
                buffer.begin_access(Access.READ)
            if moment.reached:
                with pytest.raises(ValueError, match=r"no access .* is open"):
                    buffer.end_access(Access.READ)
            else:
                buffer.end_access(Access.READ)
            assert is_idle(buffer), moment.where

    def test_a_handler_that_raises_amid_an_end_leaves_nothing_held(self, allocate):
        for moment in interrupt.every_point():
            buffer = allocate(4096)
            buffer.begin_access(Access.READ)
            with (
                contextlib.suppress(interrupt.Interrupted),
                moment.runs(interrupt.raise_interrupted),
            ):
                buffer.end_access(Access.READ)
            with contextlib.suppress(ValueError):
                buffer.end_access(Access.READ)
            assert is_idle(buffer), moment.where


@pytest.mark.needs("vgem")
class TestWaiting:
    """START waits for the fences that stand in the way, on the real kernel."""

    @pytest.fixture(autouse=True)
    def handlers(self):
        """Put the signal handlers back."""
        before = signal.getsignal(signal.SIGUSR1)
        yield
        signal.signal(signal.SIGUSR1, before)

    @pytest.mark.parametrize(
        ("make", "fence_writes"),
        [(dmabuf.Buffer.read, True), (dmabuf.Buffer.write, True), (dmabuf.Buffer.write, False)],
    )
    def test_a_start_waits_for_a_fence_and_lets_other_threads_run(self, buffer, make, fence_writes):
        counted = []
        main = threading.current_thread()

        def count() -> None:
            until_it_waits(main, buffer)
            for _ in range(1000):
                counted.append(None)
            until_it_waits(main, buffer)
            fence.signal()

        with (
            vgem.Fence(buffer, write=fence_writes) as fence,
            in_thread(count),
            make(buffer) as memory,
        ):
            assert len(counted) == 1000
            assert memory[0] == 0

    def test_a_reader_waits_for_no_reader_and_an_end_for_nobody(self, buffer):
        with vgem.Fence(buffer, write=False) as reader:
            with buffer.read():
                pass
            reader.signal()  # not expired: nobody waited for it
        with contextlib.ExitStack() as scope:
            scope.enter_context(buffer.write())
            with vgem.Fence(buffer) as writer:
                scope.close()
                writer.signal()

    def test_a_signal_handler_runs_and_the_wait_goes_on(self, buffer):
        main = threading.current_thread()
        handled = threading.Event()
        signal.signal(signal.SIGUSR1, lambda *_: handled.set())

        def interrupt_twice() -> None:
            for _ in range(2):
                until_it_waits(main, buffer)
                signal.pthread_kill(main.ident, signal.SIGUSR1)
                assert handled.wait()
                handled.clear()
            until_it_waits(main, buffer)
            signalled.append(True)
            fence.signal()

        signalled = []
        with vgem.Fence(buffer) as fence, in_thread(interrupt_twice), buffer.read():
            assert signalled

    @pytest.mark.parametrize("kind", [Stop, TimeoutError])
    @pytest.mark.parametrize("begin", [True, False])
    def test_a_signal_handler_that_raises_gets_out(self, buffer, kind, begin):
        main = threading.current_thread()

        def handler(*_) -> None:
            raise kind("test")

        def interrupt_once() -> None:
            until_it_waits(main, buffer)
            signal.pthread_kill(main.ident, signal.SIGUSR1)

        def wait() -> None:
            if begin:
                buffer.begin_access(Access.READ)
            else:
                buffer.read().__enter__()

        signal.signal(signal.SIGUSR1, handler)
        with vgem.Fence(buffer) as fence:
            with pytest.raises(kind, match=r"^test$"), in_thread(interrupt_once):
                wait()
            fence.signal()
        assert is_idle(buffer)

    def test_a_close_meanwhile_keeps_the_number_for_the_wait_and_its_end(self, buffer):
        number, inode = buffer.fileno(), buffer.inode
        read = []

        def wait() -> None:
            with buffer.read() as memory:
                read.append(memory[0])
                assert is_open(number, inode)

        with vgem.Fence(buffer) as fence, in_thread(wait) as thread:
            until_it_waits(thread, buffer)
            buffer.close()
            assert buffer.closed
            with pytest.raises(ValueError, match="closed"):
                buffer.fileno()
            assert is_open(number, inode)
            fence.signal()
        assert read == [0]
        assert not is_open(number, inode)

    @forks_with_threads
    def test_a_wait_of_another_thread_is_not_disturbed_by_a_forked_child(self, buffer):
        number, inode = buffer.fileno(), buffer.inode

        def wait() -> None:
            with buffer.write():
                pass

        def close() -> None:
            with pytest.raises(OSError, match="in use"):
                buffer.detach()
            buffer.close()
            assert buffer.closed

        with vgem.Fence(buffer) as fence, in_thread(wait) as thread:
            until_it_waits(thread, buffer)
            in_child(close)
            assert is_open(number, inode)
            fence.signal()
        assert is_idle(buffer)


@forks_with_threads
def test_a_scope_that_another_thread_left_open_can_be_ended_in_a_forked_child(buffer):
    """Once, before or after the close there, which gives the number back with the last of both."""

    def end_and_close() -> None:
        scope.__exit__(None, None, None)
        with pytest.raises(ValueError, match="not open"):
            scope.__exit__(None, None, None)
        buffer.close()
        assert not is_open(number, buffer.inode)

    def close_and_end() -> None:
        buffer.close()
        assert is_open(number, buffer.inode)
        scope.__exit__(None, None, None)
        assert not is_open(number, buffer.inode)

    scope = buffer.read()
    number = buffer.fileno()
    with in_thread(scope.__enter__):
        pass
    in_child(end_and_close)
    in_child(close_and_end)
    scope.__exit__(None, None, None)
    assert is_idle(buffer)


def test_no_sync_ever_reaches_a_number_that_was_reused(buffer):
    """Scopes of many threads, buffers closed under them, and files opened under free numbers."""
    barrier = threading.Barrier(5)
    over = threading.Event()
    interval = sys.getswitchinterval()

    def use() -> None:
        for duplicate in duplicates:
            barrier.wait()
            with contextlib.suppress(ValueError):  # closed
                while True:
                    with duplicate.read():
                        pass
                    duplicate.begin_access(Access.WRITE)
                    duplicate.end_access(Access.WRITE)

    def close() -> None:
        for duplicate in duplicates:
            barrier.wait()
            duplicate.close()

    def reuse() -> None:
        while not over.is_set():
            os.close(os.memfd_create("test_access"))  # which answers a SYNC with ENOTTY

    duplicates = [buffer.dup() for _ in range(30)]
    numbers = [duplicate.fileno() for duplicate in duplicates]
    sys.setswitchinterval(1e-6)
    try:
        with in_thread(reuse):
            try:
                with in_thread(use), in_thread(use), in_thread(use), in_thread(close):
                    close()
            finally:
                barrier.abort()
                over.set()
    finally:
        sys.setswitchinterval(interval)
    assert not any(is_open(number, buffer.inode) for number in numbers)


@pytest.mark.needs("exporter")
def test_an_interpreter_ends_with_accesses_open():
    program = """
        import threading
        import dmabuf
        from helpers.buffers import allocate

        def frames(buffer):
            with buffer.write() as memory:
                yield memory

        def read(buffer):
            with buffer.read() as memory:
                inside.set()
                threading.Event().wait()

        buffers = [allocate(4096) for _ in range(5)]
        scope = buffers[0].write()
        memory = scope.__enter__()
        buffers[1].begin_access(dmabuf.Access.READ)
        generator = frames(buffers[2])
        next(generator)
        inside = threading.Event()
        threading.Thread(target=read, args=(buffers[3],), daemon=True).start()
        inside.wait()
        closed = buffers.pop()
        closed.begin_access(dmabuf.Access.WRITE)
        closed.close()
        print("done")
    """
    run = run_program(program, "-W", "always")
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr
    assert "Traceback" not in run.stderr
    assert "Exception ignored" not in run.stderr
