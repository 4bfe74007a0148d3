"""What the frame of a camera costs, against other libraries and C. On vivid; writes frames.json.

The same work each time: YUYV frames of one camera are taken as they come, at its fastest rate, and
the luma of each is summed by numpy. The figures are processor time of this process and all of its
threads. linuxpy, OpenCV, PyAV and GStreamer's Python copy each frame; what is not installed is left
out.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import importlib
import os
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy
from compare import Rows, compiled, keep_best, report, run_c
from devices import find_camera

import dmabuf
from dmabuf.devices import v4l2

SIZES = {(640, 480): 25, (1280, 720): 12}  # and how many frames of that size
REPEATS = 10
SLOTS = 4
SIZE = (0, 0)  # that is measured now

Sums = Generator[int, None, None]


def luma(pixels: numpy.ndarray) -> int:
    """Sum the luma of a frame of (rows, columns, 2)."""
    return int(pixels[:, :, 0].sum())


def by_dmabuf(path: str) -> Sums:
    """Sum frames in buffers of a dma-heap, which are not copied."""
    with v4l2.Capture(path) as camera, contextlib.ExitStack() as stack:
        size = camera.format().sizeimage[0]
        buffers = [stack.enter_context(dmabuf.allocate(size)) for _ in range(SLOTS)]
        for frame in stack.enter_context(camera.stream(buffers)):
            with frame, frame.image.read() as (pixels,):
                yield luma(pixels)


def by_dmabuf_of_the_device(path: str) -> Sums:
    """Sum frames in the camera's own buffers."""
    with v4l2.Capture(path) as camera, camera.stream(count=SLOTS) as frames:
        for frame in frames:
            with frame, frame.image.read() as (pixels,):
                yield luma(pixels)


def by_linuxpy(path: str) -> Sums:
    """Sum frames that linuxpy copies into bytes."""
    linuxpy = importlib.import_module("linuxpy.video.device")
    with linuxpy.Device(path) as camera, linuxpy.VideoCapture(camera, size=SLOTS) as frames:
        for frame in frames:
            pixels = numpy.frombuffer(frame.data, "u1").reshape(SIZE[1], SIZE[0], 2)
            yield luma(pixels)


def by_opencv(path: str) -> Sums:
    """Sum frames that OpenCV copies."""
    import cv2

    camera = cv2.VideoCapture(path, cv2.CAP_V4L2)
    try:
        camera.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        camera.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"YUYV"))
        camera.set(cv2.CAP_PROP_FRAME_WIDTH, SIZE[0])
        camera.set(cv2.CAP_PROP_FRAME_HEIGHT, SIZE[1])
        while True:
            _, pixels = camera.read()
            yield luma(pixels.reshape(SIZE[1], SIZE[0], 2))
    finally:
        camera.release()


def by_pyav(path: str) -> Sums:
    """Sum frames that FFmpeg's libraries copy into packets."""
    av = importlib.import_module("av")
    options = {"input_format": "yuyv422", "video_size": f"{SIZE[0]}x{SIZE[1]}"}
    with av.open(path, format="v4l2", options=options) as camera:
        for frame in camera.decode(video=0):
            yield luma(frame.to_ndarray())


def by_gstreamer(path: str) -> Sums:
    """Sum frames of a pipeline, whose memory Python gets as bytes."""
    gst = _gstreamer()
    form = f"video/x-raw,format=YUY2,width={SIZE[0]},height={SIZE[1]}"
    pipeline = gst.parse_launch(f"v4l2src device={path} ! {form} ! appsink name=out sync=false")
    sink = pipeline.get_by_name("out")
    try:
        pipeline.set_state(gst.State.PLAYING)
        while (sample := sink.emit("pull-sample")) is not None:
            buffer = sample.get_buffer()
            _, memory = buffer.map(gst.MapFlags.READ)
            pixels = numpy.frombuffer(memory.data, "u1").reshape(SIZE[1], SIZE[0], 2)
            yield luma(pixels)
            buffer.unmap(memory)
    finally:
        pipeline.set_state(gst.State.NULL)


@functools.cache
def _gstreamer() -> Any:
    """Return GStreamer's module, which the distribution's own Python has, with three plugins.

    To look for all plugins takes a minute where it is emulated. ImportError where it is missing.
    """
    sys.path.append("/usr/lib/python3/dist-packages")
    os.environ["GST_PLUGIN_SYSTEM_PATH_1_0"] = ""
    try:
        gi = importlib.import_module("gi")
        gi.require_version("Gst", "1.0")
        gi.require_version("GstApp", "1.0")
        gst = importlib.import_module("gi.repository.Gst")
    finally:
        sys.path.pop()
    gst.init(None)
    importlib.import_module("gi.repository.GstApp")
    for name in ("coreelements", "app", "video4linux2"):
        for file in glob.glob(f"/usr/lib/*/gstreamer-1.0/libgst{name}.so"):
            gst.Plugin.load_file(file)
    return gst


WAYS = {
    "dmabuf": by_dmabuf,
    "dmabuf, MMAP": by_dmabuf_of_the_device,
    "linuxpy": by_linuxpy,
    "OpenCV": by_opencv,
    "PyAV": by_pyav,
    "GStreamer": by_gstreamer,
}


def spent(sums: Sums, count: int) -> float:
    """Return nanoseconds of processor time a frame, after some that warm up."""
    for _ in range(5):
        next(sums)
    start = time.process_time_ns()
    for _ in range(count):
        next(sums)
    return (time.process_time_ns() - start) / count


def measure(program: Path, path: str, count: int) -> dict[str, float]:
    """Return the best time of each way, measured in turns."""
    best: dict[str, float] = {}
    missing = set()
    for _ in range(REPEATS):
        keep_best(best, "C", run_c(program, path, count))
        for way, make in WAYS.items():
            if way in missing:
                continue
            sums = make(path)
            try:
                keep_best(best, way, spent(sums, count))
            except Exception as error:  # whatever another library raises
                missing.add(way)
                print(f"{way} is left out: {error}")
            finally:
                sums.close()
    return best


def main() -> None:
    """Measure each size, and print the ratios."""
    global SIZE
    rows: Rows = {}
    path = find_camera()
    with compiled("frames") as program:
        for size, count in SIZES.items():
            SIZE = size
            with v4l2.Capture(path) as camera:
                camera.set_format("YUYV", *size)
                camera.set_frame_rate(1000)  # the highest that it has
            rows[f"frame of {size[0]}x{size[1]}"] = measure(program, path, count)
    report("frames", rows)


if __name__ == "__main__":
    main()
