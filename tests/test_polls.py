"""A kernel that dies of a busy buffer that is closed while a poll of it is pending."""

import asyncio
import contextlib
import gc
import os
import select
import socket
import threading
from functools import partial

import pytest
from helpers import interrupt, vgem
from helpers.fences import is_open, join_threads
from helpers.leaks import descriptors
from helpers.process import in_child
from helpers.program import run_program
from helpers.sockets import PACKETS, socketpair

import dmabuf
from dmabuf import Access, Buffer, Image, share
from dmabuf.devices.drm import Vgem

pytestmark = pytest.mark.needs("vgem", "poll trap")

READ, WRITE = Access.READ, Access.WRITE
LONG = 60.0  # seconds, in which every program has ended, or the kernel keeps it for ever


@pytest.fixture
def busy():
    """The fence, and a list of the only buffer, to pop; nobody has polled it."""
    with Vgem() as device:
        with device.create_dumb(32, 32, 32) as gem:
            buffers = [gem.export()]
            fence = device.attach_fence(gem, WRITE)
        yield fence, buffers
    join_threads()


def select_it(buffer: Buffer) -> None:
    select.select([buffer], [], [], 0)


def wait_in_asyncio(buffer: Buffer) -> None:
    async def main() -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(buffer.ready(READ), 0.01)

    asyncio.run(main())


def poll_in_child(buffer: Buffer) -> None:
    assert not in_child(lambda: buffer.is_idle(READ))


POLLS = {
    "wait": lambda buffer: buffer.wait(READ, 0.01),
    "is_idle": lambda buffer: buffer.is_idle(WRITE),
    "wait_any": lambda buffer: dmabuf.wait_any([(buffer, READ)], 0.01),
    "ready": wait_in_asyncio,
    "select": select_it,
    "a child": poll_in_child,
}
OWN_USES = {
    "nothing": lambda buffer: None,
    "an image": lambda buffer: Image(buffer, "R8", 32, 32),
    "a duplicate": lambda buffer: buffer.dup().close(),
    "from_fd": lambda buffer: Buffer.from_fd(buffer).close(),
    "its memory": lambda buffer: buffer.memory,
    "its description": repr,
}


@contextlib.contextmanager
def kept_until(fence):
    """Check that what the block closes is closed once the fence has signalled, and not before."""
    before = descriptors()
    yield
    assert descriptors() == before
    fence.signal()
    join_threads()
    assert descriptors() == before - 1


@contextlib.contextmanager
def closed_at_once():
    before = descriptors()
    yield
    assert descriptors() == before - 1


def close(kept: list[Buffer]) -> None:
    for buffer in kept:
        buffer.close()


class TestClosing:
    @pytest.mark.parametrize("poll", POLLS.values(), ids=POLLS)
    def test_what_was_polled_is_kept_until_it_is_idle(self, busy, poll):
        fence, buffers = busy
        buffer = buffers.pop()
        poll(buffer)
        with kept_until(fence):
            buffer.close()
            assert buffer.closed

    @pytest.mark.parametrize("use", OWN_USES.values(), ids=OWN_USES)
    def test_what_nobody_has_polled_is_closed_at_once(self, busy, use):
        _, buffers = busy
        buffer = buffers.pop()
        use(buffer)
        with closed_at_once():
            buffer.close()

    def test_a_duplicate_of_what_was_polled_is_kept(self, busy):
        fence, buffers = busy
        with buffers.pop() as buffer:
            other = buffer.dup()
            assert not buffer.is_idle(READ)
        before = descriptors()
        other.close()
        assert descriptors() == before
        fence.signal()

    def test_a_buffer_that_others_had_before_is_kept(self, busy):
        fence, buffers = busy
        number = buffers.pop().detach()
        with dmabuf.Buffer(number):
            pass
        assert is_open(number)
        fence.signal()
        join_threads()
        assert not is_open(number)

    def test_an_idle_buffer_is_closed_at_once(self):
        buffer = vgem.allocate(4096)
        number = buffer.fileno()
        assert buffer.is_idle(WRITE)
        buffer.close()
        assert not is_open(number)
        assert threading.active_count() == 1

    @pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
    @pytest.mark.parametrize(
        ("first", "then"), [(close, close), (close, list.clear), (list.clear, list.clear)]
    )
    def test_what_a_handler_that_raises_leaves_is_closed_once_it_is_idle(self, first, then):
        """Also while the same buffer has another owner, which nobody closes."""
        with Vgem() as device, device.create_dumb(32, 32, 32) as gem, gem.export() as other:
            before = descriptors()
            for moment in interrupt.every_point(finalizers=True):
                kept = [other.dup()]
                fence = device.attach_fence(gem, WRITE)
                assert not kept[0].is_idle(READ)
                moment.interrupts(partial(first, kept))
                then(kept)
                gc.collect()
                assert descriptors() == before + 1, moment.where
                fence.signal()
                join_threads()
                assert descriptors() == before, moment.where


