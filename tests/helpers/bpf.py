"""A BPF iterator over all dma-bufs, put together by hand: what bpftool makes of a compiled one.

The program prints what Android's and the kernel's own (tools/testing/selftests/bpf/progs/
dmabuf_iter.c) do: a buffer's inode, size, name and exporter, a line each.
"""

from __future__ import annotations

import ctypes
import os
import struct
from functools import cache
from pathlib import Path

_BPF = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _OBJ_PIN, _LINK_CREATE = 5, 6, 28  # include/uapi/linux/bpf.h
_TRACING, _TRACE_ITER = 26, 28
_SEQ_PRINTF = 126
_BTF = Path("/sys/kernel/btf/vmlinux")
_STRUCT, _FUNC = 4, 12  # kinds in include/uapi/linux/btf.h
_EXTRA = {1: 4, 3: 12, 14: 4, 17: 4}  # bytes after a type, for one; and for each of its members:
_MEMBERS = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}


class Types:
    """What the kernel tells of its own types."""

    def __init__(self) -> None:
        self._data = _BTF.read_bytes()
        _, _, _, header, at, length, names, _ = struct.unpack_from("<HBBIIIII", self._data)
        self._names = header + names
        self._found: dict[tuple[int, int], tuple[int, int, int]] = {}
        at += header
        end = at + length
        number = 0
        while at < end:
            number += 1
            name, info, _ = struct.unpack_from("<III", self._data, at)
            kind, members = info >> 24 & 31, info & 0xFFFF
            if kind in (_STRUCT, _FUNC):
                self._found.setdefault((kind, name), (number, at + 12, members))
            at += 12 + _EXTRA.get(kind, 0) + _MEMBERS.get(kind, 0) * members

    def function(self, name: str) -> int:
        """Return the number of a function."""
        return self._found[_FUNC, self._place(name)][0]

    def offset(self, kind: str, wanted: str) -> int:
        """Return the bytes before a member of a struct."""
        _, at, members = self._found[_STRUCT, self._place(kind)]
        for number in range(members):
            name, _, bits = struct.unpack_from("<III", self._data, at + 12 * number)
            if name == self._place(wanted):
                return (bits & 0xFFFFFF) // 8
        raise KeyError(f"{kind}.{wanted}")

    def _place(self, name: str) -> int:
        """Return where a name stands among the names, where each stands once."""
        return self._data.index(b"\0%s\0" % name.encode(), self._names) + 1 - self._names


def pin(path: Path) -> None:
    """Load the iterator, and pin it there, in a folder of the BPF file system."""
    code, function = _program()
    instructions, licence, log = (
        ctypes.create_string_buffer(bytes(text)) for text in (code, b"GPL", bytes(65536))
    )
    load = struct.pack(
        "<IIQQIIQII16sIIIIQIIQII",
        *(_TRACING, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(licence)),
        *(1, len(log), ctypes.addressof(log), 0, 0, b"dmabuf", 0, _TRACE_ITER, 0),
        *(0, 0, 0, 0, 0, 0, function),
    )
    try:
        program = _bpf(_PROG_LOAD, load)
    except OSError as error:
        raise OSError(error.errno, f"the iterator is refused: {log.value.decode()}") from None
    try:
        link = _bpf(_LINK_CREATE, struct.pack("<IIII", program, 0, _TRACE_ITER, 0))
        try:
            name = ctypes.create_string_buffer(bytes(path))
            _bpf(_OBJ_PIN, struct.pack("<QII", ctypes.addressof(name), link, 0))
        finally:
            os.close(link)
    finally:
        os.close(program)


@cache  # the types of a kernel are many
def _program() -> tuple[bytes, int]:
    """Return a call of bpf_seq_printf for each buffer, and what it is attached to."""
    types = Types()
    text = b"%lu\n%lu\n%s\n%s\n\0"
    text += bytes(-len(text) % 8)
    words = struct.unpack(f"<{len(text) // 8}Q", text)
    data = -8 * len(words) - 32
    code = [
        _load(6, 1, 8),  # the buffer, none after the last
        _op(0x15, 6, 0, 0, 0),  # where to: below
        _load(7, 1, 0),
        _load(7, 7, 0),  # the file of the seq interface
        _load(1, 6, types.offset("dma_buf", "file")),
        _load(1, 1, types.offset("file", "f_inode")),
        _load(1, 1, types.offset("inode", "i_ino")),
        _store(data, 1),
    ]
    for place, member in enumerate(("size", "name", "exp_name"), 1):
        code += [_load(1, 6, types.offset("dma_buf", member)), _store(data + 8 * place, 1)]
    for place, word in enumerate(words):
        low, high = struct.unpack("<ii", struct.pack("<Q", word))
        code += [
            _op(0x18, 1, 0, 0, low),
            _op(0, 0, 0, 0, high),
            _store(8 * (place - len(words)), 1),
        ]
    code += [_op(0xBF, 1, 7, 0, 0)]
    for register, start in ((2, -8 * len(words)), (4, data)):
        code += [_op(0xBF, register, 10, 0, 0), _op(0x07, register, 0, 0, start)]
    code += [_op(0xB7, 3, 0, 0, text.index(b"\0") + 1), _op(0xB7, 5, 0, 0, 32)]
    code += [_op(0x85, 0, 0, 0, _SEQ_PRINTF)]
    code[1] = _op(0x15, 6, 0, len(code) - 2, 0)
    code += [_op(0xB7, 0, 0, 0, 0), _op(0x95, 0, 0, 0, 0)]
    return b"".join(code), types.function("bpf_iter_dmabuf")


def _op(code: int, to: int, source: int, offset: int, value: int) -> bytes:
    return struct.pack("<BBhi", code, source << 4 | to, offset, value)


def _load(to: int, source: int, offset: int) -> bytes:
    return _op(0x79, to, source, offset, 0)


def _store(offset: int, source: int) -> bytes:
    return _op(0x7B, 10, source, offset, 0)


def _bpf(command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    asked = ctypes.create_string_buffer(attributes, len(attributes))
    result = libc.syscall(_BPF[os.uname().machine], command, asked, len(attributes))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)
