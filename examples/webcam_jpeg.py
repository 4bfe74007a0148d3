"""A webcam's MJPEG frames, decoded by Pillow from the camera's own memory.

    python examples/webcam_jpeg.py [--frames 3] [--camera /dev/video0] picture.png

Saves the last frame. Needs Pillow and a camera that supports MJPG, as most USB cameras do.
"""

from __future__ import annotations

import argparse
import io

from PIL import Image

from dmabuf.devices import v4l2

LARGEST = 1280 * 720


def choose_size(camera: v4l2.Capture) -> tuple[int, int]:
    """Return the largest size of MJPG that is not too large."""
    sizes = [(size.max_width, size.max_height) for size in camera.frame_sizes("MJPG")]
    usable = [size for size in sizes if size[0] * size[1] <= LARGEST]
    return max(usable or sizes, key=lambda size: size[0] * size[1])


def decode(frame: v4l2.Frame) -> Image.Image | None:
    """Return a frame as a picture; None for one that came broken."""
    with frame.data as data:
        try:
            return Image.open(io.BytesIO(data)).convert("RGB")
        except OSError:
            return None


def main() -> None:
    """Take the options, and decode."""
    parser = argparse.ArgumentParser(description="Decode a webcam's MJPEG frames.")
    parser.add_argument("path", metavar="PICTURE")
    parser.add_argument("--frames", type=int, default=3, metavar="N")
    parser.add_argument("--camera", metavar="NODE", help="by default the first that gives MJPG")
    options = parser.parse_args()
    with v4l2.Capture(options.camera or v4l2.Capture.find("MJPG")) as camera:
        camera.set_format("MJPG", *choose_size(camera))
        picture = None
        with camera.stream() as frames:
            for _, frame in zip(range(options.frames), frames, strict=False):
                with frame:
                    picture = decode(frame) or picture
                    print(f"frame {frame.sequence}: {frame.bytes_used[0]} bytes of JPEG, {picture}")
    if picture is None:
        raise SystemExit("all frames came broken")
    picture.save(options.path)


if __name__ == "__main__":
    main()
