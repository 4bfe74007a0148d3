"""What a scan can't see, and how it says so: hidden processes, containers, a forbidden kcmp(2)."""

import ctypes
import os
import threading

import pytest
from helpers.confine import drop_capability_to_trace, forbid_kcmp, mount_proc
from helpers.holding import CLONE_FILES, SHARE_TABLE, of
from helpers.peer import Peer
from helpers.process import NOBODY, in_child

from dmabuf import usage

CLONE_NEWPID = 0x20000000

pytestmark = pytest.mark.needs("root")


def become_nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


class TestHidepid:
    @pytest.mark.needs("export")  # Linux 5.10 shows nobody's fdinfo to nobody
    def test_hidden_processes_are_named_among_the_reasons(self, buffer):
        def look():
            mount_proc("hidepid=2")
            become_nobody()
            return usage.scan(), os.getpid()

        scan, child = in_child(look)
        found = of(buffer, scan)
        assert [holder.pid for holder in found.holders] == [child]
        assert (scan.unreadable, found.unexplained) == ((), 1)
        assert "processes that /proc hides from this user (hidepid)" in found.notes[-1]

    def test_a_hidden_process_that_is_asked_for_is_gone(self, buffer):
        def look():
            mount_proc("hidepid=2")
            become_nobody()
            return usage.scan(processes=[1])

        assert in_child(look).gone == (1,)

    def test_processes_that_are_listed_and_closed_are_unreadable(self, buffer):
        def look():
            mount_proc("hidepid=1")
            become_nobody()
            return usage.scan(), buffer.holders(), os.getpid()

        scan, holders, child = in_child(look)
        assert {1, os.getpid()} <= set(scan.unreadable)
        assert [holder.pid for holder in holders] == [child]

    def test_without_it_nothing_is_said(self, buffer, gem):
        assert "hidepid" not in "".join(of(buffer, usage.scan()).notes)


class TestNamespace:
    def test_outside_of_it_nothing_is_seen_and_that_is_said(self, buffer):
        def look():
            assert ctypes.CDLL(None).unshare(CLONE_NEWPID) == 0

            def inside():
                mount_proc()
                with Peer():
                    return usage.scan(explain=False), buffer.holders()

            return in_child(inside)

        scan, holders = in_child(look)
        found = of(buffer, scan)
        assert [holder.pid for holder in found.holders] == [1, 2]
        assert found.holders == holders
        assert found.unexplained == 2, (
            "the test's own, and that of the child that made the namespace"
        )
        assert "processes of other PID namespaces" in found.notes[-1]
        assert "hidepid" not in found.notes[-1]

    @pytest.mark.needs("bufinfo")
    def test_a_buffer_that_only_debugfs_shows_is_held_by_nobody_visible(self, buffer):
        def look():
            os.close(buffer.fileno())
            assert ctypes.CDLL(None).unshare(CLONE_NEWPID) == 0

            def inside():
                mount_proc()
                return usage.scan()

            return in_child(inside)

        found = of(buffer, in_child(look))
        assert found.holders == ()
        assert (found.size, found.count, found.unexplained) == (buffer.size, 1, 1)
        assert found.notes[0] == "no process that is visible from here holds it"


class TestNoKcmp:
    def test_a_threads_own_descriptors_are_named_among_the_reasons(self, buffer):
        def look():
            forbid_kcmp()
            ready, go = threading.Event(), threading.Event()

            def apart():
                assert ctypes.CDLL(None).unshare(CLONE_FILES) == 0
                ready.set()
                go.wait(60)

            thread = threading.Thread(target=apart)
            thread.start()
            assert ready.wait(60)
            try:
                return usage.scan(), buffer.holders()
            finally:
                go.set()
                thread.join()

        scan, holders = in_child(look)
        found = of(buffer, scan)
        assert found.holders == holders
        assert [len(holder.descriptors) for holder in holders] == [1, 1]
        assert (found.count, found.unexplained) == (3, 1)
        assert "threads with descriptors of their own" in found.notes[-1]

    def test_what_processes_share_counts_for_each_and_that_is_said(self, buffer):
        with Peer() as peer:
            child = peer.do(SHARE_TABLE)
            pid = peer.pid

            def look():
                forbid_kcmp()
                os.close(buffer.fileno())
                return usage.scan(processes=[pid, child])

            try:
                found = of(buffer, in_child(look))
            finally:
                os.kill(child, 9)
        assert [holder.pid for holder in found.holders] == [pid, child]
        assert found.unexplained == 0
        assert not any("changed during" in note for note in found.notes)

    def test_more_than_the_kernel_counts_is_no_change_but_sharing(self, buffer):
        with Peer() as peer:
            children = [peer.do(SHARE_TABLE) for _ in range(2)]

            def look():
                forbid_kcmp()
                return usage.scan()

            try:
                found = of(buffer, in_child(look))
            finally:
                for child in children:
                    os.kill(child, 9)
        assert (found.count, found.unexplained) == (3, 0)
        assert found.notes == (
            "5 references were seen and the kernel counted 3: processes may share some of them; "
            "kcmp(2), which would tell, is not allowed here",
        )


class TestPermission:
    def test_others_processes_are_counted_as_unreadable(self, buffer):
        def look():
            scan = usage.scan()
            return scan, os.getpid()

        scan, child = in_child(look, user=NOBODY)
        assert os.getpid() in scan.unreadable
        assert child not in scan.unreadable
        assert 2 not in scan.unreadable, "the kernel's own threads hold nothing"

    @pytest.mark.needs("export")  # Linux 5.10 shows nobody's fdinfo to nobody
    def test_who_is_nobody_sees_what_nobody_holds(self, buffer):
        def look():
            return usage.scan()

        scan = in_child(look, user=NOBODY)
        assert not scan.debugfs
        found = of(buffer, scan)
        (holder,) = found.holders
        assert len(holder.descriptors) == 1
        assert (found.size, found.count, found.unexplained) == (buffer.size, 2, 1)
        assert "processes that can't be read" in found.notes[-1]
        assert found.devices == ()

    def test_root_without_the_capability_to_trace_says_what_it_could_not_read(self, buffer):
        def look():
            drop_capability_to_trace()
            return usage.scan()

        scan = in_child(look)
        assert os.getpid() in scan.unreadable

    def test_a_pid_namespace_is_named_among_the_reasons(self, buffer):
        def look():
            assert ctypes.CDLL(None).unshare(CLONE_NEWPID) == 0
            return in_child(lambda: (usage.scan(), buffer.holders()))

        scan, holders = in_child(look)
        found = of(buffer, scan)
        assert (found.count, found.unexplained) == (3, 0)
        assert len(holders) == 3
