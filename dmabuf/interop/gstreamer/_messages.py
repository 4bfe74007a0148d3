"""What is said of an item that is pushed: its caps, and where its bytes and planes are."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from dmabuf.image.colors import unpack_colors
from dmabuf.image.formats import pixel_format
from dmabuf.interop.gstreamer._caps import Picture, caps_text, parse_caps
from dmabuf.interop.gstreamer._formats import DMA_DRM, NAMES, default_placement
from dmabuf.interop.gstreamer._unixfd import Memory, VideoMeta
from dmabuf.share._messages import Layout
from dmabuf.share._offers import Offer

MOST_CAPS = 4096
"""How many bytes caps may have."""


class Described(NamedTuple):
    """An item, for clients."""

    caps: str
    memories: tuple[Memory, ...]
    video: VideoMeta | None
    buffers: tuple[int, ...]
    """Which buffer of the item's each memory is of."""


def described(
    offer: Offer, caps: str | None, frame_rate: Fraction | None, *, drm: bool
) -> Described:
    """Return what is said of an item. ValueError if GStreamer would take it for something else."""
    if caps is not None:
        parse_caps(caps)
        if len(caps.encode()) > MOST_CAPS or "\0" in caps:
            raise ValueError(f"caps must have at most {MOST_CAPS} bytes without a NUL")
        memories = tuple(Memory(used, 0) for used in offer.used)
        return Described(caps, memories, None, tuple(range(len(memories))))
    if offer.layout is None:
        raise ValueError(
            "the item is not an image in a known format; push an Image, or describe its bytes:"
            ' caps="image/jpeg"'
        )
    return _picture(offer, offer.layout, frame_rate, drm=drm)


def _picture(offer: Offer, layout: Layout, frame_rate: Fraction | None, *, drm: bool) -> Described:
    about = pixel_format(layout.format), layout.width, layout.height, layout.modifier
    colors = unpack_colors(layout.colors)
    picture = Picture(*about, colors["color_encoding"], colors["color_range"])
    text = caps_text(picture, frame_rate=frame_rate, drm=drm)
    drm = drm or bool(layout.modifier)
    placed = default_placement(picture.format, layout.width, layout.height)
    # Each run of planes in one buffer is a memory, from its first plane on.
    runs: list[list[int]] = []
    for index, plane in enumerate(layout.planes):
        if runs and layout.planes[runs[-1][-1]].memory == plane.memory:
            runs[-1].append(index)
        else:
            runs.append([index])
    memories, offsets, end = [], [], 0
    for run in runs:
        start = min(layout.planes[index].offset for index in run)
        buffer = offer.buffers[layout.planes[run[0]].memory]
        until = (*placed.offsets, placed.size)[run[-1] + 1]
        size = buffer.size - start if drm else until - end
        if size > buffer.size - start:
            raise ValueError(
                f"GStreamer needs {size} bytes for {picture.format} {layout.width}x{layout.height},"
                f" and the buffer has {buffer.size - start}; allocate a larger one"
            )
        memories.append(Memory(size, start))
        offsets += [end + layout.planes[index].offset - start for index in run]
        end += size
    strides = tuple(plane.stride for plane in layout.planes)
    if not drm and (strides, tuple(offsets)) != (placed.strides, placed.offsets):
        raise ValueError(
            f"GStreamer's sources ignore strides: {picture.format} {layout.width}x{layout.height}"
            f" must have strides {placed.strides} and offsets {placed.offsets}, not {strides} and"
            f" {tuple(offsets)}; use Image.allocate(stride_align=4), or Sink(drm=True) to importers"
        )
    number = DMA_DRM if drm else NAMES[picture.format.name][1]
    video = VideoMeta(number, layout.width, layout.height, tuple(offsets), strides)
    buffers = tuple(layout.planes[run[0]].memory for run in runs)
    return Described(text, tuple(memories), video, buffers)
