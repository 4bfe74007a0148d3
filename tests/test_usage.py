"""Who holds which buffer, step by step, against the kernel's own count."""

import contextlib
import ctypes
import mmap
import os
import resource
import struct
import threading
import time
from fcntl import ioctl
from pathlib import Path

import pytest
from helpers.features import RELEASE
from helpers.peer import Peer
from helpers.process import NOBODY, in_child

from dmabuf import usage
from dmabuf.usage import _debugfs

DMA_BUF_SET_NAME = 0x40086201
CLONE_FILES, CLONE_NEWPID = 0x400, 0x20000000
MAPS_COUNT = RELEASE >= (6, 0)  # before, a vgem buffer's mapping is of the DRM file


def of(buffer, scan=None):
    (found,) = [one for one in (scan or usage.scan()).buffers if one.inode == buffer.inode]
    return found


def kernel_count(buffer):
    for line in Path(f"/proc/self/fdinfo/{buffer.fileno()}").read_bytes().split(b"\n"):
        if line.startswith(b"count:"):
            return int(line.split()[1])
    raise AssertionError


def rename(buffer, name):
    """Name a buffer what the package refuses, as a hostile holder does."""
    ioctl(buffer.fileno(), DMA_BUF_SET_NAME, bytearray(name + b"\0"))


def explained(buffer):
    """Assert that every reference that the kernel counts was seen, and return the record."""
    found = of(buffer)
    seen = sum(len(holder.descriptors) + holder.pieces for holder in found.holders)
    assert (seen, found.unexplained) == (kernel_count(buffer), 0), found
    assert found.count == seen
    return found


def held(buffer, pid):
    """Return how many descriptors and pieces a process is seen to hold."""
    for holder in of(buffer).holders:
        if holder.pid == pid:
            return len(holder.descriptors), holder.pieces
    return 0, 0


class TestOneProcess:
    def test_an_own_buffer_is_described_as_it_is(self, buffer):
        buffer.name = "ring"
        found = of(buffer)
        assert found[:5] == (buffer.inode, buffer.size, "ring", buffer.exporter, 1)
        (holder,) = found.holders
        assert holder.pid == os.getpid()
        assert holder.command == Path("/proc/self/comm").read_text().rstrip("\n")
        assert holder.descriptors == (buffer.fileno(),)
        assert (holder.mapped, holder.pieces) == (0, 0)

    def test_duplicates_and_mappings_each_are_a_reference(self, buffer):
        with buffer.dup():
            assert held(buffer, os.getpid()) == (2, 0)
            explained(buffer)
            memory = buffer.memory
            assert held(buffer, os.getpid()) == (2, 1 if MAPS_COUNT else 0)
            explained(buffer)
            del memory

    @pytest.mark.needs("export")
    def test_each_piece_of_a_split_mapping_is_a_reference(self, allocate):
        with allocate(3 * 4096) as buffer:
            memory = buffer.memory
            address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.mprotect(ctypes.c_void_p(address + 4096), 4096, mmap.PROT_READ) == 0
            (holder,) = explained(buffer).holders
            assert (holder.pieces, holder.mapped) == (3, buffer.size)
            assert libc.mprotect(ctypes.c_void_p(address + 4096), 4096, 3) == 0

    @pytest.mark.needs("export")
    def test_a_buffer_that_only_a_mapping_keeps_is_found_with_size_and_name(self, allocate):
        buffer = allocate(8192, name="kept")
        memory = buffer.memory
        buffer.close()
        found = of(buffer)
        assert (found.size, found.name) == (8192, "kept")
        (holder,) = found.holders
        assert (holder.descriptors, holder.mapped, holder.pieces) == ((), 8192, 1)
        assert (found.exporter, found.count, found.unexplained) in [
            ("system", 1, 0),
            ("drm", 1, 0),
        ]
        del memory

    def test_a_closed_buffer_is_seen_no_more(self, buffer):
        buffer.close()
        assert buffer.inode not in [one.inode for one in usage.scan().buffers]

    def test_holders_is_what_a_scan_says(self, buffer):
        memory = buffer.memory
        with buffer.dup():
            assert buffer.holders() == of(buffer).holders
        del memory

    def test_a_closed_buffer_has_no_holders_to_ask_for(self, buffer):
        buffer.close()
        with pytest.raises(ValueError, match="closed"):
            buffer.holders()


