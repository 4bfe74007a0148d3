"""Tables of descriptors and memories that are shared, or a thread's own."""

import ctypes
import os
import threading
import time
from pathlib import Path

import pytest
from helpers.fences import EXIT
from helpers.holding import CLONE_FILES, SHARE_TABLE, explained, held, of
from helpers.peer import Peer


class TestTables:
    def test_a_thread_with_descriptors_of_its_own_is_seen(self, buffer):
        ready, go = threading.Event(), threading.Event()

        def apart():
            assert ctypes.CDLL(None).unshare(CLONE_FILES) == 0
            os.dup(buffer.fileno())
            ready.set()
            go.wait(60)

        thread = threading.Thread(target=apart)
        thread.start()
        assert ready.wait(60)
        try:
            (holder,) = explained(buffer).holders
            assert len(holder.descriptors) == 3
            assert buffer.holders() == (holder,)
        finally:
            go.set()
            thread.join()
        assert len(explained(buffer).holders[0].descriptors) == 1

    def test_threads_that_share_the_table_add_nothing(self, buffer):
        go = threading.Event()
        threads = [threading.Thread(target=go.wait) for _ in range(5)]
        for thread in threads:
            thread.start()
        try:
            assert held(buffer, os.getpid()) == (1, 0)
            assert len(explained(buffer).holders) == 1
        finally:
            go.set()
            for thread in threads:
                thread.join()

    def test_a_process_whose_first_thread_has_ended_is_seen(self, buffer):
        with Peer() as peer:
            peer.do(
                "import ctypes, threading\n"
                "def serve_on():\n"
                "    threading.Event().wait()\n"
                "threading.Thread(target=serve_on, daemon=True).start()"
            )
            peer.tell(f"ctypes.CDLL(None).syscall({EXIT}, 0)")  # exit, of this thread alone
            while ") Z " not in Path(f"/proc/{peer.pid}/stat").read_text():
                time.sleep(0.01)
            assert held(buffer, peer.pid) == (1, 0)
            explained(buffer)

    def test_a_table_that_processes_share_counts_once(self, buffer):
        with Peer() as peer:
            child = peer.do(SHARE_TABLE)
            try:
                found = of(buffer)
                assert {one.pid for one in found.holders} == {os.getpid(), peer.pid, child}
                assert (found.count, found.unexplained) == (2, 0)
                assert any(f"{peer.pid}, {child} share" in note for note in found.notes)
            finally:
                os.kill(child, 9)

    @pytest.mark.needs("export")
    def test_a_memory_that_processes_share_counts_once(self, buffer):
        """As between vfork and exec; the child copies the table of descriptors."""
        memory = buffer.memory
        with Peer() as peer:
            peer.do("import ctypes, threading, os; libc = ctypes.CDLL(None); got = []")
            peer.do(
                "stack = (ctypes.c_char * 65536)()\n"
                "libc.clone.argtypes = [ctypes.c_void_p] * 4\n"
                "top = ctypes.addressof(stack) + 65536\n"
                "pause = ctypes.cast(libc.pause, ctypes.c_void_p)\n"
                "result = libc.clone(pause, top, 0x100 | 17, None)  # CLONE_VM"
            )
            (child,) = {one.pid for one in of(buffer).holders} - {os.getpid(), peer.pid}
            try:
                found = of(buffer)
                assert [one.pieces for one in found.holders] == [1, 1, 1]
                assert (found.count, found.unexplained) == (5, 0)
                assert any("share" in note for note in found.notes)
            finally:
                os.kill(child, 9)
        del memory
