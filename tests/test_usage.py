"""Who holds which buffer, step by step, against the kernel's own count."""

import ctypes
import mmap
import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.features import RELEASE
from helpers.holding import explained, held, of
from helpers.peer import Peer
from helpers.process import descriptors_left

from dmabuf import usage

MAPS_COUNT = RELEASE >= (6, 0)  # before, a vgem buffer's mapping is of the DRM file


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

    def test_a_look_needs_three_descriptors(self, allocate):
        with ExitStack() as stack:
            inodes = [stack.enter_context(allocate(4096)).inode for _ in range(20)]
            with descriptors_left(3):
                found = usage.scan(processes=[os.getpid()], explain=False).buffers
        assert {one.inode: one.size for one in found} == dict.fromkeys(inodes, 4096)

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

    @pytest.mark.needs("bufinfo")
    def test_a_device_that_is_not_its_exporter_is_named(self, buffer, attached):
        assert of(buffer).devices == (attached,)

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
        assert (usage.scan().debugfs, usage.scan(explain=False).debugfs) == (True, False)
        assert found.unexplained == found.count - 1