class TestSteps:
    def test_each_step_of_a_passed_buffer_is_seen(self, buffer):
        with Peer() as peer:
            peer.do(f"import os, mmap; os.close({buffer.fileno()})")
            assert held(buffer, peer.pid) == (0, 0)

            peer.send(buffer.fileno())
            scan = usage.scan()
            in_flight = of(buffer, scan)
            assert (in_flight.unexplained, scan.in_flight) == (1, 1)
            assert "over a socket" in in_flight.notes[-1]
            assert f":{peer.pid} 1" in in_flight.notes[-1]

            peer.do("number = receive()")
            assert held(buffer, peer.pid) == (1, 0)
            explained(buffer)

            peer.do("twin = os.dup(number)")
            assert held(buffer, peer.pid) == (2, 0)
            explained(buffer)

            peer.do("import ctypes; libc = ctypes.CDLL(None); libc.mmap.restype = ctypes.c_void_p")
            peer.do("address = libc.mmap(None, 8192, 3, 1, number, ctypes.c_long(0))")
            assert held(buffer, peer.pid) == (2, int(MAPS_COUNT))
            explained(buffer)

            peer.do("os.close(number); os.close(twin)")
            assert held(buffer, peer.pid) == (0, int(MAPS_COUNT))
            explained(buffer)

            peer.do("libc.munmap(ctypes.c_void_p(address), 8192)")
            assert held(buffer, peer.pid) == (0, 0)
            explained(buffer)

    def test_a_fork_holds_what_its_parent_held_until_it_dies(self, buffer):
        with Peer() as peer:
            assert held(buffer, peer.pid) == (1, 0)
            child = peer.do("import os, time; result = os.fork() or time.sleep(1000)")
            assert held(buffer, child) == (1, 0)
            assert len(explained(buffer).holders) == 3
            os.kill(child, 9)
            peer.do(f"os.waitpid({child}, 0)")
            assert len(explained(buffer).holders) == 2
            pid = peer.pid
            peer.kill()
            assert held(buffer, pid) == (0, 0)
            assert len(explained(buffer).holders) == 1

    def test_an_unreaped_process_holds_nothing(self, buffer):
        with Peer() as peer:
            os.kill(peer.pid, 9)
            os.waitid(os.P_PID, peer.pid, os.WEXITED | os.WNOWAIT)
            assert [holder.pid for holder in explained(buffer).holders] == [os.getpid()]

    def test_exec_drops_mappings_and_what_is_closed_on_exec(self, buffer):
        with Peer() as peer:
            peer.do(f"import os; os.set_inheritable({buffer.fileno()}, True)")
            twin = peer.do(f"result = twin = os.dup({buffer.fileno()})")
            assert held(buffer, peer.pid) == (2, 0)
            assert twin != buffer.fileno()
            reader = peer.do(
                "import sys; ready, done = os.pipe(); os.set_inheritable(done, True)\n"
                "child = os.fork()\n"
                "if not child:\n"
                "    told = f'import os, time; os.write({done}, b\"x\"); time.sleep(1000)'\n"
                "    os.execv(sys.executable, ['python', '-c', told])\n"
                "os.read(ready, 1); result = child"
            )
            try:
                assert held(buffer, reader) == (1, 0)
                (holder,) = [one for one in of(buffer).holders if one.pid == reader]
                assert holder.descriptors == (buffer.fileno(),)
            finally:
                os.kill(reader, 9)

    def test_shares_add_up_to_the_byte(self, allocate):
        with allocate(4096) as one, Peer(), Peer(), allocate(8192) as other:
            scan = usage.scan()
            here = [buffer for buffer in scan.buffers if buffer.inode in (one.inode, other.inode)]
            assert sum(process.share for process in scan.processes) == sum(b.size for b in here)
            mine = next(process for process in scan.processes if process.pid == os.getpid())
            assert (mine.bytes, mine.buffers, mine.descriptors) == (4096 + 8192, 2, 2)
            assert mine.share in (4096 // 3 + 8192, 4096 // 3 + 1 + 8192)
            assert mine.user == "root"
            assert scan.total == usage.Total(4096 + 8192, 2, 0)
            assert scan.exporters == {one.exporter: scan.total}


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
            peer.tell("ctypes.CDLL(None).syscall(60, 0)")  # exit, of this thread alone
            while ") Z " not in Path(f"/proc/{peer.pid}/stat").read_text():
                time.sleep(0.01)
            assert held(buffer, peer.pid) == (1, 0)
            explained(buffer)

    def test_a_table_that_processes_share_counts_once(self, buffer):
        with Peer() as peer:
            child = peer.do(
                "import ctypes\n"
                "libc = ctypes.CDLL(None)\n"
                f"result = libc.syscall(56, {CLONE_FILES} | 17, 0, 0, 0, 0)\n"
                "if not result:\n"
                "    libc.pause()"
            )
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

        found = of(buffer, in_child(look, user=NOBODY))
        (holder,) = found.holders
        assert len(holder.descriptors) == 1
        assert (found.size, found.count, found.unexplained) == (buffer.size, 2, 1)
        assert "processes that can't be read" in found.notes[-1]
        assert found.devices == ()

    def test_root_without_the_capability_to_trace_says_what_it_could_not_read(self, buffer):
        def look():
            libc = ctypes.CDLL(None, use_errno=True)
            header = struct.pack("Ii", 0x20080522, 0)
            caps = bytearray(24)
            assert libc.capget(header, (ctypes.c_char * 24).from_buffer(caps)) == 0
            words = list(struct.unpack("6I", caps))
            words[0] &= ~(1 << 19)  # CAP_SYS_PTRACE
            words[1] &= ~(1 << 19)
            assert libc.capset(header, struct.pack("6I", *words)) == 0
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


class TestDevices:
    @pytest.mark.needs("bufinfo", "vgem")
    def test_an_import_is_unexplained_and_a_device_is_named(self, buffer, gem):
        found = of(buffer)
        assert found.unexplained == found.count - 1 > 0
        if found.exporter == "drm":
            assert "DRM device" in found.notes[-1]
        else:
            assert found.devices == ("vgem",)
            assert "its devices" in found.notes[-1]

    @pytest.mark.needs("bufinfo", "vgem")
    def test_fences_are_told_until_they_signal(self, buffer):
        from helpers import vgem

        with vgem.Fence(buffer) as fence:
            (told,) = of(buffer).fences
            assert told == usage.BufferFence("write", "vgem", "unbound", False)
            fence.signal()
            assert all(told.signaled for told in of(buffer).fences)

    @pytest.mark.needs("bufinfo", "vgem")
    def test_explain_false_leaves_debugfs_and_sockets_alone(self, buffer, gem):
        found = of(buffer, usage.scan(explain=False))
        assert (found.devices, found.fences) == ((), ())
        assert found.unexplained == found.count - 1


class TestHostileNames:
    @pytest.mark.parametrize(
        "name",
        [
            b"x\n\tAttached Devices:\n\tevil\n",
            b"\n\tread fence:2:1   signalled",
            b"\n\tShared fence: a b signalled",
            b"a\nTotal 9 devices attached\n\n",
            b"count:\t99\nsize:\t1\nname:\ty",
            b"\x1b[31mred\r\xff\x80",
            b"<none>",
            b"(deleted)",
        ],
    )
    def test_a_name_forges_nothing(self, buffer, name):
        rename(buffer, name)
        found = explained(buffer)
        assert os.fsencode(found.name) == name
        assert (found.size, found.count) == (buffer.size, 1)
        assert (found.devices, found.fences) == ((), ())
        scan = usage.scan()
        assert usage.Usage.from_json(scan.to_json()) == scan

    @pytest.mark.needs("bufinfo", "export")
    @pytest.mark.parametrize("name", [b"x\n\tAttached Devices:\n\tevil", b"a\nb\n\nc", b"plain"])
    def test_a_name_that_only_debugfs_knows_forges_no_device(self, buffer, name):
        rename(buffer, name)
        listed = _debugfs.listed(_debugfs.read(), {})[buffer.inode]
        assert os.fsencode(listed.name) == name
        assert (listed.devices, listed.fences) == ((), ())

    @pytest.mark.parametrize(
        "command", [b"a) R 1 (b", b"\nUid:\t9\t9\t9", b"((((", b"))", b"", b"\x1b[2J\xff"]
    )
    def test_a_command_forges_nothing(self, buffer, command):
        with Peer() as peer:
            peer.do(f"open('/proc/self/comm', 'wb').write({command!r} or b'\\0')")
            (holder,) = [one for one in of(buffer).holders if one.pid == peer.pid]
            assert os.fsencode(holder.command) == command
            (process,) = [one for one in usage.scan().processes if one.pid == peer.pid]
            assert (process.user, process.buffers) == ("root", 1)
            assert process.started == holder.started > 0

    def test_a_file_that_is_called_as_a_dma_buf_is_none(self, buffer):
        path = Path("/dmabuf:x")
        path.write_bytes(bytes(4096))
        try:
            with open(path, "r+b") as file, mmap.mmap(file.fileno(), 4096):
                scan = usage.scan()
                assert [one.inode for one in scan.buffers] == [buffer.inode]
                buffer.close()
                assert usage.scan().buffers == ()
        finally:
            path.unlink()

    def test_a_memfd_that_is_called_as_a_dma_buf_is_none(self):
        number = os.memfd_create("/dmabuf:x")
        try:
            os.ftruncate(number, 4096)
            with mmap.mmap(number, 4096):
                assert usage.scan().buffers == ()
        finally:
            os.close(number)

    def test_a_command_sends_nothing_to_a_terminal_from_a_note(self, buffer):
        with Peer() as peer:
            peer.do("open('/proc/self/comm', 'wb').write(b'\\x1b[2Jx')")
            peer.send(buffer.fileno())
            note = of(buffer).notes[-1]
            assert "?[2Jx:" in note
            assert note.isprintable()

    def test_a_path_longer_than_a_page_is_no_error(self, buffer, tmp_path):
        def deep():
            os.chdir(tmp_path)
            for _ in range(30):
                os.mkdir("d" * 200)
                os.chdir("d" * 200)
            with open("file", "w"):
                return usage.scan()

        try:
            assert of(buffer, in_child(deep)).holders
        finally:
            os.system(f"rm -rf {tmp_path}/d*")


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
        with pytest.raises(error, match="a process number is"):
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
