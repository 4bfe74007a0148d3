"""What dmabuf-alloc fills buffers with, and how it finds what was lost."""

import struct

import pytest

from dmabuf.cli.checks import contents


def advance(step):
    """Take note of nothing."""


@pytest.mark.needs("heap")
class TestContents:
    def test_a_fill_reaches_every_byte(self, allocate):
        with allocate(5 << 20) as buffer:
            contents.fill(buffer, 0, contents.constant(0xAA), advance)
            with buffer.read() as memory:
                assert bytes(memory) == b"\xaa" * (5 << 20)

    def test_the_pattern_holds_offsets_and_the_index(self, allocate):
        with allocate(5 << 20) as buffer:
            contents.fill(buffer, 3, contents.pattern, advance)
            with buffer.read() as memory:
                for offset in (0, 8, 4096, 65536, (4 << 20) - 8, 4 << 20, (5 << 20) - 8):
                    word = struct.unpack_from("<Q", memory, offset)[0]
                    assert word == offset | 3 << 48

    @pytest.mark.parametrize("size", [4096, 5 << 20])
    def test_swapped_pages_are_a_difference(self, allocate, size):
        with allocate(2 * size) as buffer:
            contents.fill(buffer, 0, contents.pattern, advance)
            assert contents.difference(buffer, 0, contents.pattern, advance) is None
            with buffer.read_write() as memory:
                first, second = bytes(memory[:4096]), bytes(memory[size : size + 4096])
                memory[:4096], memory[size : size + 4096] = second, first
            found = contents.difference(buffer, 0, contents.pattern, advance)
            assert found.offset < 4096

    def test_another_buffers_pattern_is_a_difference(self, allocate):
        with allocate(8192) as buffer:
            contents.fill(buffer, 1, contents.pattern, advance)
            found = contents.difference(buffer, 2, contents.pattern, advance)
            assert found == (2, 6, 2, 1)

    def test_the_last_byte_counts(self, allocate):
        with allocate(8192) as buffer:
            with buffer.write() as memory:
                memory[8191] = 1
            assert contents.difference(buffer, 0, contents.constant(0), advance) == (0, 8191, 0, 1)

    def test_a_file_that_shrinks_is_an_error(self, tmp_path):
        path = tmp_path / "file"
        path.write_bytes(b"x" * 100)
        source = contents.FileContent(str(path), 4096)
        path.write_bytes(b"x")
        with pytest.raises(contents.Failure, match="has become shorter than 100 bytes"):
            source(0, 0, 4096)
        source.close()
