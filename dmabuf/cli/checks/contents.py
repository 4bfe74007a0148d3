"""What a buffer is filled with, and held against."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from dmabuf.buffer import Buffer
from dmabuf.cli.console.failure import Failure
from dmabuf.cli.console.size import exact

CHUNK = 4 << 20
_BLOCK = 1 << 16

Content = Callable[[int, int, int], "bytes | bytearray"]
"""The bytes that buffer `index` has from `offset` on, `length` of them, in one chunk."""


class Difference(NamedTuple):
    """The first byte that is not what it should be."""

    buffer: int
    offset: int
    expected: int
    found: int

    def __str__(self) -> str:
        return (
            f"buffer {self.buffer} differs at offset {self.offset} ({self.offset:#x}):"
            f" expected {self.expected:#04x}, found {self.found:#04x}"
        )


def constant(byte: int) -> Content:
    """Return a content of one byte, again and again."""
    chunk = bytes([byte]) * CHUNK
    return lambda index, offset, length: chunk if length == CHUNK else chunk[:length]


def pattern(index: int, offset: int, length: int) -> bytearray:
    """Return 64-bit little-endian words: their own offset, the buffer's index in the top 16 bits.

    No two pages are alike, in one buffer or in several, so a swapped page shows.
    """
    # In a block of 64 KiB only the two low bytes of the words differ.
    block = bytearray(_BLOCK)
    block[0::8] = bytes(range(0, 256, 8)) * (_BLOCK // 256)
    block[1::8] = b"".join(bytes([high]) * 32 for high in range(256))
    content = bytearray()
    for start in range(offset, offset + length, _BLOCK):
        upper = (start | (index & 0xFFFF) << 48).to_bytes(8, "little")
        for position in range(2, 8):
            block[position::8] = upper[position : position + 1] * (_BLOCK // 8)
        content += block
    return content[:length]


class FileContent:
    """A file's bytes, then zeros.

    A pipe is read to its end when it is opened, a device as far as it is needed.
    """

    def __init__(self, path: str, size: int) -> None:
        """Open a file of at most `size` bytes; `-` is standard input."""
        self.name = "standard input" if path == "-" else path
        with self._named():
            self._source = open(0 if path == "-" else path, "rb", closefd=path != "-")  # noqa: SIM115
        try:
            with self._named():
                self._kept, self.length = self._measure(size)
            if self.length > size:
                raise Failure(f"{self.name} is longer than the buffer, {exact(size)}")
        except BaseException:
            self.close()
            raise

    def _measure(self, size: int) -> tuple[bytes | None, int]:
        status = os.fstat(self._source.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_size and self._source.fileno() != 0:
            return None, status.st_size
        # Neither a pipe can be read twice, nor does a file of /proc know its size.
        kept = self._source.read(size if stat.S_ISCHR(status.st_mode) else size + 1)
        return kept, len(kept)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say which file it was: a read's own error doesn't, and standard input's is of a 0."""
        try:
            yield
        except OSError as error:
            raise Failure(f"{self.name}: {error.strerror}", error.errno) from None
        except MemoryError:
            raise Failure(
                f"{self.name}: this process has no memory left to keep its contents",
                errno.ENOMEM,
            ) from None

    def __call__(self, index: int, offset: int, length: int) -> bytes:
        """Return one chunk, the same for each buffer."""
        if self._kept is not None:
            return self._kept[offset : offset + length].ljust(length, b"\0")
        wanted = max(0, min(length, self.length - offset))
        with self._named():
            self._source.seek(offset)
            chunk = self._source.read(wanted)
        if len(chunk) < wanted:
            raise Failure(f"{self.name} has become shorter than {self.length} bytes")
        return chunk.ljust(length, b"\0")

    def close(self) -> None:
        """Close the file, unless it is standard input."""
        self._source.close()


def unheard(step: int) -> None:
    """Be told of progress that nobody wants to see."""


def fill(buffer: Buffer, index: int, content: Content, advance: Callable[[int], None]) -> None:
    """Overwrite a buffer."""
    with buffer.write() as memory:
        for offset, length in _chunks(buffer.size):
            memory[offset : offset + length] = content(index, offset, length)
            advance(length)


def difference(
    buffer: Buffer, index: int, content: Content, advance: Callable[[int], None]
) -> Difference | None:
    """Return where a buffer first differs from a content, None if nowhere."""
    with buffer.read() as memory:
        for offset, length in _chunks(buffer.size):
            expected = content(index, offset, length)
            # A copy is compared at once, a memoryview byte by byte.
            found = bytes(memory[offset : offset + length])
            if found != expected:
                at = next(at for at in range(length) if found[at] != expected[at])
                return Difference(index, offset + at, expected[at], found[at])
            advance(length)
    return None


def _chunks(size: int) -> Iterator[tuple[int, int]]:
    for offset in range(0, size, CHUNK):
        yield offset, min(CHUNK, size - offset)
