"""Processes that come and go while a scan looks, and many descriptors."""

import contextlib
import os
import resource
import threading
import time

import pytest
from helpers.holding import explained, of
from helpers.peer import Peer

from dmabuf import usage


class TestComingAndGoing:
    def test_processes_that_end_during_a_scan_are_no_error(self, buffer):
        stop = threading.Event()

        def storm():
            while not stop.is_set():
                pid = os.posix_spawn("/bin/true", ["true"], {})
                os.waitpid(pid, 0)

        thread = threading.Thread(target=storm)
        thread.start()
        try:
            for _ in range(10):
                found = of(buffer)
                assert os.getpid() in [holder.pid for holder in found.holders]
                assert not usage.scan().unreadable
        finally:
            stop.set()
            thread.join()

    def test_what_is_asked_for_and_not_there_is_gone(self, buffer):
        with Peer() as peer:
            pid = peer.pid
            peer.kill()
        scan = usage.scan(processes=[pid, os.getpid(), os.getpid()])
        assert scan.gone == (pid,)
        assert [process.pid for process in scan.processes] == [os.getpid()]
        assert [one.inode for one in scan.buffers] == [buffer.inode]

    def test_what_was_not_asked_for_is_named_among_the_reasons(self, buffer):
        with Peer() as peer:
            found = of(buffer, usage.scan(processes=[peer.pid]))
            assert found.unexplained == 1
            assert "processes that were not asked for" in found.notes[-1]

    @pytest.mark.parametrize(
        ("processes", "error"),
        [([0], ValueError), ([-1], ValueError), ([True], TypeError), (["1"], TypeError)],
    )
    def test_what_is_no_process_number_is_refused(self, processes, error):
        with pytest.raises(error, match="a process id must be"):
            usage.scan(processes=processes)

    def test_forks_that_hold_it_and_die_during_a_scan_are_no_error(self, buffer):
        with Peer() as peer:
            peer.tell(
                "import os\n"
                "while True:\n"
                "    children = [os.fork() for _ in range(3)]\n"
                "    if 0 in children:\n"
                "        os._exit(0)\n"
                "    for child in children:\n"
                "        os.waitpid(child, 0)\n"
            )
            for _ in range(6):
                scan = usage.scan()
                pids = [holder.pid for holder in of(buffer, scan).holders]
                assert {os.getpid(), peer.pid} <= set(pids)
                assert len(set(pids)) == len(pids)
                assert sum(process.share for process in scan.processes) == buffer.size
                assert not scan.unreadable
                assert {os.getpid(), peer.pid} <= {one.pid for one in buffer.holders()}
        while len(buffer.holders()) > 1:  # its last children are about to die
            time.sleep(0.01)
        explained(buffer)

    def test_a_hundred_thousand_descriptors_are_counted_right(self, allocate):
        each, peers = 5_000, 9
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * each + 1_000), hard))
        numbers = []
        try:
            with allocate(4096) as one, allocate(8192) as other, contextlib.ExitStack() as stack:
                for _ in range(each - 1):
                    numbers += [os.dup(one.fileno()), os.dup(other.fileno())]
                for _ in range(peers):
                    stack.enter_context(Peer())
                scan = usage.scan()
                for buffer in (one, other):
                    found = of(buffer, scan)
                    assert (found.count, found.unexplained) == (each * (peers + 1), 0)
                    assert [len(holder.descriptors) for holder in found.holders] == [each] * 10
                assert sum(process.descriptors for process in scan.processes) == 100_000
        finally:
            for number in numbers:
                os.close(number)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
