"""Buffers that a pinned BPF iterator tells of, which a scan reads where debugfs is not."""

import os
import subprocess
from pathlib import Path

import pytest
from helpers import bpf
from helpers.holding import of
from helpers.process import NOBODY, in_child

from dmabuf import usage
from dmabuf.usage import _iterator

PATH = Path(_iterator.PATH)
needs_iterator = pytest.mark.needs("BPF iterator", "own machine", "root", "heap")


@pytest.fixture
def pinned():
    """Give the iterator's file."""
    root = PATH.parent.parent
    subprocess.run(["mount", "-t", "bpf", "-o", "mode=0755", "none", root], check=True)
    try:
        PATH.parent.mkdir()
        bpf.pin(PATH)
        yield PATH
    finally:
        subprocess.run(["umount", root], check=True)


@needs_iterator
class TestPinned:
    @pytest.mark.needs("vgem")
    def test_a_buffer_that_no_process_holds_is_listed(self, pinned, allocate, device):
        buffer = allocate(8192, name="preview")
        with device.import_buffer(buffer):
            buffer.close()
            found = of(buffer, usage.scan(explain=False))
        assert (found.size, found.name, found.exporter) == (8192, "preview", "system")
        assert (found.count, found.unexplained, found.holders) == (None, None, ())
        assert found.notes == ("no process that is visible from here holds it",)

    def test_what_descriptors_tell_stays_as_it_is(self, pinned, buffer):
        with_it = usage.scan(explain=False)
        pinned.unlink()
        assert of(buffer, with_it) == of(buffer, usage.scan(explain=False))

    def test_who_may_read_the_file_is_told_of_others_buffers(self, pinned, buffer):
        pinned.chmod(0o444)

        def look():
            os.close(buffer.fileno())
            return usage.scan()

        scan = in_child(look, user=NOBODY)
        assert not scan.debugfs
        assert of(buffer, scan).size == buffer.size
        assert usage.Usage.from_json(scan.to_json()) == scan

    def test_who_may_not_is_told_nothing(self, pinned, buffer):
        def look():
            os.close(buffer.fileno())
            return usage.scan()

        assert buffer.inode not in [one.inode for one in in_child(look, user=NOBODY).buffers]

    def test_some_processes_alone_are_looked_at_for_what_they_hold(self, pinned, buffer):
        assert usage.scan(processes=[1], explain=False).buffers == ()


class TestText:
    def test_each_four_lines_are_a_buffer(self):
        text = b"7\n4096\n\nsystem\n12\n8192\na b\nudmabuf\n"
        named, unnamed = (_iterator.listed(text)[inode] for inode in (12, 7))
        assert named[:5] == (12, 8192, None, "udmabuf", "a b")
        assert unnamed[:5] == (7, 4096, None, "system", None)

    def test_nothing_is_a_list_too(self):
        assert _iterator.listed(b"") == {}

    @pytest.mark.parametrize(
        "text",
        [b"7\n4096\n\nsystem", b"7\n4096\n\n", b"x\n4096\n\nsystem\n", b"7\n-1\n\nsystem\n"],
    )
    def test_what_is_of_another_form_is_none(self, text):
        assert _iterator.listed(text) is None
