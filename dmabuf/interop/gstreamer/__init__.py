"""Frames from and to GStreamer pipelines in other processes, through unixfdsink and unixfdsrc.

    with dmabuf.interop.gstreamer.Source("/tmp/out.sock") as source:  # … ! unixfdsink
        for frame in source:
            with frame, frame.image.read() as planes: ...

    with dmabuf.interop.gstreamer.Sink("/tmp/in.sock") as sink:  # unixfdsrc ! …
        sink.push(image)

Both speak the protocol themselves: the other process needs GStreamer 1.24 or later, this one needs
none. For pipelines in this process, `buffer(image)` and `image(sample)` use PyGObject.
"""

from dmabuf.interop.gstreamer._caps import Caps, caps, parse_caps
from dmabuf.interop.gstreamer._clients import ClientInfo
from dmabuf.interop.gstreamer.frame import PipelineFrame
from dmabuf.interop.gstreamer.samples import buffer, image
from dmabuf.interop.gstreamer.sink import Sink
from dmabuf.interop.gstreamer.source import Source

__all__ = [
    "Caps",
    "ClientInfo",
    "PipelineFrame",
    "Sink",
    "Source",
    "buffer",
    "caps",
    "image",
    "parse_caps",
]
