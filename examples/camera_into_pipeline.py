"""A camera's frames into a GStreamer pipeline of this process, without a copy, and out as JPEG.

The program opens the camera, and the pipeline gets each frame as a Gst.Buffer on the camera's
memory. A frame goes back to the camera when its JPEG is finished. Needs a camera, PyGObject, and
GStreamer with its good plugins.

    python examples/camera_into_pipeline.py [--frames 10] [--camera /dev/video0] last.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gi

from dmabuf.devices import v4l2
from dmabuf.interop import gstreamer

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")  # whose signals are used
from gi.repository import Gst, GstApp  # noqa: E402, F401

PIPELINE = "appsrc name=in format=time ! videoconvert ! jpegenc ! appsink name=out sync=false"


def encode(camera: v4l2.Capture, count: int) -> bytes:
    """Return the last of so many frames as JPEG."""
    pipeline = Gst.parse_launch(PIPELINE)
    source, sink = pipeline.get_by_name("in"), pipeline.get_by_name("out")
    pipeline.set_state(Gst.State.PLAYING)
    jpeg = b""
    try:
        with camera.stream(count=4) as frames:
            for number, frame in zip(range(count), frames, strict=False):
                with frame:
                    if not number:
                        caps = Gst.Caps.from_string(gstreamer.caps(frame.image))
                        source.set_property("caps", caps)
                    source.emit("push-buffer", gstreamer.buffer(frame.image, pts=number))
                    encoded = sink.emit("pull-sample").get_buffer()  # the frame is read by now
                    jpeg = encoded.extract_dup(0, encoded.get_size())
    finally:
        pipeline.set_state(Gst.State.NULL)
    return jpeg


def main() -> None:
    """Take the options, and run."""
    parser = argparse.ArgumentParser(description="Encode a camera's frames by GStreamer.")
    parser.add_argument("path", metavar="PICTURE", type=Path)
    parser.add_argument("--frames", type=int, default=10, metavar="N")
    parser.add_argument("--camera", metavar="NODE", help="by default the first")
    options = parser.parse_args()
    Gst.init(None)
    with v4l2.Capture(options.camera or v4l2.Capture.find()) as camera:
        format = camera.set_format("YUYV", 640, 360)
        options.path.write_bytes(encode(camera, options.frames))
        print(f"camera   {camera.device.path}, {camera.device.info.card}, {format.format}")
        print(f"picture  {options.path}, {options.path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
