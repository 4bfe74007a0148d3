"""v4l2-ctl, of v4l-utils, streams into buffers that we exported.

It takes no descriptors from others, so the buffers are exported from its own device, which
pidfd_getfd(2) lends us.
"""

import contextlib
import ctypes
import os
import subprocess
from pathlib import Path

import pytest
from helpers import cameras

import dmabuf
from dmabuf.devices.v4l2 import _ioctl

pytestmark = pytest.mark.needs("vivid", "v4l2-ctl", "root")
SYS_PIDFD_GETFD = 438  # include/uapi/asm-generic/unistd.h
SIZE = 320, 180


@contextlib.contextmanager
def streaming():
    """Have v4l2-ctl capture without end, and give its process once frames come."""
    node = cameras.find("vivid")
    picture = f"--set-fmt-video=width={SIZE[0]},height={SIZE[1]},pixelformat=GREY"
    camera = ["v4l2-ctl", "-d", node, "--set-input=0", "--set-ctrl=osd_text_mode=0"]
    words = [*camera, picture, "--stream-mmap=4", "--verbose"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            while b"cap dqbuf" not in (line := process.stderr.readline()):
                assert line, "v4l2-ctl ended"
            yield process, node
        finally:
            process.kill()
            process.stderr.close()


def borrowed(process, path) -> int:
    """Return a duplicate of the descriptor that a process has of a path."""
    folder = Path("/proc", str(process.pid), "fd")
    theirs = next(int(link.name) for link in folder.iterdir() if os.readlink(link) == path)
    pidfd = os.pidfd_open(process.pid)
    try:
        number = ctypes.CDLL(None, use_errno=True).syscall(SYS_PIDFD_GETFD, pidfd, theirs, 0)
        assert number >= 0, os.strerror(ctypes.get_errno())
        return number
    finally:
        os.close(pidfd)


def test_it_streams_into_a_buffer_of_ours():
    with streaming() as (process, node):
        device = borrowed(process, node)
        try:
            made: list[int] = []
            _ioctl.expbuf(device, _ioctl.V4L2_BUF_TYPE_VIDEO_CAPTURE, 0, 0, made)
        finally:
            os.close(device)
        with dmabuf.Buffer(made[0]) as buffer:
            assert buffer.exporter == "videobuf2_vmalloc"
            image = dmabuf.Image(buffer, "R8", *SIZE)
            with image.read() as (pixels,):
                first = pixels.copy()
            assert len(set(first[-2].tolist())) >= 8  # its bars
            while True:  # the clock in the picture goes on
                with image.read() as (pixels,):
                    if (pixels != first).any():
                        break
