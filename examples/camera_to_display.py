"""A camera on a display without a copy: dma-heap buffers go from V4L2 through numpy to KMS.

The camera fills the buffers, numpy draws on them, the display shows them by page flips. The
out-fence of each flip is added to the buffer that leaves the screen, so the camera gets it back as
soon as the display no longer reads it. Needs a camera and a display with a common pixel format and
size, Linux 6.0, and no other program on the display; `make demo` provides all of it.

    python examples/camera_to_display.py [--frames 100] [--camera /dev/video0]
        [--display /dev/dri/card0] [--screendump NAME.png]
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import time
from contextlib import ExitStack
from pathlib import Path

import numpy

import dmabuf
from dmabuf import Access
from dmabuf.devices import v4l2
from dmabuf.devices.kms import Display

BUFFERS = 4
LARGEST = 1280 * 720  # pixels; a software-emulated machine has to draw them too
BUFINFO = Path("/sys/kernel/debug/dma_buf/bufinfo")


def agree(camera: v4l2.Capture, display: Display) -> v4l2.Format:
    """Set the camera to a format and a size that the display shows."""
    shown = display.plane.formats
    offered = [one.format for one in camera.formats() if one.format and one.format.name in shown]
    offered.sort(key=lambda format: -format.components[0].bits)
    modes = {mode.size for mode in display.connector.modes}
    for width, height in sorted(modes, key=lambda size: -size[0] * size[1]):
        if width * height <= LARGEST:
            for format in offered:
                got = camera.set_format(format, width, height)
                if (got.width, got.height) == (width, height):
                    return got
    names = ", ".join(shown)
    raise SystemExit(f"the camera has no format and size that the display shows ({names})")


def draw(image: dmabuf.Image, number: int) -> None:
    """Invert a square that wanders over the picture: what was captured is read, and written."""
    side = image.height // 4
    left = abs((number * 9) % (2 * (image.width - side)) - (image.width - side))
    top = abs((number * 5) % (2 * (image.height - side)) - (image.height - side))
    with image.read_write() as (pixels, *_):
        square = pixels[top : top + side, left : left + side]
        numpy.invert(square, out=square)


def attached(buffer: dmabuf.Buffer) -> str:
    """Return the devices that the kernel has attached to a buffer; root's knowledge."""
    if not os.access(BUFINFO, os.R_OK):
        return "known to root only"
    text = BUFINFO.read_text(errors="replace")
    about = re.search(rf"^.*\t{buffer.inode:08}\t(.*?)^Total", text, re.MULTILINE | re.DOTALL)
    devices = re.findall(r"^\t(\S+)$", about[1] if about else "", re.MULTILINE)
    return ", ".join(devices) or "nobody"


def screendump(name: str) -> None:
    """Have the virtual machine save what its display shows; see scripts/vm."""
    if "DMABUF_VM_SCREENDUMP" not in os.environ:
        raise SystemExit("--screendump is for the virtual machine: scripts/vm --display --out DIR")
    with open(os.environ["DMABUF_VM_SCREENDUMP"], "r+b", buffering=0) as port:
        port.write(f"{name}\n".encode())
        answer = port.readline().decode().strip()
    print(f"{name}: {answer}")


def run(camera: v4l2.Capture, display: Display, count: int, dump: str | None) -> None:
    """Show `count` frames, and tell how that went."""
    format = agree(camera, display)
    size = max(format.sizeimage[0], format.bytesperline[0] * format.height)
    begun, busy = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_utime
    lost = 0
    with ExitStack() as stack:
        allocated = (dmabuf.allocate(size, name=f"frame {number}") for number in range(BUFFERS))
        buffers = [stack.enter_context(buffer) for buffer in allocated]
        frames = stack.enter_context(camera.stream(buffers))
        shown: v4l2.Frame | None = None
        for number, frame in zip(range(count), frames, strict=False):
            draw(frame.image, number)
            flip = display.show(frame.image)
            if shown is not None:
                for buffer in shown.buffers:
                    buffer.import_fence(flip.fence, Access.READ)
                lost += frame.sequence - shown.sequence - 1
                shown.queue()  # waits for that fence
            shown = frame
        flip.wait()
        took = time.monotonic() - begun
        busy = resource.getrusage(resource.RUSAGE_SELF).ru_utime - busy
        if dump:
            screendump(dump)
        print(f"camera   {camera.device.path}, {camera.device.info.card}")
        print(f"display  {display.path}, {display.driver}, {display.mode}")
        print(f"frames   {count} of {format.format} {format.width}x{format.height}, {lost} lost")
        print(f"rate     {count / took:.1f} frames per second")
        print(f"python   {busy / count * 1000:.1f} ms of processor time a frame")
        print("copies   none")
        for buffer in buffers:
            print(f"buffer   {buffer.name!r}, {buffer.exporter}, attached to {attached(buffer)}")


def main() -> None:
    """Take the options, and run."""
    parser = argparse.ArgumentParser(description="Show a camera on a display, without a copy.")
    parser.add_argument("--frames", type=int, default=100, metavar="N")
    parser.add_argument("--camera", metavar="NODE", help="by default the first")
    parser.add_argument("--display", metavar="NODE", help="by default the first that imports")
    parser.add_argument("--screendump", metavar="NAME.png", help="in the virtual machine only")
    options = parser.parse_args()
    node = options.camera or v4l2.Capture.find()
    with v4l2.Capture(node) as camera, Display(options.display) as shows:
        run(camera, shows, options.frames, options.screendump)


if __name__ == "__main__":
    main()
