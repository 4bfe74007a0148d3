"""Frames from and to GStreamer's pipelines in other processes, by its unixfdsink and unixfdsrc.

    with dmabuf.interop.gstreamer.Source("/tmp/out.sock") as source:  # … ! unixfdsink
        for frame in source:
            with frame, frame.image.read() as planes: ...

    with dmabuf.interop.gstreamer.Sink("/tmp/in.sock") as sink:  # unixfdsrc ! …
        sink.push(image)

They speak the protocol themselves: GStreamer isn't needed here, and 1.24 or later there. For
pipelines in this process, `buffer(image)` and `image(sample)` go by PyGObject.
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
