"""What somebody calls a buffer or a program forges nothing."""

import mmap
import os
from pathlib import Path

import pytest
from helpers.holding import explained, of, rename
from helpers.peer import Peer
from helpers.process import in_child

from dmabuf import usage
from dmabuf.usage import _debugfs


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
