"""libcamera's frames as images, and images as its frame buffers, without a copy.

    frame_buffer = request.buffers[stream]
    with dmabuf.interop.libcamera.image(frame_buffer, configuration.at(0)) as image:
        image.save("frame.png")

It takes and returns the objects of libcamera's own Python bindings. Each side has its own
descriptors of the same memory: an image that outlives its camera stays valid, and libcamera keeps
the memory of an image that is closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import accumulate
from typing import Any

from dmabuf.buffer import Buffer
from dmabuf.image import Image, PixelFormat, pixel_format
from dmabuf.image.image import take_buffers

_ENCODINGS = {"Rec601": "bt601", "Rec709": "bt709", "Rec2020": "bt2020"}
_RANGES = {"Full": "full", "Limited": "limited"}


def image(frame_buffer: Any, configuration: Any) -> Image:
    """Return libcamera's frame as an image. It owns duplicates of the descriptors: close it.

    `frame_buffer` is a `libcamera.FrameBuffer`; `configuration` is the `StreamConfiguration` of its
    stream after the camera was configured. While a request with the frame buffer is queued, the
    camera writes into the memory: read it after the request has completed, and before it is queued
    again. ValueError if the pixel format is not in dmabuf's table, such as MJPEG.
    """
    format, stride = _format(configuration), int(configuration.stride)
    size = int(configuration.size.width), int(configuration.size.height)
    planes = [plane for plane in frame_buffer.planes if plane.length]
    buffers: dict[Buffer, Buffer] = {}
    with ExitStack() as made:
        owners = []
        for plane in planes:
            buffer = made.enter_context(Buffer.from_fd(plane.fd))
            owners.append(buffers.setdefault(buffer, buffer))
            if owners[-1] is not buffer:
                buffer.close()
        offsets = [int(plane.offset) for plane in planes]
        if len(planes) == 1:  # they follow each other in one buffer
            owners *= len(format.planes)
            sizes = format.sizes(*size, stride)
            offsets = list(accumulate(sizes[:-1], initial=offsets[0]))
        encoding, range = _colors(configuration, format)
        found = Image(
            owners,
            format,
            *size,
            strides=stride,
            offsets=offsets,
            color_encoding=encoding,
            color_range=range,
        )
        made.pop_all()
        return take_buffers(found, found.buffers)


def frame_buffers(images: Sequence[Image]) -> list[Any]:
    """Return images as libcamera's frame buffers, for `request.add_buffer(stream, frame_buffer)`.

    libcamera gets its own descriptors, so the images may be closed at any time. Each image must
    have the format, size and stride of the configured stream. ImportError without libcamera's
    Python bindings.
    """
    library = _library()
    return [
        library.FrameBuffer(
            [
                library.FrameBuffer.Plane(
                    plane.buffer.fileno(), plane.offset, plane.stride * plane.height
                )
                for plane in one.planes
            ]
        )
        for one in images
    ]


def _library() -> Any:
    try:
        import libcamera
    except ImportError as error:
        raise ImportError(
            "dmabuf.interop.libcamera needs libcamera's Python bindings, which is the package"
            f" python3-libcamera of Debian and Fedora ({error})"
        ) from None
    return libcamera


def _format(configuration: Any) -> PixelFormat:
    """Return a stream's format, whose names are DRM's; MIPI's packing is a modifier of Bayer's."""
    return pixel_format(str(configuration.pixel_format).replace("_CSI2P", "P"))


def _colors(configuration: Any, format: PixelFormat) -> tuple[Any, Any]:
    """Return the colour encoding and range, as far as they are told."""
    space = configuration.color_space
    if space is None or format.model != "YUV":
        return None, None
    encoding, range = space.ycbcrEncoding, space.range
    return _ENCODINGS.get(encoding.name), _RANGES.get(range.name)
