"""Camera to display, without copies against with them. On vivid and a display; writes devices.json.

The same work each time: a frame is captured, numpy inverts a square of it, the display shows it.
What differs is how the pixels get there: in one dma-buf from end to end; out of the camera's own
buffers by a copy; or out of read(2) by another one before that.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy
from compare import keep
from rich.console import Console
from rich.table import Table

import dmabuf
from dmabuf import Access, Image
from dmabuf.devices import v4l2
from dmabuf.devices.kms import Display

FRAMES = 40
REPEATS = 3
BUFFERS = 4
SIDE = 120
WIDTH, HEIGHT = 640, 480

Pipeline = Callable[[v4l2.Capture, Display, int], None]


def work_on(pixels: numpy.ndarray) -> None:
    """Do what the pipelines have in common."""
    square = pixels[:SIDE, :SIDE]
    numpy.invert(square, out=square)


def without_copies(camera: v4l2.Capture, display: Display, count: int) -> None:
    """Capture into dma-heap buffers, and show those."""
    format = camera.format()
    with ExitStack() as stack:
        buffers = [
            stack.enter_context(dmabuf.allocate(format.sizeimage[0])) for _ in range(BUFFERS)
        ]
        shown = None
        with camera.stream(buffers) as frames:
            for _, frame in zip(range(count), frames, strict=False):
                with frame.image.read_write() as (pixels,):
                    work_on(pixels)
                flip = display.show(frame.image)
                if shown is not None:
                    shown.buffers[0].import_fence(flip.fence, Access.READ)
                    shown.queue()
                shown = frame
            flip.wait()


@contextmanager
def screens(display: Display, format: v4l2.Format) -> Iterator[list[Image]]:
    """Give two pictures in the display's own memory."""
    with ExitStack() as stack:
        pictures = []
        for _ in range(2):
            dumb = stack.enter_context(display.create_dumb(WIDTH, HEIGHT, 32))
            buffer = stack.enter_context(dumb.export())
            pictures.append(Image(buffer, format.format, WIDTH, HEIGHT, strides=dumb.pitch))
        yield pictures


def show_copy(display: Display, pixels: numpy.ndarray, screen: Image) -> None:
    """Copy pixels to the display's memory, and show that."""
    with screen.write() as (target,):
        target[:] = pixels
    display.show(screen)


def copied_from_the_camera(camera: v4l2.Capture, display: Display, count: int) -> None:
    """Capture into the camera's own memory (MMAP), and copy."""
    with screens(display, camera.format()) as pictures, camera.stream(count=BUFFERS) as frames:
        for number, frame in zip(range(count), frames, strict=False):
            with frame:
                with frame.image.read_write() as (pixels,):
                    work_on(pixels)
                with frame.image.read() as (pixels,):
                    show_copy(display, pixels, pictures[number % 2])


def copied_twice(camera: v4l2.Capture, display: Display, count: int) -> None:
    """Capture by read(2), and copy."""
    format = camera.format()
    fd = camera.device.fileno()
    os.set_blocking(fd, True)
    data = bytearray(format.sizeimage[0])
    lines = numpy.frombuffer(data, "u1").reshape(HEIGHT, format.bytesperline[0])
    pixels = lines[:, : WIDTH * 4].reshape(HEIGHT, WIDTH, 4)
    with screens(display, format) as pictures:
        for number in range(count):
            os.readv(fd, [data])
            work_on(pixels)
            show_copy(display, pixels, pictures[number % 2])


PIPELINES: dict[str, Pipeline] = {
    "dma-buf": without_copies,
    "MMAP + copy": copied_from_the_camera,
    "read + copy": copied_twice,
}


def busy() -> float:
    """Return seconds that the processors have worked, for anybody."""
    user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def find_camera() -> str:
    """Return the node of a camera with the single-planar interface, which read(2) needs."""
    nodes = (v4l2.inspect(node) for node in sorted(Path("/dev").glob("video*")))
    return next(one.path for one in nodes if one.capture and not (one.m2m or one.multi_planar))


def main() -> None:
    """Measure in turns, and print frames per second and processor time a frame."""
    best: dict[str, dict[str, float]] = {way: {} for way in PIPELINES}
    for _ in range(REPEATS):
        for way, pipeline in PIPELINES.items():
            with v4l2.Capture(find_camera()) as camera, Display() as display:
                camera.set_format("XRGB8888", WIDTH, HEIGHT)
                camera.set_frame_rate(1000)  # the highest that it has
                pipeline(camera, display, 2)
                begun, own, all_of_it = time.perf_counter(), time.process_time(), busy()
                pipeline(camera, display, FRAMES)
                figures = {
                    "frames a second": FRAMES / (time.perf_counter() - begun),
                    "ms of this process a frame": (time.process_time() - own) / FRAMES * 1000,
                    "ms of all processes a frame": (busy() - all_of_it) / FRAMES * 1000,
                }
            for what, figure in figures.items():
                better = max if what.startswith("frames") else min
                best[way][what] = better(best[way].get(what, figure), figure)
    title = f"{WIDTH}x{HEIGHT}, {display.driver}, Linux {os.uname().release}"
    table = Table("", *PIPELINES, "dma-buf against", title=title)
    for what, ours in best["dma-buf"].items():
        others = [f"{way} x{ours / best[way][what]:.2f}" for way in list(PIPELINES)[1:]]
        cells = [f"{best[way][what]:.2f}" for way in PIPELINES]
        table.add_row(what, *cells, "  ".join(others))
    Console(width=130).print(table)
    keep("devices", best)


if __name__ == "__main__":
    main()
