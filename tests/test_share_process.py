"""Descriptors of other processes, and identity."""

import contextlib
import os
import subprocess
import sys

import pytest
from helpers import interrupt, sharing
from helpers.leaks import descriptors
from helpers.process import NOBODY, in_child, in_pid_namespace

import dmabuf
from dmabuf import share


class TestFromProcess:
    def test_gives_the_same_memory(self, buffer):
        parent, number = os.getpid(), buffer.fileno()

        def take():
            buffer.close()
            with share.from_process(parent, number) as theirs:
                return sharing.mark_and_close(theirs)

        assert in_child(take) == buffer.inode
        assert sharing.marked(buffer)

    def test_gives_a_fence_too(self, pending):
        with share.from_process(os.getpid(), pending.fence.fileno()) as fence:
            assert isinstance(fence, dmabuf.Fence)
            assert not fence.signaled
            pending.signal()
            assert fence.signaled

    def test_refuses_what_is_neither(self):
        with open(os.devnull) as null, pytest.raises(ValueError, match=r"neither.*/dev/null"):
            share.from_process(os.getpid(), null.fileno())

    def test_says_that_a_process_or_a_descriptor_is_not_there(self, buffer):
        child = subprocess.Popen([sys.executable, "-c", ""])
        child.wait()
        with pytest.raises(ProcessLookupError):
            share.from_process(child.pid, buffer.fileno())
        with pytest.raises(OSError, match="descriptor 9999 of process"):
            share.from_process(os.getpid(), 9999)

    @pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
    def test_leaves_nothing_wherever_a_signal_handler_raises(self, buffer):
        for moment in interrupt.every_point():
            before, taken = descriptors(), None
            with (
                contextlib.suppress(interrupt.Interrupted),
                moment.runs(interrupt.raise_interrupted),
            ):
                taken = share.from_process(os.getpid(), buffer.fileno())
            if taken is not None:
                taken.close()
            assert descriptors() == before, moment.where

    @pytest.mark.needs("root")
    def test_goes_by_the_numbers_of_this_process_name_space(self, buffer):
        parent, number = os.getpid(), buffer.fileno()

        def take():
            with pytest.raises(ProcessLookupError):
                share.from_process(parent, number)
            with share.from_process(os.getpid(), number) as theirs:
                return os.getpid(), sharing.mark_and_close(theirs)

        assert parent != 1
        assert in_pid_namespace(take) == (1, buffer.inode)
        assert sharing.marked(buffer)

    def test_says_which_permission_is_missing(self, buffer):
        parent, number = os.getpid(), buffer.fileno()
        with pytest.raises(PermissionError, match=r"run this as root, or.*share\.send"):
            in_child(lambda: share.from_process(parent, number), user=NOBODY)


class TestSame:
    def test_is_about_the_memory(self, buffer, allocate):
        picture = dmabuf.Image(buffer, "R8", 64, 64)
        with buffer.dup() as again, allocate(4096) as other:
            assert share.same(buffer, again)
            assert share.same(buffer, picture)
            assert not share.same(buffer, other)
            assert not share.same(picture, dmabuf.Image([buffer, other], "NV12", 32, 32))
        assert share.same(buffer, again)

    def test_refuses_fences(self, pending):
        with pytest.raises(TypeError, match="Fence"):
            share.same(pending.fence, pending.fence)


@pytest.mark.parametrize("fd", [-1, 1 << 31, (1 << 32) + 1, True, "1", None])
def test_a_number_that_no_descriptor_has_is_refused_and_not_cut(fd):
    with pytest.raises((ValueError, TypeError), match="a descriptor must be"):
        share.from_process(os.getpid(), fd)


@pytest.mark.parametrize("pid", [0, -1, 1 << 31, 1 << 40])
def test_a_number_that_no_process_has_is_refused(pid):
    with pytest.raises(ValueError, match="a process id must be"):
        share.from_process(pid, 0)
