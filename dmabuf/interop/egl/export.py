"""Textures as images: memory of the GPU for anything that imports dma-bufs."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from functools import partial
from typing import Any

from dmabuf.buffer import Buffer, own_buffer
from dmabuf.errors import RefusedError
from dmabuf.image import Image
from dmabuf.image.formats import from_drm
from dmabuf.image.image import take_buffers
from dmabuf.interop.egl import _egl, _gl
from dmabuf.interop.egl._handle import EglHandle

_EXPORT = "EGL_MESA_image_dma_buf_export"
_TEXTURES = "EGL_KHR_gl_texture_2D_image"


class _TextureImage(EglHandle):
    """A texture as an EGLImage, while it is exported."""

    __slots__ = ()
    _NUMBER = "EGLImage"

    def __init__(self, display: int, context: int, texture: int) -> None:
        make = partial(_egl.texture_image, display, context, texture)
        self._adopt_from(display, _egl.destroy_image(), make)


def export_texture(texture: int) -> Image:
    """Return a texture's memory as an image, which owns its buffers: close it after use.

    `texture` is the number of a two-dimensional texture with storage, in the current context. It
    must be complete: without mipmaps, its filter must not use them. The image stays valid when the
    texture is deleted. Commands that draw into it are complete once `fence()` signals. The image's
    `modifier` describes the layout that the driver chose; the CPU can read it if it is linear.

    RuntimeError if no context is current in this thread. RefusedError if the memory has more planes
    than its pixel format, as compressed textures have, or if the driver gives no descriptor, as
    Mesa's software rendering for imported memory. UnsupportedError if the driver lacks
    EGL_MESA_image_dma_buf_export, which few but Mesa's have. Needs OpenGL 3 or OpenGL ES 3.1.
    """
    display, context = _egl.require_current()
    for extension in (_EXPORT, _TEXTURES):
        _egl.require(display, extension)
    width, height = _gl.texture_size(texture)
    with _TextureImage(display, context, texture) as image:
        code, count, modifier = _egl.query_export(display, image.handle)
        format = from_drm(code)
        if count != len(format.planes):
            raise RefusedError(
                errno.EINVAL,
                f"texture {texture} can't be an Image: the driver keeps {format} in {count} planes"
                f" with modifier {modifier:#x}; copy it to a texture that was imported",
            )
        fds = _egl.no_descriptors()
        try:
            strides, offsets = _egl.export_image(display, image.handle, fds)
            if fds[0] < 0:
                raise RefusedError(
                    errno.EINVAL,
                    f"texture {texture} can't be an Image: the driver gives no descriptor of its"
                    " memory; if that was imported, use the image that it came from",
                )
            with ExitStack() as stack:
                buffers = _own(fds, count, stack)
                made = Image(
                    buffers,
                    format,
                    width,
                    height,
                    strides=strides[:count],
                    offsets=offsets[:count],
                    modifier=modifier,
                )
                take_buffers(made, buffers)
                stack.pop_all()
                return made
        finally:
            for fd in fds:
                if fd >= 0:
                    os.close(fd)


def _own(fds: Any, count: int, stack: ExitStack) -> list[Buffer]:
    """Return the buffer of each plane; those that follow in the same one have no descriptor."""
    buffers: list[Buffer] = []
    for index in range(count):
        if fds[index] < 0:
            buffers.append(buffers[-1])
        else:
            buffers.append(stack.enter_context(own_buffer(partial(_take, fds, index))))
    return buffers


def _take(fds: Any, index: int, made: list[int]) -> None:
    number = fds[index]
    # No signal handler runs here, between the three.
    fds[index] = -1
    made[:] = [number]
