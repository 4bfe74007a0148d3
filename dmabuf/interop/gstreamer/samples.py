"""Images as GStreamer buffers, and GStreamer samples as images, in one process, by PyGObject."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, NamedTuple

from dmabuf._fd import Hold, close_kept
from dmabuf._keep import keep
from dmabuf._owning import duplicate
from dmabuf.buffer import Buffer
from dmabuf.image import Image
from dmabuf.image.image import take_buffers
from dmabuf.interop.gstreamer._caps import caps, parse_caps
from dmabuf.interop.gstreamer._content import place_image
from dmabuf.interop.gstreamer._unixfd import BufferMessage, Memory, VideoMeta

_MOST_PLANES = 4  # GST_VIDEO_MAX_PLANES


class _Libraries(NamedTuple):
    """GStreamer's, as PyGObject has them."""

    gst: Any
    allocators: Any
    video: Any


def _libraries() -> _Libraries:
    try:
        import gi

        for name in ("Gst", "GstAllocators", "GstVideo"):
            gi.require_version(name, "1.0")
        from gi.repository import Gst, GstAllocators, GstVideo
    except (ImportError, ValueError) as error:
        raise ImportError(
            "GStreamer's buffers need PyGObject and GStreamer in this Python: install the packages"
            f" python3-gi and gir1.2-gst-plugins-base-1.0 of Debian, or PyGObject ({error})"
        ) from None
    if not Gst.is_initialized():
        Gst.init(None)
    return _Libraries(Gst, GstAllocators, GstVideo)


def buffer(image: Image, pts: int | None = None) -> Any:
    """Return a Gst.Buffer on an image's memory, without a copy, for an appsrc with the `caps`.

        source.set_property("caps", Gst.Caps.from_string(gstreamer.caps(image)))
        source.emit("push-buffer", gstreamer.buffer(image, pts=0))

    `pts` is the presentation time in nanoseconds. A GstVideoMeta describes the planes. GStreamer
    gets its own descriptors, so the image may be closed at any time; do not write into the memory
    before the pipeline is done. GStreamer reads without a bracket, so wait for fences before.
    ValueError if GStreamer has no such format. ImportError without PyGObject.
    """
    if not isinstance(image, Image):
        raise TypeError(f"image must be a dmabuf.Image, not {type(image).__name__}")
    if image.closed:
        raise ValueError(f"operation on a closed Image: {image!r}")
    libraries = _libraries()
    format = libraries.video.VideoFormat.from_string(parse_caps(caps(image)).fields["format"])
    made = libraries.gst.Buffer.new()
    starts: dict[Buffer, int] = {}
    end = 0
    for one in image.buffers:
        made.append_memory(_memory(libraries, one))
        starts[one] = end
        end += one.size
    room = [0] * (_MOST_PLANES - len(image.planes))
    libraries.video.buffer_add_video_meta_full(
        made,
        libraries.video.VideoFrameFlags.NONE,
        format,
        image.width,
        image.height,
        len(image.planes),
        [starts[plane.buffer] + plane.offset for plane in image.planes] + room,
        [plane.stride for plane in image.planes] + room,
    )
    if pts is not None:
        made.pts = pts
    return made


def _memory(libraries: _Libraries, buffer: Buffer) -> Any:
    """Return a GstMemory of a buffer, which closes a descriptor of its own."""
    allocator = libraries.allocators.DmaBufAllocator.new()
    allocate = libraries.allocators.DmaBufAllocator.alloc
    copies: list[int] = []
    memories: list[Any] = []
    try:
        with Hold(buffer) as number:
            duplicate(number, copies)
        keep(memories, allocate, allocator, copies[0], buffer.size)
    finally:
        if not memories:  # else it is GStreamer's
            close_kept(copies)
    return memories[0]


def image(sample: Any) -> Image:
    """Return the image of a Gst.Sample in dma-bufs, such as an appsink gives, without a copy.

        with gstreamer.image(sink.emit("pull-sample")) as image:
            image.save("frame.png")

    The image owns duplicates of the descriptors: close it. The memory stays valid when the sample
    and its pipeline are gone. Keep the sample for as long as you need the contents, because a
    source fills the memory again. ValueError if the sample is in plain memory, or not a picture in
    a known format. ImportError without PyGObject.
    """
    libraries = _libraries()
    if not isinstance(sample, libraries.gst.Sample):
        kind = type(sample).__name__
        raise TypeError(f"sample must be a Gst.Sample, not {kind}, which an ended pipeline gives")
    whole = sample.get_buffer()
    found = [whole.peek_memory(index) for index in range(whole.n_memory())]
    if not all(map(libraries.allocators.is_dmabuf_memory, found)):
        raise ValueError(
            "the sample is in plain memory, not in dma-bufs; have its source give these (v4l2src"
            " io-mode=dmabuf, pipewiresrc always-copy=false), without an element that converts"
            " between"
        )
    picture = parse_caps(sample.get_caps().to_string()).picture()
    sizes = [memory.get_sizes() for memory in found]
    meta = libraries.video.buffer_get_video_meta(whole)
    placed = None
    if meta is not None:
        planes = slice(0, meta.n_planes)
        where = tuple(meta.offset[planes]), tuple(meta.stride[planes])
        placed = VideoMeta(int(meta.format), meta.width, meta.height, *where)
    memories = tuple(Memory(size, offset) for size, offset, _ in sizes)
    message = BufferMessage(0, None, None, None, True, memories, placed)
    with ExitStack() as stack:
        buffers = []
        for memory in found:
            number = libraries.allocators.dmabuf_memory_get_fd(memory)
            buffers.append(stack.enter_context(Buffer.from_fd(number)))
        made = take_buffers(place_image(message, buffers, picture), buffers)
        stack.pop_all()
        return made
