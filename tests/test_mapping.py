"""What a mapping costs, why there is none, and numbers that others have closed behind our back."""

import asyncio
import contextlib
import errno
import os
import re
import resource
import socket
from pathlib import Path

import pytest
from helpers import vgem
from helpers.process import in_child
from helpers.program import run_program

import dmabuf
from dmabuf import Access, Buffer, share
from dmabuf.devices.drm import Vgem
from dmabuf.errors import NotADmaBufError

SIZE = 64 << 20
MAX_MAP_COUNT = Path("/proc/sys/vm/max_map_count")
OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
COMMIT = Path("/proc/sys/vm/overcommit_kbytes")


@contextlib.contextmanager
def set_to(values: dict[Path, int]):
    """Have the kernel's settings changed in the block, in this order."""
    before = {path: path.read_text() for path in values}
    try:
        for path, value in values.items():
            path.write_text(str(value))
        yield
    finally:
        for path in reversed(before):
            path.write_text(before[path])


def error_of(buffer: Buffer) -> tuple[int, str]:
    with pytest.raises(OSError, match="can't be mapped") as caught:
        _ = buffer.memory
    return caught.value.errno, caught.value.strerror


@pytest.mark.needs("vgem", "32 bits")
def test_of_more_than_32_bits_can_address_is_refused_with_the_cause():
    with vgem.allocate(3 << 30) as buffer:  # which takes memory only where it is looked at
        number, words = error_of(buffer)
    assert number == errno.ENOMEM
    assert f"{3 << 30} bytes do not fit into a 32-bit process" in words


class TestCost:
    @pytest.mark.needs("heap")
    @pytest.mark.parametrize("access", ["READ", "READ_WRITE"])
    def test_is_no_private_memory_where_all_is_locked(self, access):
        """RssAnon has it only while the mapping is made, its peak for good."""
        done = run_program(f"""
            import ctypes, re
            import dmabuf

            def peak():
                return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

            with dmabuf.Heap() as heap:
                buffer = heap.allocate({SIZE}, access=dmabuf.Access.{access})
                libc = ctypes.CDLL(None)
                assert libc.mlockall(3) == 0
                before = peak()
                memory = buffer.memory
                assert peak() - before < {SIZE >> 10} // 2, (before, peak())
                assert memory[-1] == 0
                buffer.close()
        """)
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.needs("own machine", "root")
    def test_is_none_that_strict_overcommit_counts(self, allocate):
        def mapped() -> bool:
            committed = int(
                re.search(r"Committed_AS: +(\d+)", Path("/proc/meminfo").read_text())[1]
            )
            with set_to({COMMIT: committed + (SIZE >> 11), OVERCOMMIT: 2}):
                buffer.memory[:1] = b"x"
            return True

        with allocate(SIZE) as buffer, buffer.dup() as other:
            other.memory[:1] = b"x"  # some exporters allocate what they have promised only now
            assert in_child(mapped)


class TestRefusal:
    def test_names_the_buffer_and_the_limit_of_the_address_space(self, allocate):
        def refused() -> tuple[int, str]:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
            resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), used + (4 << 20)))
            return error_of(buffer)

        with allocate(SIZE, name="wide") as buffer:
            number, text = in_child(refused)
        assert number == errno.ENOMEM
        assert re.search(
            rf"name='wide'.* can't be mapped: {SIZE} bytes of address space wanted, and \d+ of \d+"
            r" are in use \(RLIMIT_AS\); raise ulimit -v",
            text,
        )

    @pytest.mark.needs("own machine", "root")
    def test_names_the_number_of_mappings(self, buffer):
        def refused() -> tuple[int, str]:
            with set_to({MAX_MAP_COUNT: 10}):
                return error_of(buffer)

        number, text = in_child(refused)
        assert number == errno.ENOMEM
        assert re.search(r"this process has \d+ mappings, and vm.max_map_count is 10; drop", text)

    @pytest.mark.needs("heap")
    def test_leaves_what_can_be_mapped_later(self, buffer):
        def mapped() -> bool:
            soft, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (1 << 20, hard))
            error_of(buffer)
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
            buffer.memory[0] = 1
            return True

        assert in_child(mapped)


