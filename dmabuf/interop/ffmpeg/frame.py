"""An AVDRMFrameDescriptor, as libavutil/hwcontext_drm.h has it: of an image, and as one."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from dmabuf._closing import Closing
from dmabuf.buffer import Buffer
from dmabuf.image import Image, PixelFormat, from_drm
from dmabuf.image.colors import Encoding, Range
from dmabuf.image.image import take_buffers
from dmabuf.image.layout import fourcc, fourcc_text
from dmabuf.interop.ffmpeg._uapi import ffi

_MOST = 4
"""Of objects, layers and planes."""
_LAYERS = {
    ("R8", "GR88"): "NV12",
    ("R8", "RG88"): "NV21",
    ("R16", "GR32"): "P010",
    ("R8", "R8", "R8"): "YUV420",
}
"""What VAAPI and others give as a layer for each plane, by the layers' formats."""


class Descriptor(Closing):
    """An AVDRMFrameDescriptor in memory, with duplicates of an image's file descriptors.

        with ffmpeg.descriptor(image) as drm:
            frame.data[0] = drm.address

    `descriptor` returns it. FFmpeg takes over nothing: close it after the last AVFrame that uses it
    was unreferenced. Closing closes the duplicates; the image stays open.
    """

    __slots__ = ("_buffers", "_struct")

    def __init__(self, struct: Any, buffers: list[Buffer]) -> None:
        """See `descriptor`."""
        self._struct = struct
        self._buffers = buffers

    @property
    def address(self) -> int:
        """Its address, for AVFrame.data[0]. ValueError if closed."""
        for buffer in self._buffers:
            buffer.fileno()
        return int(ffi.cast("uintptr_t", self._struct))

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return int(ffi.sizeof("AVDRMFrameDescriptor"))

    @property
    def closed(self) -> bool:
        """True once `close()` was called."""
        return all(buffer.closed for buffer in self._buffers)

    def close(self) -> None:
        """Close the duplicates. Does nothing the second time."""
        for buffer in self._buffers:
            buffer.close()

    def __enter__(self) -> Descriptor:
        return self


def descriptor(image: Image) -> Descriptor:
    """Return an image as an AVDRMFrameDescriptor: one layer, with one object per buffer.

    For an AVFrame of the format AV_PIX_FMT_DRM_PRIME, whose `buf[0]` must be set too. ValueError if
    DRM has no code for the pixel format, or if the image has more than 4 planes.
    """
    code = image.format.drm
    if code is None:
        raise ValueError(
            f"DRM has no code for {image.format}, so FFmpeg has no DRM_PRIME frame of it"
        )
    if len(image.planes) > _MOST:
        raise ValueError(f"a DRM_PRIME frame can have at most {_MOST} planes, fewer than {image!r}")
    struct: Any = ffi.new("AVDRMFrameDescriptor *")
    with ExitStack() as made:
        buffers = [made.enter_context(buffer.dup()) for buffer in image.buffers]
        struct.nb_objects, struct.nb_layers = len(buffers), 1
        for about, buffer in zip(struct.objects, buffers, strict=False):
            about.fd, about.size = buffer.fileno(), buffer.size
            about.format_modifier = image.modifier
        layer = struct.layers[0]
        layer.format, layer.nb_planes = code, len(image.planes)
        for place, plane in zip(layer.planes, image.planes, strict=False):
            place.object_index = buffers.index(plane.buffer)
            place.offset, place.pitch = plane.offset, plane.stride
        made.pop_all()
        return Descriptor(struct, buffers)


def image(
    address: int,
    width: int,
    height: int,
    *,
    color_encoding: Encoding = None,
    color_range: Range = None,
) -> Image:
    """Return the image of an AVDRMFrameDescriptor. It owns duplicates of the buffers: close it.

    `address` is AVFrame.data[0] of a frame of the format AV_PIX_FMT_DRM_PRIME; `width` and `height`
    are those of the frame. The memory at `address` is trusted, except that sizes and offsets are
    checked against the kernel's. The image stays valid when the frame is unreferenced, but the
    device may then write another picture into its memory. ValueError if it does not describe a
    known image.
    """
    if not address:
        raise ValueError("there is no AVDRMFrameDescriptor at address 0: is it a DRM_PRIME frame?")
    struct: Any = ffi.cast("AVDRMFrameDescriptor *", address)
    layers = [struct.layers[number] for number in range(_count(struct.nb_layers, "layers"))]
    objects = [struct.objects[number] for number in range(_count(struct.nb_objects, "objects"))]
    places = [
        layer.planes[number]
        for layer in layers
        for number in range(_count(layer.nb_planes, "planes of a layer"))
    ]
    format = _format([layer.format for layer in layers])
    if not all(0 <= place.object_index < len(objects) for place in places):
        raise ValueError(f"a DRM_PRIME frame with {len(objects)} objects has planes in others")
    if len(places) != len(format.planes):
        raise ValueError(f"{format} has {len(format.planes)} planes, not {len(places)}")
    modifiers = {int(one.format_modifier) for one in objects}
    if len(modifiers) != 1:
        raise ValueError(f"all planes of an image must have one modifier, not {modifiers}")
    with ExitStack() as made:
        buffers = [made.enter_context(Buffer.from_fd(one.fd)) for one in objects]
        found = Image(
            [buffers[place.object_index] for place in places],
            format,
            width,
            height,
            strides=[place.pitch for place in places],
            offsets=[place.offset for place in places],
            modifier=modifiers.pop(),
            color_encoding=color_encoding,
            color_range=color_range,
        )
        made.pop_all()
    for buffer in buffers:
        if not any(buffer is used for used in found.buffers):
            buffer.close()  # the same memory as another, or of no plane
    return take_buffers(found, found.buffers)


def _count(number: int, what: str) -> int:
    if not 1 <= number <= _MOST:
        raise ValueError(f"a DRM_PRIME frame has 1 to {_MOST} {what}, not {number}")
    return number


def _format(codes: list[int]) -> PixelFormat:
    """Return the format that the layers make together."""
    if len(codes) == 1:
        return from_drm(codes[0])
    for names, format in _LAYERS.items():
        if codes == [fourcc(name) for name in names]:
            return from_drm(fourcc(format if len(format) == 4 else "YU12"))
    words = ", ".join(map(fourcc_text, codes))
    raise ValueError(f"a DRM_PRIME frame with the layers {words} is not an image that dmabuf knows")
