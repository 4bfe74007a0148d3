"""What a scan adds to a buffer before anybody draws a conclusion: unknown, moved, explained."""

import os
import select

import pytest
from helpers.holding import of, rename
from helpers.process import NOBODY, in_child

import dmabuf
from dmabuf import usage
from dmabuf.usage import _debugfs


@pytest.mark.needs("root", "export")
def test_a_mapping_alone_tells_others_than_root_a_name_and_nothing_else(buffer):
    rename(buffer, b"a\nb")
    memory = buffer.memory

    def look():
        os.close(buffer.fileno())
        return usage.scan()

    scan = in_child(look, user=NOBODY)
    found = of(buffer, scan)
    assert (found.size, found.exporter, found.count, found.unexplained) == (None,) * 4
    assert found.name == "a\\012b"
    assert found.notes == (
        "only its name says that it is a dma-buf: only root may check what is mapped",
        "its name is known only from maps, where \\012 is a newline or those four characters",
    )
    assert scan.exporters == {"unknown": usage.Total(bytes=0, buffers=1, unsized=1)}
    del memory


@pytest.mark.needs("bufinfo")
class TestMoved:
    @pytest.fixture
    def meanwhile(self, monkeypatch):
        """Return a function that has something done after the descriptors are read."""

        def meanwhile(change):
            read = _debugfs.read

            def changed(*path):
                change()
                return read(*path)

            monkeypatch.setattr(_debugfs, "read", changed)

        return meanwhile

    def test_a_reference_that_came_is_noted(self, buffer, meanwhile):
        more = []
        meanwhile(lambda: more.append(os.dup(buffer.fileno())))
        found = of(buffer)
        os.close(*more)
        assert (found.count, found.unexplained) == (2, 1)
        assert found.notes[0] == "its references changed during the scan: 1 at first, 2 later"

    def test_one_that_went_is_noted_and_none_is_missing(self, buffer, meanwhile):
        more = os.dup(buffer.fileno())
        meanwhile(lambda: os.close(more))
        found = of(buffer)
        assert (found.count, found.unexplained) == (1, 0)
        assert found.notes == (
            "its references changed during the scan: 2 at first, 1 later",
            "its references changed during the scan: 2 were seen and the kernel counted 1",
        )


@pytest.mark.needs("bufinfo", "vgem", "export")
def test_polls_of_a_busy_buffer_are_among_the_reasons(buffer):
    from helpers import vgem

    with vgem.Fence(buffer) as fence:
        poll = select.poll()
        poll.register(buffer.fileno(), select.POLLIN)
        assert not poll.poll(0)
        found = of(buffer)
        fence.signal()
    assert found.unexplained > 0
    assert "polls that wait for its fences" in found.notes[-1]
    assert "io_uring" in found.notes[-1]


def test_what_a_pool_has_idle_is_no_leak(allocate):
    with usage.leak_check():
        pool = dmabuf.Pool(1, 4096, allocate=allocate)
        pool.acquire().close()
    pool.close()