class TestRefusing:
    """What a peer sends, who may have polled it."""

    @pytest.fixture
    def ends(self):
        with socketpair(PACKETS) as ends:
            yield ends

    def send(self, buffer: Buffer, theirs: socket.socket) -> None:
        """Send the only descriptor, with what is no message."""
        select_it(buffer)
        socket.send_fds(theirs, [b"no message"], [buffer.fileno()])
        os.close(buffer.detach())

    def test_what_is_busy_is_kept_until_it_is_idle(self, busy, ends):
        fence, buffers = busy
        ours, theirs = ends
        with kept_until(fence):
            self.send(buffers.pop(), theirs)
            with pytest.raises(share.MessageError, match="no message"):
                Buffer.receive(ours)

    def test_a_handler_that_raises_loses_nothing(self):
        with Vgem() as device, device.create_dumb(32, 32, 32) as gem:
            before = descriptors()
            for moment in interrupt.every_point(finalizers=True):
                with socketpair(PACKETS) as (ours, theirs):
                    buffer = gem.export()
                    fence = device.attach_fence(gem, WRITE)
                    self.send(buffer, theirs)
                    with contextlib.suppress(share.MessageError):
                        moment.interrupts(lambda: Buffer.receive(ours))
                    gc.collect()
                    fence.signal()  # before the kernel drops what was not received
                join_threads()
                assert descriptors() == before, moment.where

    def test_what_is_no_dma_buf_is_closed_at_once(self, ends):
        ours, theirs = ends
        before = descriptors()
        with open(os.devnull) as file:
            socket.send_fds(theirs, [b"no message"], [file.fileno()] * 3)
        with pytest.raises(share.MessageError, match="no message"):
            Buffer.receive(ours)
        assert descriptors() == before
        assert threading.active_count() == 1


class TestCollecting:
    def test_what_was_polled_is_kept_until_it_is_idle(self, busy):
        fence, buffers = busy
        assert not buffers[0].is_idle(READ)
        with kept_until(fence), pytest.warns(ResourceWarning, match="unclosed Buffer"):
            buffers.clear()

    def test_what_nobody_has_polled_is_closed_at_once(self, busy):
        _, buffers = busy
        with closed_at_once(), pytest.warns(ResourceWarning, match="unclosed Buffer"):
            buffers.clear()


MADE = """
    import os, select, signal, sys, threading, time
    from helpers.busy import busy_buffer
    from dmabuf import Access
    buffer, signal_it = busy_buffer()
"""
NO_THREADS = """
    import resource
    os.setresuid(65534, 65534, 65534)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
"""
ENDS = {
    "by itself": "",
    "by sys.exit": "sys.exit()",
    "with the buffer in a cycle": "cycle = [buffer]; cycle.append(cycle); del buffer",
    "with the buffer in a daemon": """
    def body(buffer):
        has_it.set()
        time.sleep(1000)
    has_it = threading.Event()
    threading.Thread(target=body, args=(buffer,), daemon=True).start()
    has_it.wait()
    del buffer
    """,
    "closing it as it exits": "import atexit; atexit.register(buffer.close)",
}


def run(*parts: str) -> str:
    """Return what a program prints that makes a busy buffer."""
    done = run_program("".join((MADE, *parts)), timeout=LONG)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


class TestExiting:
    @pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
    def test_with_what_nobody_has_polled_waits_for_nothing(self, end):
        assert run(f"\n    {end}\n") == "pending"

    @pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
    def test_with_what_was_polled_waits_until_it_is_idle(self, end):
        poll = "assert not buffer.wait(Access.READ, 0.01)"
        assert run(f"\n    {poll}\n    {end}\n") == "signalled"

    def test_with_what_a_daemon_polls_waits_until_it_is_idle(self):
        end = """
    threading.Thread(target=buffer.wait, args=(Access.READ,), daemon=True).start()
    while not buffer._polls.may_be:  # until it does
        time.sleep(0.01)
        """
        assert run(end) == "signalled"

    def test_of_a_child_that_was_forked_while_a_thread_waited_to_close_it(self):
        end = """
    buffer.is_idle(Access.READ)
    buffer.close()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        """
        assert run(end) == "signalled"


class TestWithoutThreads:
    """RLIMIT_NPROC, or a container's limit of processes."""

    def test_what_nobody_has_polled_is_closed_at_once(self):
        assert run(NO_THREADS, "\n    buffer.close()\n") == "pending"

    def test_closing_what_was_polled_waits_in_place(self):
        end = """
    number = buffer.fileno()
    signal.signal(signal.SIGALRM, lambda *_: (signal_it(), print("signals")))
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    buffer.close()
    print("closed")
    try:
        os.fstat(number)
    except OSError:
        print("is closed")
        """
        assert run(NO_THREADS, end).split("\n") == ["signals", "closed", "is closed", "signalled"]

    def test_a_handler_that_raises_amid_it_does_so_at_its_end(self):
        end = """
    def handler(*_):
        calls.append(1)
        if len(calls) < 3:
            raise KeyError(len(calls))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal_it()
    calls = []
    number = buffer.fileno()
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.5, 0.5)
    try:
        buffer.close()
    except KeyError as error:
        print(error)
    try:
        os.fstat(number)
    except OSError:
        print("is closed")
        """
        assert run(NO_THREADS, end).split("\n") == ["2", "is closed", "signalled"]
