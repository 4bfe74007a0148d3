"""One camera for many programs: each gets its frames, and no frame is copied.

Needs a V4L2 camera. Clients are camera_client.py, camera_over_network.py, `dmabuf-alloc receive
PATH`, or your own programs. They may start, end, stall and crash at any time. Ctrl-C ends it.

    python examples/camera_service.py [--socket /tmp/camera.sock] [--camera /dev/video0]
        [--format NV12] [--size 1280 720]
"""

from __future__ import annotations

import argparse

from dmabuf.devices import v4l2
from dmabuf.share import Publisher


def serve(path: str, node: str, format: str, width: int, height: int) -> None:
    """Publish every frame, until interrupted."""
    with v4l2.Capture(node) as camera, Publisher(path) as publisher:
        made = camera.set_format(format, width, height)
        print(f"{node}: {made.format} {made.width}x{made.height}, at {path}", flush=True)
        with camera.stream(count=6) as frames:
            for frame in frames:
                publisher.publish(frame)


def main() -> None:
    """Take the options, and serve."""
    parser = argparse.ArgumentParser(description="Publish a camera's frames to other programs.")
    parser.add_argument("--socket", default="/tmp/camera.sock", metavar="PATH")
    parser.add_argument("--camera", default="/dev/video0", metavar="NODE")
    parser.add_argument("--format", default="NV12", metavar="NAME")
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 720), metavar=("W", "H"))
    options = parser.parse_args()
    try:
        serve(options.socket, options.camera, options.format, *options.size)
    except KeyboardInterrupt:
        print("stopped")
    except OSError as error:
        raise SystemExit(f"camera_service.py: {error.strerror}") from None


if __name__ == "__main__":
    main()
