"""The owner of a descriptor: its state table, row by row, under threads, forks and signals."""

import contextlib
import errno
import gc
import os
import random
import sys
import threading
import warnings
import weakref

import pytest
from helpers import interrupt
from helpers.examples import examples
from helpers.leaks import descriptors
from helpers.process import Child, end_child, in_child
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

import dmabuf
from dmabuf._fd import Descriptor, Hold, HoldUsedError, lock
from dmabuf._owning import descriptor_number, own_duplicate

forks_with_threads = pytest.mark.filterwarnings(
    r"ignore:This process \(pid=\d+\) is multi-threaded:DeprecationWarning"  # Python 3.12
)
lost = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
"""What a handler that raises has kept from its caller is closed as it is collected."""


class File(Descriptor):
    """A descriptor of a file of its own, which is known by its inode."""

    __slots__ = ("inode", "number")

    def __init__(self) -> None:
        self.number = os.memfd_create("test_fd")
        self.inode = os.fstat(self.number).st_ino
        super().__init__(self.number)

    @property
    def given_back(self) -> bool:
        return not refers(self.number, self.inode)

    def detach_and_close(self) -> None:
        """Detach and close the number, unless the object is closed or in use."""
        with contextlib.suppress(ValueError, OSError):
            os.close(self.detach())


def refers(number: int, inode: int) -> bool:
    """Whether a descriptor is open, and still the file that it was."""
    try:
        return os.fstat(number).st_ino == inode
    except OSError:
        return False


def hold_briefly(file: File) -> None:
    with Hold(file) as number:
        assert refers(number, file.inode)


@pytest.fixture
def file():
    with File() as file:
        yield file


