"""What a machine may hide or lack: parts of /proc and /sys, an encoding, poll in `select`."""

import errno
import fcntl
import json
import os
import re
import socket

import pytest
from helpers.confine import mount_proc
from helpers.process import ABSURD, in_child, without_nodes
from helpers.program import run_program

import dmabuf
from dmabuf import Access, Buffer, UnsupportedError, share, usage
from dmabuf._ioctl import dma_buf_set_name
from dmabuf.cli import main
from dmabuf.devices.drm import Vgem
from dmabuf.devices.v4l2 import Capture
from dmabuf.heap import HeapInfo

MOUNT = "run mount -t proc proc /proc"


def message(function) -> str:
    """Return the words in which a function says what is missing."""
    with pytest.raises(FileNotFoundError) as caught:
        function()
    return str(caught.value)


@pytest.mark.needs("root")
class TestWithoutMeminfo:
    """ProcSubset=pid of systemd, and chroots."""

    @pytest.mark.needs("heap")
    def test_heaps_and_pools_allocate(self):
        def allocated() -> int:
            mount_proc("subset=pid")
            assert not os.path.exists("/proc/meminfo")
            with dmabuf.allocate(1 << 20) as buffer, dmabuf.Pool(2, 4096) as pool:
                return buffer.size + pool.free

        assert in_child(allocated) == (1 << 20) + 2

    @pytest.mark.needs("udmabuf")
    def test_udmabuf_allocates(self):
        def allocated() -> int:
            mount_proc("subset=pid")
            with dmabuf.udmabuf.allocate(1 << 20) as buffer:
                return buffer.size

        assert in_child(allocated) == 1 << 20

    @pytest.mark.needs("heap")
    @pytest.mark.parametrize("size", ABSURD)
    def test_more_than_the_machine_has_is_refused_all_the_same(self, size):
        def refused() -> str:
            mount_proc("subset=pid")
            with dmabuf.Heap() as heap, pytest.raises(dmabuf.AllocationError) as caught:
                heap.allocate(size)
            return caught.value.strerror

        assert re.search(rf"{size} bytes wanted, the machine has \d+; ask", in_child(refused))


