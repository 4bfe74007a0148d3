"""GStreamer on the other side of a unixfd socket: run under the distribution's Python.

`formats` prints what GStreamer makes of each of its formats; `samples PATH` prints a line of JSON
for each buffer that unixfdsrc gives, until the end of the stream, and `end` then; `stall PATH`
takes buffers and keeps them.
"""

import hashlib
import json
import os
import sys
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstAllocators", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstAllocators, GstApp, GstVideo  # noqa: E402, F401

SIZES = ((64, 48), (1, 1), (5, 7), (33, 18), (318, 181))


def formats() -> None:
    """Print the number, and for some sizes the strides, offsets and size, of each format."""
    found = {}
    for name in sys.argv[2:]:
        kind = GstVideo.video_format_from_string(name)
        placed = []
        for width, height in () if name == "DMA_DRM" else SIZES:
            info = GstVideo.VideoInfo.new()
            assert info.set_format(kind, width, height)
            count = info.finfo.n_planes
            placed.append([info.stride[:count], info.offset[:count], info.size])
        found[name] = [int(kind), placed]
    print(json.dumps(found))


def samples(path: str, *, keep: bool) -> None:
    """Print what unixfdsrc gives."""
    pipeline = Gst.parse_launch(
        f"unixfdsrc socket-path={path} ! appsink name=out sync=false enable-last-sample=false"
    )
    pipeline.set_state(Gst.State.PLAYING)
    sink = pipeline.get_by_name("out")
    kept = []
    while (sample := sink.pull_sample()) is not None:
        buffer = sample.get_buffer()
        memory = buffer.peek_memory(0)
        number = -1
        if GstAllocators.is_dmabuf_memory(memory):
            number = os.fstat(GstAllocators.dmabuf_memory_get_fd(memory)).st_ino
        meta = GstVideo.buffer_get_video_meta(buffer)
        data = buffer.extract_dup(0, buffer.get_size())
        line = {
            "caps": sample.get_caps().to_string(),
            "inode": number,
            "size": len(data),
            "hash": hashlib.sha256(data).hexdigest(),
            "pts": buffer.pts + pipeline.get_base_time(),
            "duration": buffer.duration,
            "strides": meta.stride[: meta.n_planes] if meta else None,
            "offsets": meta.offset[: meta.n_planes] if meta else None,
        }
        print(json.dumps(line), flush=True)
        if keep:
            kept.append(sample)
        del sample, buffer, memory, meta
    print("end", flush=True)
    while kept:
        time.sleep(1)
    pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    Gst.init(None)
    if sys.argv[1] == "formats":
        formats()
    else:
        samples(sys.argv[2], keep=sys.argv[1] == "stall")