@contextlib.contextmanager
def running(*bodies, barrier=None):
    """Run each body in a thread, meanwhile the block; what a body raises is raised at the end."""
    errors = []

    def run(body) -> None:
        try:
            body()
        except BaseException as error:
            errors.append(error)
            if barrier:
                barrier.abort()

    threads = [threading.Thread(target=run, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


@contextlib.contextmanager
def held_by_a_thread(owner):
    """Have another thread hold a descriptor meanwhile; gives the event that ends it earlier."""
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with Hold(owner):
                taken.set()
                done.wait()
        finally:
            taken.set()

    with running(hold):
        taken.wait()
        try:
            yield done
        finally:
            done.set()


@contextlib.contextmanager
def reused(number):
    """Open another file under a number, which must be free; gives its inode."""
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    other = os.memfd_create("test_fd")
    if other != number:
        os.dup2(other, number, inheritable=False)
        os.close(other)
    try:
        yield os.fstat(number).st_ino
    finally:
        os.close(number)


def refuse_all(owner) -> None:
    """Check that a closed descriptor is of no use any more."""
    assert owner.closed
    for use in (owner.fileno, owner.detach, owner.__enter__, Hold(owner).take):
        with pytest.raises(ValueError, match="closed"):
            use()
    owner.close()


class TestOpenAndIdle:
    def test_a_hold_gives_the_number(self, file):
        with Hold(file) as number:
            assert number == file.fileno() == file.number
        assert not file.closed

    def test_close_gives_the_number_back_at_once(self, file):
        file.close()
        assert file.given_back
        refuse_all(file)

    def test_detach_gives_the_number_away_open(self, file):
        number = file.detach()
        assert number == file.number
        refuse_all(file)
        assert not file.given_back
        os.close(number)

    def test_a_dropped_hold_leaves_it_open_and_idle(self, file):
        with Hold(file):
            pass
        assert file.fileno() == file.number
        os.close(file.detach())


class TestOpenAndHeld:
    def test_holds_add_up(self, file):
        with Hold(file) as first, Hold(file) as second:
            assert first == second == file.number

    def test_close_closes_at_once_and_keeps_the_number(self, file):
        with Hold(file) as number:
            file.close()
            refuse_all(file)
            assert refers(number, file.inode)
        assert file.given_back
        refuse_all(file)

    def test_detach_is_refused_and_changes_nothing(self, file):
        with Hold(file):
            for _ in range(2):
                with pytest.raises(OSError, match=r"in use; end its accesses") as caught:
                    file.detach()
                assert caught.value.errno == errno.EBUSY
                assert file.fileno() == file.number
            with Hold(file):
                pass
        assert file.detach() == file.number
        os.close(file.number)

    def test_a_hold_of_another_thread_counts(self, file):
        with held_by_a_thread(file) as done:
            with pytest.raises(OSError, match="in use") as caught:
                file.detach()
            assert caught.value.errno == errno.EBUSY
            file.close()
            refuse_all(file)
            assert not file.given_back
            done.set()
        assert file.given_back

    def test_the_end_of_a_with_block_is_a_close(self, file):
        hold = Hold(file)
        with file:
            hold.take()
        refuse_all(file)
        assert not file.given_back
        hold.drop()
        assert file.given_back


class TestClosedAndHeld:
    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
    def test_the_last_hold_gives_the_number_back(self, file, order):
        holds = [Hold(file) for _ in range(3)]
        for hold in holds:
            hold.take()
        file.close()
        for index in order:
            assert not file.given_back
            holds[index].drop()
        assert file.given_back

    def test_another_close_changes_nothing(self, file):
        with Hold(file):
            file.close()
            file.close()
            with running(file.close, file.close):
                pass
            assert not file.given_back
        assert file.given_back

    def test_what_is_held_is_not_collected(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            file = File()
            number, inode = file.number, file.inode
            hold = Hold(file)
            hold.take()
            file.close()
            del file
            gc.collect()
            assert refers(number, inode)
            hold.drop()
            assert not refers(number, inode)

    def test_what_is_dropped_is_collected(self):
        file = File()
        with Hold(file):
            file.close()
        with pytest.raises(ValueError, match="closed"):
            Hold(file).take()
        file.close()
        gone = weakref.ref(file)
        del file
        gc.collect()
        assert gone() is None

    def test_a_dropped_number_is_given_back_once(self, file):
        with Hold(file) as hold:
            assert hold == file.number
            file.close()
        with reused(file.number) as inode:
            file.close()
            refuse_all(file)
            assert refers(file.number, inode)


class TestClosedAndIdle:
    @pytest.mark.parametrize("close", [Descriptor.close, lambda file: os.close(file.detach())])
    def test_a_reused_number_is_left_alone(self, close):
        file = File()
        close(file)
        with reused(file.number) as inode:
            file.close()
            refuse_all(file)
            number = file.number
            del file
            gc.collect()
            assert refers(number, inode)

    def test_a_hold_dropped_after_all_is_over_changes_nothing(self, file):
        hold = Hold(file)
        hold.take()
        file.close()
        hold.drop()
        with reused(file.number) as inode:
            hold.drop()
            assert refers(file.number, inode)


class TestHold:
    def test_is_for_a_single_use(self, file):
        hold = Hold(file)
        hold.take()
        with pytest.raises(HoldUsedError, match="make a new one"):
            hold.take()
        file.close()
        with pytest.raises(HoldUsedError, match="make a new one"):
            hold.take()
        assert not file.given_back
        hold.drop()
        assert file.given_back
        with pytest.raises(HoldUsedError, match="make a new one") as caught:
            hold.take()
        assert isinstance(caught.value, ValueError)

    def test_a_second_drop_drops_nobody_elses(self, file):
        first, second = Hold(file), Hold(file)
        first.take()
        second.take()
        file.close()
        first.drop()
        first.drop()
        assert not file.given_back
        second.drop()
        assert file.given_back

    def test_a_drop_before_its_take_is_nothing(self, file):
        hold = Hold(file)
        hold.drop()
        with Hold(file) as number:
            hold.drop()
            file.close()
            assert refers(number, file.inode)

    def test_a_refused_one_is_not_counted(self, file):
        refused = Hold(file)
        with Hold(file):
            file.close()
            with pytest.raises(ValueError, match="closed"):
                refused.take()
        assert file.given_back
        refused.drop()

    def test_may_be_dropped_by_another_thread(self, file):
        hold = Hold(file)
        hold.take()
        with running(hold.drop):
            pass
        assert file.detach() == file.number
        os.close(file.number)

    def test_ends_with_its_block_when_that_raises(self, file):
        with pytest.raises(KeyError, match="body"), Hold(file):
            raise KeyError("body")
        os.close(file.detach())


class TestDescriptorNumber:
    def test_comes_from_an_int_or_a_fileno(self, file):
        assert descriptor_number(file.number) == descriptor_number(file) == file.number

    @pytest.mark.parametrize(
        ("wrong", "error", "word"),
        [
            (-1, ValueError, "from 0 to 2147483647"),
            (1 << 31, ValueError, "from 0 to 2147483647"),
            ((1 << 32) + 1, ValueError, "from 0 to 2147483647"),
            (True, TypeError, "not bool"),
            ("1", TypeError, "not str"),
            (None, TypeError, "not NoneType"),
        ],
    )
    def test_of_anything_else_is_refused(self, wrong, error, word):
        with pytest.raises(error, match=word):
            descriptor_number(wrong)

    def test_of_something_closed_is_refused(self, file):
        file.close()
        with pytest.raises(ValueError, match="closed"):
            descriptor_number(file)


class TestCollection:
    def test_of_a_hold_that_was_left_drops_it(self, file):
        hold = Hold(file)
        hold.take()
        with pytest.raises(OSError, match="in use"):
            file.detach()
        del hold
        os.close(file.detach())

    def test_of_the_last_hold_of_a_closed_one_gives_the_number_back(self, file):
        holds = [Hold(file), Hold(file)]
        for hold in holds:
            hold.take()
        del hold
        file.close()
        holds.pop()
        assert not file.given_back
        holds.pop()
        assert file.given_back

    def test_of_what_is_not_closed_warns_and_closes(self):
        file = File()
        number, inode = file.number, file.inode
        with pytest.warns(ResourceWarning, match=rf"unclosed File with descriptor {number}$"):
            del file
        assert not refers(number, inode)

    def test_in_a_cycle_warns_and_closes(self):
        file = File()
        number, inode = file.number, file.inode
        cycle = [file]
        cycle.append(cycle)
        del file
        del cycle
        with pytest.warns(ResourceWarning, match="unclosed File"):
            gc.collect()
        assert not refers(number, inode)

    def test_closes_also_where_the_warning_is_an_error(self, monkeypatch):
        ignored = []
        monkeypatch.setattr(sys, "unraisablehook", lambda report: ignored.append(report.exc_value))
        file = File()
        number, inode = file.number, file.inode
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del file
        assert [type(error) for error in ignored] == [ResourceWarning]
        assert not refers(number, inode)

    def test_of_what_was_closed_or_never_opened_is_silent(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            File().close()
            os.close(File().detach())
            Descriptor.__new__(Descriptor)
            gc.collect()

    def test_amid_a_hold_closes_nothing_else(self, file):
        def collect() -> None:
            cycle = [File()]
            cycle.append(cycle)
            del cycle
            gc.collect()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for moment in interrupt.every_point():
                with moment.runs(collect), Hold(file) as number:
                    assert refers(number, file.inode)
        assert not file.given_back


class TestSignals:
    """A handler comes at each point of the code, one after the other."""

    def test_a_handler_that_closes_amid_a_hold_closes_once(self):
        for moment in interrupt.every_point():
            file = File()
            hold = Hold(file)
            with contextlib.suppress(ValueError), moment.runs(file.close), hold as number:
                assert refers(number, file.inode), moment.where
            assert file.closed == file.given_back == moment.reached, moment.where
            file.close()
            assert file.given_back, moment.where

    @pytest.mark.parametrize("held", [False, True])
    def test_a_handler_that_closes_amid_a_close_closes_once(self, held):
        for moment in interrupt.every_point():
            file = File()
            with Hold(file) if held else contextlib.nullcontext():
                with moment.runs(file.close):
                    file.close()
                assert file.given_back != held, moment.where
            assert file.given_back, moment.where

    def test_a_handler_that_closes_amid_a_detach_loses_or_wins(self):
        for moment in interrupt.every_point():
            file = File()
            with contextlib.suppress(ValueError), moment.runs(file.close):
                assert file.detach() == file.number, moment.where
                assert not file.given_back, moment.where
                os.close(file.number)
            assert file.given_back, moment.where

    @pytest.mark.parametrize("use", [hold_briefly, File.close])
    def test_a_handler_that_detaches_amid_it_loses_or_wins(self, use):
        for moment in interrupt.every_point():
            file = File()
            with contextlib.suppress(ValueError), moment.runs(file.detach_and_close):
                use(file)
            file.close()
            assert file.given_back, moment.where

    def test_a_handler_that_takes_a_hold_amid_a_close_keeps_the_number(self):
        def take() -> None:
            with contextlib.suppress(ValueError):
                assert hold.take() == file.number

        for moment in interrupt.every_point():
            file = File()
            hold = Hold(file)
            with moment.runs(take):
                file.close()
            assert file.given_back == (hold.number < 0), moment.where
            hold.drop()
            assert file.given_back, moment.where

    @pytest.mark.parametrize("closing", [File.close, lambda file: os.close(file.detach())])
    def test_a_handler_that_drops_the_hold_amid_a_close_leaves_none(self, closing):
        for moment in interrupt.every_point():
            file = File()
            hold = Hold(file)
            hold.take()
            with contextlib.suppress(OSError), moment.runs(hold.drop):  # detach: EBUSY, or too late
                closing(file)
            hold.drop()
            if not file.closed:
                file.close()
            assert file.given_back, moment.where
            gone = weakref.ref(file)
            del file, hold
            gc.collect()
            assert gone() is None, moment.where

    @pytest.mark.parametrize("closed", [False, True])
    def test_a_handler_that_raises_amid_a_hold_leaves_none(self, closed):
        for moment in interrupt.every_point(finalizers=True):
            file = File()
            with (
                contextlib.suppress(interrupt.Interrupted),
                moment.runs(interrupt.raise_interrupted),
                Hold(file),
            ):
                if closed:
                    file.close()
            file.close()
            assert file.given_back, moment.where

    @lost
    def test_a_handler_that_raises_amid_a_duplication_loses_no_descriptor(self):
        file = File()
        before = descriptors()
        for moment in interrupt.every_point():
            made = None
            with (
                contextlib.suppress(interrupt.Interrupted),
                moment.runs(interrupt.raise_interrupted),
            ):
                made = own_duplicate(Descriptor.__new__(Descriptor), file)
            if made is not None:
                assert refers(made.fileno(), file.inode), moment.where
                made.close()
            del made
            assert descriptors() == before, moment.where
        file.close()
        assert file.given_back

    @lost
    @pytest.mark.parametrize("duplicate", [dmabuf.Buffer.dup, dmabuf.Buffer.from_fd])
    def test_a_handler_that_raises_amid_a_buffers_duplication_loses_none(self, buffer, duplicate):
        before = descriptors()
        for moment in interrupt.every_point():
            made = None
            with (
                contextlib.suppress(interrupt.Interrupted),
                moment.runs(interrupt.raise_interrupted),
            ):
                made = duplicate(buffer)
            if made is not None:
                made.close()
            assert descriptors() == before, moment.where
        os.close(buffer.dup().detach())  # no hold is left

    @pytest.mark.skipif(
        sys.version_info < (3, 11),
        reason="Python 3.10 runs handlers also where a constructor has ended: nobody has it then",
    )
    @pytest.mark.parametrize("kind", [Descriptor, dmabuf.Buffer])
    @lost
    def test_a_handler_that_raises_amid_a_takeover_leaves_the_number_to_the_caller(
        self, kind, buffer
    ):
        for moment in interrupt.every_point():
            number, made = os.dup(buffer.fileno()), None
            with (
                contextlib.suppress(interrupt.Interrupted),
                moment.runs(interrupt.raise_interrupted),
            ):
                made = kind(number)
            assert refers(number, buffer.inode), moment.where
            os.close(number if made is None else made.detach())

    @pytest.mark.parametrize("closed", [False, True])
    @lost
    def test_a_handler_that_raises_amid_a_finalizer_loses_no_number(self, closed):
        for moment in interrupt.every_point(finalizers=True):
            file = File()
            number, inode = file.number, file.inode
            hold = Hold(file)
            hold.take()
            if closed:
                file.close()
            with moment.runs(interrupt.raise_interrupted):
                del file, hold
            assert not refers(number, inode), moment.where

    @lost
    def test_a_handler_that_raises_while_cycles_are_collected_loses_no_number(self):
        for moment in interrupt.every_point(finalizers=True):
            file = File()
            number, inode = file.number, file.inode
            hold = Hold(file)
            hold.take()
            cycle = [file, hold]
            cycle.append(cycle)
            del file, hold, cycle
            with moment.runs(interrupt.raise_interrupted):
                gc.collect()
            assert not refers(number, inode), moment.where

    def test_a_handler_that_raises_amid_a_close_can_be_followed_by_another(self):
        for moment in interrupt.every_point():
            file = File()
            with (
                contextlib.suppress(interrupt.Interrupted),
                moment.runs(interrupt.raise_interrupted),
            ):
                file.close()
            file.close()
            refuse_all(file)
            assert file.given_back, moment.where

    def test_a_handler_that_raises_amid_a_close_leaves_the_lock_to_other_threads(self):
        def take() -> None:
            assert lock.acquire(False), moment.where
            lock.release()

        for moment in interrupt.every_point():
            file = File()
            moment.interrupts(file.close)
            with running(take):
                pass
            file.close()

    def test_a_handler_that_forks_leaves_both_processes_whole(self):
        parent = os.getpid()
        child = 0

        def fork() -> None:
            nonlocal child
            child = os.fork()

        def check() -> None:
            assert file.given_back, moment.where
            with File() as other, Hold(other):
                pass
            with running(other.close, Hold(other).drop):  # the lock is free, for any thread
                pass

        for moment in interrupt.every_point():
            file = File()
            hold = Hold(file)
            with moment.runs(fork), hold:
                file.close()
            if os.getpid() != parent:
                end_child(check)
            check()
            if moment.reached:
                assert os.waitpid(child, 0)[1] == 0, moment.where


class TestThreads:
    def test_many_closes_at_once_close_once(self):
        barrier = threading.Barrier(8)
        reused = []

        def close() -> None:
            for file in files:
                barrier.wait()
                file.close()
                reused.append(File())  # a second close of the number would close one of these

        files = [File() for _ in range(20)]
        with running(*[close] * 8):
            pass
        for file in reused:
            assert not file.given_back
            file.close()

    def test_one_of_many_detaches_wins(self):
        barrier = threading.Barrier(8)
        detached = []

        def detach() -> None:
            for file in files:
                barrier.wait()
                with contextlib.suppress(ValueError):
                    detached.append(file.detach())

        files = [File() for _ in range(20)]
        with running(*[detach] * 8):
            pass
        assert sorted(detached) == sorted(file.number for file in files)
        for number in detached:
            os.close(number)

    def test_no_hold_ever_has_a_number_that_was_reused(self, switching):
        """Four users, two closers, one who detaches, and one who opens files under free numbers."""
        barrier = threading.Barrier(7)
        over = threading.Event()

        def use() -> None:
            for file in files:
                barrier.wait()
                with contextlib.suppress(ValueError):
                    while True:
                        hold_briefly(file)

        def close() -> None:
            for file in files:
                barrier.wait()
                for _ in range(random.randrange(20)):
                    os.fstat(0)
                file.close()

        def detach() -> None:
            for file in files:
                barrier.wait()
                while not file.closed:
                    file.detach_and_close()

        def reuse() -> None:
            while not over.is_set():
                os.close(os.memfd_create("test_fd"))

        files = [File() for _ in range(40)]
        users = [use, use, use, use, close, close, detach]
        with running(reuse):
            try:
                with running(*users, barrier=barrier):
                    pass
            finally:
                over.set()
        for file in files:
            assert file.closed
            assert file.given_back


@pytest.fixture
def switching():
    """Switch threads as often as the interpreter can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class TestFork:
    def test_each_process_closes_its_own(self, file):
        def close() -> None:
            file.close()
            assert file.given_back

        in_child(close)
        assert not file.given_back
        file.close()
        assert file.given_back

    def test_what_the_parent_closes_stays_open_in_the_child(self, file):
        ready, go = os.pipe()

        def look() -> None:
            os.close(go)
            os.read(ready, 1)
            assert file.fileno() == file.number
            assert not file.given_back
            file.close()
            assert file.given_back

        child = Child(look)
        file.close()
        os.close(go)
        os.close(ready)
        child.result()

    @pytest.mark.parametrize("closed_before", [False, True])
    def test_a_hold_of_the_forking_thread_ends_in_both(self, file, closed_before):
        hold = Hold(file)

        def end() -> None:
            if not closed_before:
                with pytest.raises(OSError, match="in use"):
                    file.detach()
                file.close()
            refuse_all(file)
            assert not file.given_back
            hold.drop()
            assert file.given_back

        hold.take()
        if closed_before:
            file.close()
        in_child(end)
        end()

    @forks_with_threads
    def test_what_another_thread_holds_stays_open_in_the_child_and_is_the_parents_own(self, file):
        def close() -> None:
            file.close()
            assert file.closed
            assert not file.given_back
            refuse_all(file)

        with held_by_a_thread(file):
            in_child(close)
            assert not file.closed
            file.close()
            assert not file.given_back
        assert file.given_back

    @forks_with_threads
    def test_what_another_thread_holds_can_not_be_detached_in_the_child(self, file):
        def detach() -> None:
            with pytest.raises(OSError, match="in use"):
                file.detach()

        with held_by_a_thread(file):
            in_child(detach)

    @forks_with_threads
    def test_from_a_thread_keeps_that_threads_holds(self):
        other = File()

        def end() -> None:
            other.close()
            assert not other.given_back
            hold.drop()
            assert other.given_back

        def fork() -> None:
            nonlocal hold
            hold = Hold(other)
            hold.take()
            in_child(end)
            hold.drop()

        hold = None
        with running(fork):
            pass
        other.close()

    @forks_with_threads
    def test_never_deadlocks_amid_holds_and_closes(self):
        over = threading.Event()

        def hammer() -> None:
            while not over.is_set():
                with File() as file, Hold(file), Hold(shared):
                    file.close()
                with pytest.raises(OSError, match="in use"):
                    shared.detach()

        def use() -> None:
            with File() as file, Hold(file):
                file.close()
            assert file.given_back
            shared.close()
            assert shared.closed
            assert not shared.given_back
            with running(hold.drop):  # other threads get the lock, too
                pass

        shared = File()
        hold = Hold(shared)
        hold.take()
        with running(*[hammer] * 3):
            try:
                for _ in range(10):
                    in_child(use)
            finally:
                over.set()
        hold.drop()
        shared.close()


def given_back(file) -> None:
    assert file.closed
    assert file.given_back


class Table(RuleBasedStateMachine):
    """The state table as a model, for any order of calls, on real buffers and real scopes."""

    buffers = Bundle("buffers")
    holds = Bundle("holds")
    numbers = Bundle("numbers")
    source: dmabuf.Buffer

    def __init__(self) -> None:
        super().__init__()
        self.opened = []  # every buffer
        self.taken = []  # every hold that was not dropped
        self.open = set()  # the numbers of buffers that are not closed
        self.held = {}  # how many holds each number has that a buffer still owns
        self.detached = set()  # the numbers that are ours again
        self.seen = set()  # every number that there was

    @rule(target=buffers)
    def dup(self):
        return self._owned(self.source.dup())

    @rule(target=buffers, number=consumes(numbers))
    def adopt(self, number):
        self.detached.remove(number)
        return self._owned(dmabuf.Buffer(number))

    def _owned(self, buffer):
        number = buffer.fileno()
        assert number not in self.held
        self.held[number] = 0
        self.seen.add(number)
        self.open.add(number)
        self.opened.append(buffer)
        return buffer, number

    @rule(target=holds, owner=buffers, kind=st.sampled_from([Hold, dmabuf.Buffer.read]))
    def take(self, owner, kind):
        buffer, number = owner
        hold = kind(buffer)
        if buffer.closed:
            with pytest.raises(ValueError, match="closed"):
                hold.__enter__()
            return multiple()
        hold.__enter__()
        self.held[number] += 1
        self.taken.append(hold)
        return hold, number

    @rule(hold=consumes(holds))
    def drop(self, hold):
        hold, number = hold
        self.taken.remove(hold)
        hold.__exit__(None, None, None)
        self.held[number] -= 1
        self._settle(number)

    @rule(owner=buffers)
    def close(self, owner):
        buffer, number = owner
        if not buffer.closed:
            self.open.remove(number)
        buffer.close()
        assert buffer.closed
        self._settle(number)

    @rule(target=numbers, owner=buffers)
    def detach(self, owner):
        buffer, number = owner
        if buffer.closed:
            with pytest.raises(ValueError, match="closed"):
                buffer.detach()
            return multiple()
        if self.held[number]:
            with pytest.raises(OSError, match="in use") as caught:
                buffer.detach()
            assert caught.value.errno == errno.EBUSY
            return multiple()
        assert buffer.detach() == number
        assert buffer.closed
        del self.held[number]
        self.open.remove(number)
        self.detached.add(number)
        return number

    def _settle(self, number) -> None:
        if self.held.get(number) == 0 and number not in self.open:
            del self.held[number]

    @invariant()
    def the_process_has_open_what_the_model_has(self):
        there = {number for number in self.seen if refers(number, self.source.inode)}
        assert there == {*self.held, *self.detached}

    def teardown(self):
        for buffer in self.opened:
            buffer.close()
        for hold in self.taken:
            hold.__exit__(None, None, None)
        for number in self.detached:
            os.close(number)


def test_the_table_holds_for_any_order_of_calls(buffer):
    class OfThisBuffer(Table):
        source = buffer

    run_state_machine_as_test(OfThisBuffer, settings=settings(examples(20), stateful_step_count=20))