@pytest.mark.needs("root", "udmabuf")
class TestWithoutSysModule:
    def test_udmabuf_allocates_and_its_limits_are_refused_in_words(self):
        def tried() -> tuple[int, str]:
            with dmabuf.udmabuf.allocate(4096) as buffer:
                return buffer.size, message(dmabuf.udmabuf.limits)

        size, text = without_nodes("/sys/module", tried)
        assert size == 4096
        assert "/sys/module/udmabuf/parameters is hidden from this process; mount sysfs" in text

    def test_what_the_kernel_refuses_is_explained(self):
        def refused() -> str:
            with pytest.raises(dmabuf.AllocationError) as caught:
                dmabuf.udmabuf.from_memfds([(memfd, 0, 4096)] * 1025)
            return caught.value.strerror

        memfd = os.memfd_create("pieces", os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(memfd, 4096)
            fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
            text = without_nodes("/sys/module", refused)
        finally:
            os.close(memfd)
        assert "4198400 bytes in 1025 pieces refused, perhaps by the limits" in text


@pytest.mark.needs("root")
class TestWithoutProc:
    def test_what_it_alone_tells_is_refused_in_words(self, buffer):
        def told() -> list[str]:
            asked = (lambda: buffer.name, lambda: buffer.exporter, buffer.holders, usage.scan)
            return [message(ask) for ask in asked]

        for text in without_nodes("/proc", told):
            assert text.endswith(f"/proc, which alone tells this, is not mounted; {MOUNT}")

    def test_all_else_works(self, allocate):
        def done() -> str:
            with allocate(4096, name="mine") as buffer, buffer.dup() as other:
                with buffer.write() as memory:
                    memory[:4] = b"ours"
                left, right = socket.socketpair()
                with left, right:
                    share.send(left, [other])
                    with share.receive(right) as received:
                        assert received.objects[0].array(4).tobytes() == b"ours"
                assert buffer.is_idle(Access.WRITE)
                assert buffer.wait(Access.READ, 1)
                return repr(buffer)

        said = without_nodes("/proc", done)
        assert re.fullmatch(r"<dmabuf.Buffer fd=\d+ size=4096 inode=\d+>", said)

    @pytest.mark.needs("heap")
    def test_the_command_allocates_and_knows_no_exporter(self, capfd):
        words = ["4K", "--verify"]
        assert without_nodes("/proc", lambda: main(words)) == 0
        assert without_nodes("/proc", lambda: main([*words, "--json"])) == 0
        table, _, document = capfd.readouterr().out.partition("{")
        assert re.search(r"\n0 +\? +4 KiB +\d+ +\d+ +\?\n", table)
        (told,) = json.loads("{" + document)["buffers"]
        assert (told["exporter"], told["name"]) == (None, None)

    def test_a_descriptor_of_something_else_is_refused(self):
        def refused() -> str:
            with open("/dev/null") as file, pytest.raises(dmabuf.NotADmaBufError) as caught:
                Buffer(file.fileno())
            return str(caught.value)

        assert "is not a dma-buf but something else" in without_nodes("/proc", refused)


@pytest.mark.needs("root", "own machine")
class TestWithoutSysfs:
    @pytest.mark.needs("heap", "udmabuf", "vgem", "vivid")
    def test_nodes_are_known_by_their_major_numbers(self, camera):
        def opened() -> str:
            with (
                dmabuf.Heap() as heap,
                heap.allocate(4096) as buffer,
                dmabuf.udmabuf.allocate(4096),
                Vgem() as device,
                device.import_buffer(buffer),
                Capture(path) as capture,
            ):
                return capture.format().fourcc

        path = camera.device.path
        assert without_nodes("/sys", opened) == camera.format().fourcc

    @pytest.mark.needs("heap")
    def test_what_is_something_else_is_refused(self):
        def refused() -> str:
            with pytest.raises(OSError, match="is not a dma-heap but mem") as caught:
                dmabuf.Heap("/dev/null")
            return errno.errorcode[caught.value.errno]

        assert without_nodes("/sys", refused) == "ENOTTY"


class TestNames:
    @pytest.mark.parametrize(
        "name", ["a\rexp_name:\tfake", "\r", "a\x0bname:\tb", "a\x85b", "a\u2028b"]
    )
    def test_what_other_readers_take_for_lines_is_part_of_the_name(self, buffer, name):
        exporter = buffer.exporter
        dma_buf_set_name(buffer.fileno(), name.encode())
        assert (buffer.name, buffer.exporter) == (name, exporter)
        seen = usage.scan(processes=[os.getpid()])
        [found] = [one for one in seen.buffers if one.inode == buffer.inode]
        assert (found.name, found.exporter) == (name, exporter)

    @pytest.mark.parametrize("name", ["a\rexp_name:\tfake", "\r", "a\n", "a\0b"])
    def test_what_ends_a_line_or_a_name_is_refused(self, buffer, name):
        with pytest.raises(ValueError, match="must not contain a newline, a carriage"):
            buffer.name = name
        assert buffer.name is None


class TestHeaps:
    @pytest.mark.parametrize(
        ("name", "protected"),
        [
            ("protected,secure-video", True),
            ("qcom,secure-pixel", True),
            ("qcom,secure_cdsp", True),
            ("vframe-secure", True),
            ("mtk_restricted_cma", True),
            ("Secure_Heap", True),
            ("system", False),
            ("insecure", False),
            ("qcom,display", False),
        ],
    )
    def test_are_protected_by_the_words_of_their_names(self, name, protected):
        assert HeapInfo(name, f"/dev/dma_heap/{name}").protected is protected

    @pytest.mark.needs("udmabuf")
    @pytest.mark.parametrize("one", ["udmabuf", "/dev/udmabuf"])
    def test_udmabuf_is_one_to_choose(self, one):
        with dmabuf.allocate(4096, heaps=["no-such-heap", one], name="mine") as buffer:
            assert (buffer.exporter, buffer.name) == ("udmabuf", "mine")

    @pytest.mark.needs("no udmabuf")
    def test_udmabuf_is_refused_where_there_is_none(self):
        with pytest.raises(
            dmabuf.AllocationError, match=r"(?s)udmabuf: .*CONFIG_UDMABUF"
        ) as caught:
            dmabuf.allocate(4096, heaps=["udmabuf"])
        assert isinstance(caught.value.attempts[0], UnsupportedError)


PATCH = "import select; del select.poll, select.epoll"


@pytest.mark.parametrize("program", [f"{PATCH}; import dmabuf", f"import dmabuf; {PATCH}"])
def test_waits_and_publishers_work_where_select_has_lost_poll(allocate, tmp_path, program):
    """eventlet takes it out, of the module itself."""
    body = f"""
import socket, dmabuf
from dmabuf import Access, share
from helpers.buffers import allocate
buffer = allocate(4096)
assert buffer.wait(Access.READ, 1) and buffer.is_idle(Access.WRITE)
left, right = socket.socketpair()
left.settimeout(5), right.settimeout(5)
share.send(left, [buffer])
share.receive(right).close()
with share.Publisher({str(tmp_path / "socket")!r}):
    pass
buffer.close()
"""
    done = run_program(f"{program}\n{body}")
    assert (done.returncode, done.stderr) == (0, "")