@pytest.fixture(params=["a file", "another buffer"])
def taken(request, buffer, other):
    """A buffer whose number somebody closed, and which is something else's by now."""
    taken = buffer.dup()
    number = taken.fileno()
    if request.param == "a file":
        file = os.memfd_create("short")
        os.ftruncate(file, 10)
        os.dup2(file, number, inheritable=False)
        os.close(file)
    else:
        os.dup2(other.fileno(), number, inheritable=False)
    yield taken
    taken.close()


def send(buffer: Buffer) -> None:
    left, right = socket.socketpair()
    with left, right:
        share.send(left, [buffer])


def send_alone(buffer: Buffer) -> None:
    left, right = socket.socketpair()
    with left, right:
        buffer.send(left)


def import_it(buffer: Buffer) -> None:
    with Vgem() as device:
        device.import_buffer(buffer)


def rename(buffer: Buffer) -> None:
    buffer.name = "mine"


async def enter(scope: dmabuf.AccessScope) -> None:
    async with scope:
        pass


USES = {
    "memory": lambda buffer: buffer.memory,
    "array": lambda buffer: buffer.array(8),
    "a scope": lambda buffer: buffer.read().__enter__(),
    "dup": Buffer.dup,
    "from_fd": Buffer.from_fd,
    "exporter": lambda buffer: buffer.exporter,
    "name": lambda buffer: buffer.name,
    "setting the name": rename,
    "export_fence": lambda buffer: buffer.export_fence(Access.READ),
    "is_idle": lambda buffer: buffer.is_idle(Access.READ),
    "wait": lambda buffer: buffer.wait(Access.READ),
    "wait_any": lambda buffer: dmabuf.wait_any([(buffer, Access.READ)]),
    "ready": lambda buffer: asyncio.run(buffer.ready(Access.READ)),
    "async with": lambda buffer: asyncio.run(enter(buffer.read())),
    "share.send": send,
    "send": send_alone,
}


class TestANumberThatIsSomethingElse:
    @pytest.mark.parametrize(
        "use",
        [
            *(pytest.param(use, id=name) for name, use in USES.items()),
            pytest.param(import_it, id="import_buffer", marks=pytest.mark.needs("vgem")),
        ],
    )
    def test_is_told_and_left_alone(self, taken, use):
        number = taken.fileno()
        words = (
            f"descriptor {number} of a buffer .inode {taken.inode}, 8192 bytes. was closed behind"
        )
        with pytest.raises(NotADmaBufError, match=words) as caught:
            use(taken)
        assert str(caught.value).endswith("look for what closes a descriptor that is not its own")
        assert os.fstat(number).st_size in (10, 8192)

    def test_is_told_where_it_is_nobodys(self, buffer):
        other = buffer.dup()
        os.close(other.fileno())
        with pytest.raises(OSError, match="was closed behind its owner's back") as caught:
            other.array(1)
        assert caught.value.errno == errno.EBADF
        os.dup2(buffer.fileno(), other.fileno(), inheritable=False)
        other.close()

    @pytest.mark.parametrize(
        "begin", [lambda buffer: buffer.read().__enter__(), lambda it: it.begin_access(Access.READ)]
    )
    def test_is_told_where_an_access_of_mapped_memory_begins(self, buffer, begin):
        other = buffer.dup()
        assert other.memory.nbytes == buffer.size
        number = other.fileno()
        with open(os.devnull) as file:
            os.dup2(file.fileno(), number, inheritable=False)
        words = f"descriptor {number} .* closed behind its owner's back and it is now /dev/null"
        with pytest.raises(NotADmaBufError, match=words):
            begin(other)
        os.dup2(buffer.fileno(), number, inheritable=False)
        os.close(other.detach())  # which no access holds

    def test_has_a_repr(self, taken):
        assert repr(taken).startswith(f"<dmabuf.Buffer fd={taken.fileno()} size=8192")


def test_a_descriptor_that_only_names_a_buffer_is_refused(buffer):
    number = os.open(f"/proc/self/fd/{buffer.fileno()}", os.O_PATH | os.O_CLOEXEC)
    try:
        for take in (dmabuf.Buffer, dmabuf.Buffer.from_fd):
            with pytest.raises(NotADmaBufError, match="opened with O_PATH"):
                take(number)
    finally:
        os.close(number)
