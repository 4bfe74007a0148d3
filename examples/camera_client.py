"""OpenCV on the frames of a camera service, in the camera's own memory: nothing is copied.

The first plane of a frame is a numpy array on the memory that the camera writes, and OpenCV reads
that. Once per second it prints the brightness and sharpness of the picture, the age of a frame when
it arrived, and how many frames were missed because the work took longer than a frame.

    python examples/camera_client.py [--socket /tmp/camera.sock] [--frames N]
"""

from __future__ import annotations

import argparse
import itertools
import time

import cv2

from dmabuf.share import SharedFrame, Subscriber


class Measures:
    """What was measured since the last line, and in all."""

    def __init__(self) -> None:
        self.frames = self.missed = 0
        self._told = time.monotonic()
        self._rows: list[tuple[float, float, float]] = []

    def add(self, frame: SharedFrame, brightness: float, sharpness: float, age: float) -> None:
        """Take a frame's figures, and print a line for each second."""
        self.frames += 1
        self.missed += frame.dropped
        self._rows.append((brightness, sharpness, age * 1000))
        if time.monotonic() - self._told >= 1:
            self.tell()

    def tell(self) -> None:
        """Print the averages since the last line."""
        count = len(self._rows)
        if count:
            light, detail, age = (sum(column) / count for column in zip(*self._rows, strict=True))
            rate = count / (time.monotonic() - self._told)
            print(
                f"{rate:.1f} frames per second, {age:.1f} ms old, brightness {light:.1f},"
                f" sharpness {detail:.0f}",
                flush=True,
            )
        self._rows.clear()
        self._told = time.monotonic()


def watch(path: str, count: int | None) -> None:
    """Measure `count` frames; None is all, until the service ends."""
    measures = Measures()
    with Subscriber(path) as subscriber:
        for frame in itertools.islice(subscriber, count):
            with frame, frame.image.read() as planes:
                age = time.monotonic() - frame.timestamp
                pixels = planes[0]  # NV12's luma, say: an array on the camera's memory
                brightness = cv2.mean(pixels)[0]
                sharpness = float(cv2.Laplacian(pixels, cv2.CV_16S).var())
            measures.add(frame, brightness, sharpness, age)
    measures.tell()
    print(f"{measures.frames} frames, {measures.missed} missed, none copied")


def main() -> None:
    """Take the options, and watch."""
    parser = argparse.ArgumentParser(description="Measure the frames of a camera service.")
    parser.add_argument("--socket", default="/tmp/camera.sock", metavar="PATH")
    parser.add_argument("--frames", type=int, metavar="N", help="by default all")
    options = parser.parse_args()
    try:
        watch(options.socket, options.frames)
    except KeyboardInterrupt:
        print("stopped")
    except OSError as error:
        raise SystemExit(f"camera_client.py: {error.strerror}") from None


if __name__ == "__main__":
    main()
