"""Every buffer of the machine, from a BPF iterator that somebody has pinned; since Linux 6.16.

Android pins one, and elsewhere `bpftool iter pin` can pin the kernel's example, dmabuf_iter.c of
tools/testing/selftests/bpf/progs. Both print four lines a buffer: inode, size, name, exporter, with
spaces for a name's newlines. Whoever may read the file is told, and no buffer is locked for it.
"""

from __future__ import annotations

from dmabuf._procfs import decoded
from dmabuf.usage._debugfs import Listed

PATH = "/sys/fs/bpf/dmabuf/prog_dmabufIter_iter_dmabuf"

_LINES = 4


def listed(text: bytes) -> dict[int, Listed] | None:
    """Return the buffers of a list by inode; None if it is not of the form that is known."""
    *lines, end = text.split(b"\n")
    inodes, sizes, names, exporters = (lines[start::_LINES] for start in range(_LINES))
    if end or len(lines) % _LINES or not all(map(bytes.isdigit, inodes + sizes)):
        return None
    return {
        int(inode): Listed(
            inode=int(inode),
            size=int(size),
            references=None,
            exporter=decoded(exporter),
            name=decoded(name) or None,
            devices=(),
            fences=(),
        )
        for inode, size, name, exporter in zip(inodes, sizes, names, exporters, strict=True)
    }
