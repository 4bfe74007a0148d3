"""Buffers: what they own, what they know of themselves, and what they refuse."""

import copy
import errno
import os
import pickle
import re
import select
import socket
import warnings

import numpy
import pytest
from helpers import confine
from helpers.process import descriptors_left, in_child

import dmabuf
from dmabuf._ioctl import dma_buf_set_name

pytestmark = pytest.mark.dmabuf_leak_check(trace=True)


class TestConstruction:
    def test_owns_the_descriptor_that_it_was_given(self, buffer):
        number = os.dup(buffer.fileno())
        with dmabuf.Buffer(number) as other:
            assert other.fileno() == number
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)

    def test_from_fd_leaves_the_descriptor_to_the_caller(self, buffer):
        for source in (buffer, buffer.fileno()):
            with dmabuf.Buffer.from_fd(source) as other:
                assert other == buffer
                assert other.fileno() != buffer.fileno()
                assert not os.get_inheritable(other.fileno())
            os.fstat(buffer.fileno())

    @pytest.mark.parametrize("kind", ["pipe", "file", "memfd", "socket"])
    @pytest.mark.parametrize("make", [dmabuf.Buffer, dmabuf.Buffer.from_fd])
    def test_something_else_is_refused_and_left_open(self, kind, make, tmp_path):
        opened = []
        if kind == "pipe":
            opened += os.pipe()
        elif kind == "file":
            opened.append(os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT))
        elif kind == "memfd":
            opened.append(os.memfd_create("dmabuf"))
        else:
            opened.append(socket.socket().detach())
        try:
            with pytest.raises(dmabuf.NotADmaBufError, match="left open") as caught:
                make(opened[0])
            assert isinstance(caught.value, ValueError)
            os.fstat(opened[0])
        finally:
            for number in opened:
                os.close(number)

    @pytest.mark.needs("root")
    def test_a_file_of_a_large_file_system_is_refused_too(self, tmp_path):
        def refused():
            confine.mount_large(str(tmp_path))
            with (
                open(tmp_path / "file", "wb") as file,
                pytest.raises(dmabuf.NotADmaBufError, match="left open"),
            ):
                dmabuf.Buffer(file.fileno())

        in_child(refused)

    @pytest.mark.parametrize("make", [dmabuf.Buffer, dmabuf.Buffer.from_fd])
    def test_a_descriptor_that_is_not_open_is_refused(self, make):
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            make(987654)
        assert caught.value.errno == errno.EBADF

    @pytest.mark.parametrize(
        ("wrong", "error"),
        [
            (-1, ValueError),
            ("3", TypeError),
            (None, TypeError),
            (True, TypeError),
            (2.0, TypeError),
        ],
    )
    @pytest.mark.parametrize("make", [dmabuf.Buffer, dmabuf.Buffer.from_fd])
    def test_what_is_no_descriptor_is_refused(self, make, wrong, error):
        with pytest.raises(error, match="descriptor"):
            make(wrong)

    def test_from_fd_of_a_closed_buffer_is_refused(self, allocate):
        buffer = allocate(4096)
        buffer.close()
        with pytest.raises(ValueError, match="closed"):
            dmabuf.Buffer.from_fd(buffer)


