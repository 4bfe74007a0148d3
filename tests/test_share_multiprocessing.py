"""Buffers, fences and images through multiprocessing: the same memory, and nothing left."""

import copy
import multiprocessing
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from types import ModuleType
from typing import Any

import pytest
from helpers import sharing
from helpers.leaks import descriptors

import dmabuf
from dmabuf import _idle, share
from dmabuf.share import _claim, _lender

METHODS = ["fork", "spawn", "forkserver"]
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture(autouse=True, scope="module")
def helper_processes():
    """Have the processes that multiprocessing keeps, and their descriptors, before any test.

    Emulated, a child takes a second to import what its parent was started as, which is pytest.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", ModuleType("__main__"))
        for method in METHODS:
            context: Any = multiprocessing.get_context(method)
            process = context.Process(target=os.getpid)
            process.start()
            process.join()
            process.close()
        yield


@pytest.fixture(autouse=True)
def settled():
    """Wait at the end of each test until nothing waits to be taken."""
    yield
    sharing.eventually(lambda: _lender.waiting() == 0)


@pytest.fixture(params=METHODS)
def context(request):
    return multiprocessing.get_context(request.param)


@pytest.fixture
def picture(buffer, allocate):
    with allocate(4096) as chroma:
        yield dmabuf.Image([buffer, chroma], "NV12", 32, 16)


@pytest.fixture(params=["buffer", "image"])
def item(request, buffer, picture):
    return buffer if request.param == "buffer" else picture


def ended(process):
    process.join()
    code = process.exitcode
    process.close()
    return code


class TestTheSameMemory:
    def test_as_an_argument_of_a_process(self, context, item, buffer):
        ours, theirs = context.Pipe()
        process = context.Process(target=sharing.mark_argument, args=(item, theirs))
        process.start()
        theirs.close()
        inode, _ = ours.recv()
        ours.close()
        assert ended(process) == 0
        assert inode == buffer.inode
        assert sharing.marked(buffer)

    def test_through_a_pipe_and_closed_at_once(self, context, allocate):
        ours, theirs = context.Pipe()
        process = context.Process(target=sharing.answer, args=(theirs,))
        process.start()
        theirs.close()
        with allocate(4096) as kept:
            for _ in range(3):
                again = kept.dup()
                ours.send(again)
                again.close()
                assert ours.recv() == kept.inode
            assert sharing.marked(kept)
            ours.send(dmabuf.Image(kept, "R8", 64, 64))
            assert ours.recv() == kept.inode
        ours.send(None)
        assert ours.recv() == 0, "descriptors left in the child"
        ours.close()
        assert ended(process) == 0

    def test_through_a_simple_queue(self, context, buffer):
        things, (ours, theirs) = context.SimpleQueue(), context.Pipe()
        process = context.Process(target=_mark_from_queue, args=(things, theirs))
        process.start()
        things.put(buffer)
        assert ours.recv() == buffer.inode
        assert ended(process) == 0
        for each in (ours, theirs, things):
            each.close()
        assert sharing.marked(buffer)

    def test_through_a_pool_both_ways(self, context, item, buffer):
        with context.Pool(1) as pool:
            assert pool.apply(sharing.mark_and_close, (item,)) == buffer.inode
            assert sharing.marked(buffer)
            back = pool.apply(_same, (item,))
            assert share.same(back, item)
            sharing.close(back)
            pool.close()
            pool.join()

    def test_through_an_executor(self, context, item, buffer):
        with ProcessPoolExecutor(1, mp_context=context) as executor:
            assert executor.submit(sharing.mark_and_close, item).result() == buffer.inode
        assert sharing.marked(buffer)

    def test_through_a_manager(self, context, buffer):
        with context.Manager() as manager:
            things = manager.list()
            things.append(buffer)
            with things[0] as back:
                assert back == buffer
                sharing.mark(back)
            sharing.close(things.pop())
            del things
        assert sharing.marked(buffer)

    def test_of_a_fence_is_the_same_fence(self, context, pending):
        ours, theirs = context.Pipe()
        process = context.Process(target=_wait_for_fence, args=(theirs, pending.fence))
        process.start()
        ours.send(pending.fence)
        assert ours.recv() == [False, False]
        pending.signal()
        assert ours.recv() == [True, True]
        for each in (ours, theirs):
            each.close()
        assert ended(process) == 0


def test_who_asked_in_time_has_it_however_late_the_lender_looks(buffer, monkeypatch):
    monkeypatch.setattr(_lender, "_CLIENT_SECONDS", 0.0)
    ticket, taken = share.Ticket(buffer), []
    asker = threading.Thread(target=lambda: taken.append(ticket.redeem()))
    with _lender._lender.lock:
        asker.start()
        time.sleep(0.3)  # it connects, is accepted, and asks
    asker.join()
    [other] = taken
    with other:
        assert other == buffer


class TestWhoAsksLate:
    """The lender hangs up before it has heard the request, the first time."""

    @pytest.fixture(autouse=True)
    def late(self, monkeypatch):
        def late(sock, data):
            if not hung_up:
                hung_up.extend(select.select([sock], [], [])[0])
                monkeypatch.setattr(_lender, "_CLIENT_SECONDS", seconds)
            return send_packet(sock, data)

        hung_up, seconds, send_packet = [], _lender._CLIENT_SECONDS, _claim.send_packet
        monkeypatch.setattr(_lender, "_CLIENT_SECONDS", 0.0)
        monkeypatch.setattr(_claim, "send_packet", late)
        yield
        assert hung_up

    def test_has_it_nevertheless(self, buffer):
        with share.Ticket(buffer).redeem() as other:
            assert other == buffer

    def test_cancels_it_nevertheless(self, buffer):
        ticket = share.Ticket(buffer)
        _claim.cancel(ticket.__getstate__())
        with pytest.raises(LookupError, match="was redeemed or cancelled before"):
            ticket.redeem()


class TestATicket:
    def test_outlives_its_object(self, context, buffer):
        tickets, results = context.Queue(), context.Queue()
        process = context.Process(target=sharing.redeem, args=(tickets, results))
        process.start()
        for _ in range(3):
            again = buffer.dup()
            tickets.put(share.Ticket(again))
            again.close()
            assert results.get() == buffer.inode
        tickets.put(None)
        assert ended(process) == 0
        assert sharing.marked(buffer)
        for queue in (tickets, results):
            queue.close()
            queue.join_thread()

    def test_goes_through_an_executor(self, context, buffer):
        with ProcessPoolExecutor(1, mp_context=context) as executor:
            assert (
                executor.submit(sharing.redeem_one, share.Ticket(buffer)).result() == buffer.inode
            )

    def test_is_redeemed_once(self, item):
        ticket = share.Ticket(item)
        same = pickle.loads(pickle.dumps(ticket))
        back = ticket.redeem()
        assert share.same(back, item)
        sharing.close(back)
        for each in (ticket, same):
            with pytest.raises(LookupError, match="redeemed or cancelled"):
                each.redeem()

    def test_that_is_cancelled_holds_nothing(self, buffer):
        ticket = share.Ticket(buffer)
        pickle.loads(pickle.dumps(ticket)).cancel()
        ticket.cancel()
        with pytest.raises((LookupError, ConnectionRefusedError)):
            ticket.redeem()

    def test_holds_one_descriptor_a_buffer(self, buffer):
        first = share.Ticket(buffer)  # and with it the lender's own
        before = descriptors()
        second = share.Ticket(buffer)
        assert descriptors() == before + 1
        first.cancel()
        second.cancel()

    def test_is_known_to_whoever_looks_for_leaks(self, buffer):
        before = _idle.descriptors()
        ticket = share.Ticket(buffer)
        assert len(_idle.descriptors() - before) == 1
        ticket.cancel()
        assert _idle.descriptors() == before

    def test_says_that_its_sender_has_ended(self, context, buffer):
        ours, theirs = context.Pipe()
        process = context.Process(target=_send_ticket, args=(theirs, buffer))
        process.start()
        ticket = ours.recv()
        os.kill(process.pid, signal.SIGKILL)
        pid = process.pid
        ended(process)
        with pytest.raises(ConnectionRefusedError, match=f"process {pid}.*has ended"):
            ticket.redeem()
        ours.close()
        theirs.close()

    def test_of_anything_else_is_refused(self):
        with pytest.raises(TypeError, match="Buffer, a Fence or an Image"):
            share.Ticket(3)


class TestAProcessThatDies:
    def test_before_it_received_leaves_nothing_in_the_sender(self, context, allocate, monkeypatch):
        monkeypatch.setattr(_lender, "GRACE", 0.2)
        ours, theirs = context.Pipe()
        process = context.Process(target=_sleep)
        process.start()
        with allocate(4096) as buffer:
            ours.send(buffer)
            os.kill(process.pid, signal.SIGKILL)
            ended(process)
        ours.close()
        theirs.close()
        sharing.eventually(lambda: _lender.waiting() == 0)

    def test_after_it_sent_is_a_clear_error(self, context, buffer):
        ours, theirs = context.Pipe()
        process = context.Process(target=_send_buffer, args=(theirs, buffer))
        process.start()
        assert ours.poll(60)
        os.kill(process.pid, signal.SIGKILL)
        ended(process)
        with pytest.raises(ConnectionRefusedError, match="has ended"):
            ours.recv()
        ours.close()
        theirs.close()


class TestPlainPickles:
    def test_are_refused_with_what_to_use(self, buffer):
        for refused in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=r"share\.send.*share\.Ticket"):
                refused(buffer)
        with pytest.raises(TypeError, match=r"share\.Ticket"):
            pickle.dumps(dmabuf.Image(buffer, "R8", 64, 64))

    def test_cost_the_import_nothing(self):
        code = (
            "import dmabuf, sys; print('multiprocessing' in sys.modules, 'asyncio' in sys.modules)"
        )
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert out.stdout.split() == ["False", "False"]


def _mark_from_queue(things, connection):
    connection.send(sharing.mark_and_close(things.get()))


def _same(item):
    return item


def _wait_for_fence(connection, argument):
    received = connection.recv()
    connection.send([argument.signaled, received.signaled])
    connection.send([argument.wait(30), received.wait(30)])
    received.close()


def _send_ticket(connection, buffer):
    connection.send(share.Ticket(buffer))
    _sleep()


def _send_buffer(connection, buffer):
    connection.send(buffer)
    _sleep()


def _sleep():
    signal.pause()
