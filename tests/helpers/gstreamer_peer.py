"""What GStreamer makes of our buffers, and we of its own: run under the distribution's Python.

Prints one line of JSON: what each step found, for tests/test_gstreamer.py to judge.
"""

import json
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstAllocators", "1.0")
gi.require_version("GstApp", "1.0")
from gi.repository import Gst, GstAllocators, GstApp  # noqa: E402, F401 (GstApp: pull-sample)

import dmabuf  # noqa: E402

SIZE = 64 * 48 * 4
CAPS = "video/x-raw,format=BGRx,width=64,height=48,framerate=30/1"
OURS, THEIRS = bytes(range(256)) * (SIZE // 256), b"\x5a" * SIZE


def memory_of(sample):
    """Return a sample's memory, which must be a dma-buf's."""
    memory = sample.get_buffer().peek_memory(0)
    assert GstAllocators.is_dmabuf_memory(memory)
    return memory


def through_a_pipeline() -> dict[str, object]:
    """Hand our buffer in as DmaBuf memory, and take it out behind a pipeline."""
    allocator = GstAllocators.DmaBufAllocator.new()
    pipeline = Gst.parse_launch(
        f"appsrc name=in caps={CAPS} format=time ! identity ! appsink name=out sync=false"
    )
    with dmabuf.allocate(SIZE, name="ours") as buffer:
        with buffer.write() as memory:
            memory[:SIZE] = OURS
        # GStreamer closes what it is given: a duplicate, left to it.
        wrapped = GstAllocators.DmaBufAllocator.alloc(allocator, buffer.dup().detach(), SIZE)
        frame = Gst.Buffer.new()
        frame.append_memory(wrapped)
        read = frame.extract_dup(0, SIZE) == OURS
        frame.fill(0, THEIRS)
        pipeline.set_state(Gst.State.PLAYING)
        pushed = pipeline.get_by_name("in").emit("push-buffer", frame)
        sample = pipeline.get_by_name("out").emit("pull-sample")
        memory = memory_of(sample)
        with dmabuf.Buffer.from_fd(GstAllocators.dmabuf_memory_get_fd(memory)) as back:
            same, name = back == buffer, back.name
        with buffer.read() as memory:
            written = bytes(memory[:SIZE]) == THEIRS
        pipeline.set_state(Gst.State.NULL)
    return {
        "pushed": pushed == Gst.FlowReturn.OK,
        "same": same,
        "name": name,
        "read": read,
        "written": written,
    }


def camera(node: str) -> list[dict[str, object]]:
    """Take frames that v4l2src exports, and read them as our buffers."""
    pipeline = Gst.parse_launch(
        f"v4l2src device={node} io-mode=dmabuf num-buffers=3"
        " ! video/x-raw,format=YUY2,width=320,height=180 ! appsink name=out sync=false"
    )
    pipeline.set_state(Gst.State.PLAYING)
    frames = []
    while (sample := pipeline.get_by_name("out").emit("pull-sample")) is not None:
        number = GstAllocators.dmabuf_memory_get_fd(memory_of(sample))
        with dmabuf.Buffer.from_fd(number) as buffer, buffer.read() as memory:
            pixels = bytes(memory[: 320 * 180 * 2])
            frames.append(
                {
                    "exporter": buffer.exporter,
                    "size": buffer.size,
                    "inode": buffer.inode,
                    "colours": len({pixels[at : at + 4] for at in range(0, 320 * 2, 4)}),
                }
            )
    pipeline.set_state(Gst.State.NULL)
    return frames


def main() -> None:
    """Run the steps on the camera whose node is given."""
    Gst.init(None)
    found = {"pipeline": through_a_pipeline(), "camera": camera(sys.argv[1])}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