class TestAttributes:
    def test_size_is_whole_pages(self, allocate):
        for wanted, had in ((1, 4096), (4096, 4096), (4097, 8192)):
            with allocate(wanted) as buffer:
                assert buffer.size == had == os.lseek(buffer.fileno(), 0, os.SEEK_END)

    def test_inode_and_exporter_are_the_kernels(self, buffer):
        assert buffer.inode == os.fstat(buffer.fileno()).st_ino
        with open(f"/proc/self/fdinfo/{buffer.fileno()}") as lines:
            assert f"exp_name:\t{buffer.exporter}\n" in lines.read()

    def test_name_is_the_kernels_and_shared_by_duplicates(self, buffer):
        assert buffer.name is None
        buffer.name = "camera frame"
        with buffer.dup() as other:
            assert other.name == "camera frame"
            assert "camera frame" in os.readlink(f"/proc/self/fd/{buffer.fileno()}")
            other.name = "näme"
        assert buffer.name == "näme"
        buffer.name = None
        assert buffer.name is None

    def test_the_longest_name_fits_and_one_byte_more_does_not(self, buffer):
        buffer.name = "x" * 31
        assert buffer.name == "x" * 31
        for name in ("x" * 32, "ä" * 16):
            with pytest.raises(ValueError, match="31 bytes"):
                buffer.name = name
        assert buffer.name == "x" * 31

    @pytest.mark.parametrize("name", ["two\nlines", "nul\0"])
    def test_a_name_that_breaks_fdinfo_is_refused(self, buffer, name):
        with pytest.raises(ValueError, match="newline"):
            buffer.name = name
        assert buffer.name is None

    def test_a_name_that_is_no_str_is_refused(self, buffer):
        with pytest.raises(TypeError, match="str"):
            buffer.name = b"bytes"

    def test_attributes_can_not_be_set(self, buffer):
        for attribute in ("size", "inode", "exporter", "closed", "memory", "other"):
            with pytest.raises(AttributeError):
                setattr(buffer, attribute, 1)


class TestIdentity:
    def test_a_duplicate_is_known_as_the_same_memory(self, buffer, allocate):
        with buffer.dup() as same, allocate(8192) as other:
            assert same == buffer
            assert hash(same) == hash(buffer)
            assert {buffer, same, other} == {same, other}
            assert other != buffer
            assert buffer != buffer.inode

    def test_identity_outlives_close(self, buffer):
        same = buffer.dup()
        same.close()
        assert same == buffer
        assert hash(same) == hash(buffer)
        assert (same.size, same.inode) == (buffer.size, buffer.inode)

    def test_repr_says_what_a_debugger_wants(self, buffer):
        buffer.name = "frame"
        for part in (f"fd={buffer.fileno()}", "size=8192", f"inode={buffer.inode}", "name='frame'"):
            assert part in repr(buffer)
        assert f"exporter={buffer.exporter!r}" in repr(buffer)
        same = buffer.dup()
        same.close()
        assert "[closed]" in repr(same)
        assert f"inode={buffer.inode}" in repr(same)

    def test_repr_of_a_failed_construction_does_not_raise(self):
        assert "not opened" in repr(dmabuf.Buffer.__new__(dmabuf.Buffer))


class TestOwnership:
    def test_close_is_idempotent(self, allocate):
        buffer = allocate(4096)
        assert not buffer.closed
        for _ in range(3):
            buffer.close()
            assert buffer.closed

    def test_with_closes(self, allocate):
        with allocate(4096) as buffer:
            assert not buffer.closed
        assert buffer.closed
        with pytest.raises(ValueError, match="closed"), buffer:
            pass

    def test_detach_gives_the_number_away(self, allocate):
        buffer = allocate(4096)
        number = buffer.fileno()
        assert buffer.detach() == number
        assert buffer.closed
        buffer.close()
        with dmabuf.Buffer(number) as again:
            assert again == buffer

    @pytest.mark.parametrize(
        "use",
        [
            lambda b: b.fileno(),
            lambda b: b.detach(),
            lambda b: b.dup(),
            lambda b: b.name,
            lambda b: setattr(b, "name", "x"),
            lambda b: b.exporter,
            lambda b: b.memory,
            lambda b: b.array(1),
            lambda b: b.begin_access(dmabuf.Access.READ),
            lambda b: b.read().__enter__(),
            lambda b: b.write().__enter__(),
            lambda b: b.read_write().__enter__(),
            lambda b: b.access(dmabuf.Access.READ).__enter__(),
        ],
    )
    @pytest.mark.parametrize("mapped", [False, True])
    def test_a_closed_buffer_can_not_be_used(self, allocate, use, mapped):
        buffer = allocate(4096)
        if mapped:
            assert buffer.memory.nbytes == 4096
        buffer.close()
        with pytest.raises(ValueError, match=r"closed.*\[closed\]"):
            use(buffer)

    def test_a_collected_buffer_warns_and_closes(self, allocate):
        buffer = allocate(4096)
        number = buffer.fileno()
        with pytest.warns(ResourceWarning, match=rf"unclosed Buffer with descriptor {number}"):
            del buffer
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)

    def test_closed_and_detached_buffers_are_collected_in_silence(self, allocate):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            buffer = allocate(4096)
            buffer.close()
            del buffer
            buffer = allocate(4096)
            os.close(buffer.detach())
            del buffer

    def test_descriptors_are_closed_on_exec(self, buffer):
        assert not os.get_inheritable(buffer.fileno())
        with buffer.dup() as other:
            assert not os.get_inheritable(other.fileno())

    def test_is_no_array_and_no_sequence_and_says_what_is(self, buffer):
        for take in (numpy.asarray, numpy.array, numpy.frombuffer):
            with pytest.raises(TypeError, match=r"buffer\.array\(|bytes-like"):
                take(buffer)
        with pytest.raises(TypeError, match=r"its bytes are buffer\.size"):
            len(buffer)
        assert buffer

    def test_is_made_once(self, buffer):
        number = os.dup(buffer.fileno())
        for _ in range(2):
            with pytest.raises(TypeError, match="a Buffer can be initialised only once"):
                buffer.__init__(number)
            buffer.close()
        os.close(number)  # which stayed the caller's

    @pytest.mark.parametrize("copy", [dmabuf.Buffer.dup, dmabuf.Buffer.from_fd])
    def test_a_duplicate_beyond_the_limit_says_what_to_do(self, buffer, copy):
        words = (
            f"a duplicate of descriptor {buffer.fileno()}; close descriptors, or raise .* ulimit"
        )
        with descriptors_left(0), pytest.raises(OSError, match=words) as caught:
            copy(buffer)
        assert caught.value.errno == errno.EMFILE

    def test_a_duplicate_of_a_subclass_is_one_too(self, buffer):
        class Named(dmabuf.Buffer):
            def __init__(self, fd, title):
                super().__init__(fd)
                self.title = title

        with Named(os.dup(buffer.fileno()), "one") as one, one.dup() as two:
            assert (type(two), hasattr(two, "title")) == (Named, False)

    def test_copies_and_pickles_are_refused(self, buffer):
        for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="descriptor has one owner"):
                duplicate(buffer)

    def test_works_with_poll_as_it_is(self, buffer):
        poll = select.poll()
        poll.register(buffer, select.POLLIN | select.POLLOUT)
        assert poll.poll(0) == [(buffer.fileno(), select.POLLIN | select.POLLOUT)]


def test_a_foreign_dma_buf_is_taken_over_a_socket(buffer):
    left, right = socket.socketpair()
    with left, right:
        socket.send_fds(left, [b"x"], [buffer.fileno()])
        _, numbers, _, _ = socket.recv_fds(right, 1, 1)
    with dmabuf.Buffer(numbers[0]) as received:
        assert received == buffer
        assert re.search(r"fd=\d+", repr(received))


class TestForgedFdinfo:
    """Whoever has the buffer may set a name that looks like other lines of fdinfo."""

    @pytest.mark.parametrize(
        "name",
        [
            b"x\nexp_name:\tforged",
            b"exp_name:\tforged",
            b"x\rexp_name:\tforged",
            b"x\nsize:\t1\nname:\ty",
            b"x\n",
            b"\n",
        ],
    )
    def test_a_name_with_lines_of_its_own_is_told_whole_and_changes_nothing_else(
        self, buffer, name
    ):
        exporter = buffer.exporter
        dma_buf_set_name(buffer.fileno(), name)
        assert buffer.exporter == exporter
        with dmabuf.Buffer.from_fd(buffer) as other:
            assert other.size == buffer.size
        assert buffer.name == name.decode()
        assert repr(exporter) in repr(buffer)

    def test_a_name_that_is_no_utf_8_comes_back_as_it_is(self, buffer):
        dma_buf_set_name(buffer.fileno(), b"\xff\xfe")
        assert os.fsencode(buffer.name) == b"\xff\xfe"
