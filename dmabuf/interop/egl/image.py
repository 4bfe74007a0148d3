"""Images as EGLImages, and as textures."""

from __future__ import annotations

import errno
from contextlib import ExitStack
from functools import partial
from typing import Any

from dmabuf._fd import Hold, require_open
from dmabuf._mapping import prove
from dmabuf.errors import RefusedError
from dmabuf.image import Image, PixelFormat
from dmabuf.interop.egl import _egl, _gl
from dmabuf.interop.egl._attributes import attributes, check, known_modifiers
from dmabuf.interop.egl._handle import EglHandle

_IMPORT = "EGL_EXT_image_dma_buf_import"


class EglImage(EglHandle):
    """An image that the GPU's driver has imported: an EGLImage. `import_image` returns it.

        with egl.Context(), egl.import_image(frame.image) as imported:
            texture = imported.texture()

    It keeps the memory by itself: the image and its buffers may be closed before it. Use it as a
    context manager, or call `close()`, from any thread. In a forked child it belongs to the parent.
    """

    __slots__ = ("_description", "_external", "_format", "_size", "_textures")
    _NUMBER = "EGLImage"

    def __init__(self, image: Image, display: object = None) -> None:
        """See `import_image`."""
        if not isinstance(image, Image):
            raise TypeError(f"image must be a dmabuf.Image, not {type(image).__name__}")
        if image.closed:
            raise ValueError(f"operation on a closed Image: {image!r}")
        chosen = _egl.choose_display(display)
        _egl.require(chosen, _IMPORT)
        check(chosen, image)
        self._description = repr(image)
        self._format = image.format
        self._size = image.width, image.height
        yuv = image.format.model == "YUV"
        self._external = known_modifiers(chosen, image).get(image.modifier, yuv)
        self._textures: dict[tuple[int, int], Any] = {}
        with ExitStack() as stack:
            held = {buffer: stack.enter_context(Hold(buffer)) for buffer in image.buffers}
            for buffer, number in held.items():
                prove(buffer, number)
            wanted = attributes(chosen, image, [held[plane.buffer] for plane in image.planes])
            what = f"the GPU can't import {image!r}"
            make = partial(_egl.import_image, chosen, wanted, what)
            self._adopt_from(chosen, _egl.destroy_image(), make)

    @property
    def format(self) -> PixelFormat:
        """The pixel format of the imported image."""
        return self._format

    @property
    def size(self) -> tuple[int, int]:
        """The width and height in pixels."""
        return self._size

    def texture(self, target: int | None = None) -> int:
        """Return the number of a texture of the image, in the current context.

        `target` is GL_TEXTURE_2D or GL_TEXTURE_EXTERNAL_OES. The default is the second for formats
        that the driver only samples (YUV), for shaders with `samplerExternalOES` in OpenGL ES;
        otherwise it is the first, which can be drawn into too. A context has one texture per
        target, however often it is requested. Filters are set to GL_NEAREST, bindings stay
        unchanged, and errors of earlier commands are discarded.

        `close()` deletes the texture if the same context is current; otherwise it is deleted with
        its context. So close the image before the context, in the same thread.

        RuntimeError if no context is current. RefusedError for GL_TEXTURE_2D if the driver only
        samples the format. UnsupportedError if the context lacks such textures, as OpenGL that is
        not ES does for YUV. OSError if the driver refuses. Follows OES_EGL_image_external.
        """
        with Hold(self) as image:
            return int(self._texture(self._target(target), image)[0])

    def bind(self, unit: int = 0, target: int | None = None) -> None:
        """Bind its texture to a texture unit, for a shader's sampler with that number.

        For libraries that can't bind GL_TEXTURE_EXTERNAL_OES, such as moderngl. `target` and errors
        are those of `texture()`. ValueError for a unit below 0, OSError (EINVAL) for one that the
        driver does not have.
        """
        if unit < 0:
            raise ValueError(f"a texture unit must be 0 or more, not {unit}")
        with Hold(self) as image:
            chosen = self._target(target)
            _gl.bind_texture(unit, chosen, self._texture(chosen, image)[0])

    def _target(self, wanted: int | None) -> int:
        """Return the target of a texture; ValueError and RefusedError for what it can't be."""
        if wanted is None:
            return _gl.TEXTURE_EXTERNAL if self._external else _gl.TEXTURE_2D
        if wanted not in (_gl.TEXTURE_2D, _gl.TEXTURE_EXTERNAL):
            raise ValueError(
                f"target must be GL_TEXTURE_2D ({_gl.TEXTURE_2D:#x}) or GL_TEXTURE_EXTERNAL_OES"
                f" ({_gl.TEXTURE_EXTERNAL:#x}), not {wanted:#x}"
            )
        if self._external and wanted == _gl.TEXTURE_2D:
            raise RefusedError(
                errno.EINVAL,
                f"{self._description} can't be a texture with target GL_TEXTURE_2D: the driver"
                " only samples it, with target GL_TEXTURE_EXTERNAL_OES",
            )
        return wanted

    def _texture(self, target: int, image: int) -> Any:
        """Return the place of its texture in the context that is current."""
        key = _egl.require_current()[1], target
        if key not in self._textures:
            _gl.require_target(target)
            self._make_texture(key, image)
        return self._textures[key]

    def _make_texture(self, key: tuple[int, int], image: int) -> None:
        texture = _gl.place()
        try:
            name = "GL_TEXTURE_2D" if key[1] == _gl.TEXTURE_2D else "GL_TEXTURE_EXTERNAL_OES"
            what = f"{self._description} can't be a texture with target {name}"
            _gl.make_texture(key[1], image, texture, what)
            self._textures[key] = texture
            require_open(self)  # a signal handler may have closed it
        except BaseException:
            self._textures.pop(key, None)
            _gl.delete_texture(texture)
            raise

    def _let_go(self) -> None:
        super()._let_go()
        if self._textures:
            self._delete_textures()

    def _delete_textures(self) -> None:
        context = _egl.current()[1]
        for key, texture in list(self._textures.items()):
            if key[0] == context:
                _gl.delete_texture(texture)
                del self._textures[key]

    def leave_to_parent(self) -> None:
        """Leave it to the parent; called in a forked child."""
        super().leave_to_parent()
        self._textures = {}

    def __del__(self) -> None:
        try:
            super().__del__()
        finally:  # the warning may be an error
            if getattr(self, "_textures", None):
                self._delete_textures()

    def _about(self) -> str:
        return f" of {self._description}"


def import_image(image: Image, *, display: object = None) -> EglImage:
    """Return an image as an `EglImage`, which the GPU uses without a copy.

    `display` is as in `formats`. Each plane may be in a buffer of its own, with any stride and
    offset that the driver supports, and a modifier of `formats()`. For YUV the image's
    `color_encoding` and `color_range` are passed on; unknown ones are BT.601 in limited range, as
    in `Image.to_rgb`. The GPU reads the buffers when it draws: wait for their writers before, with
    `wait(fence)`.

    RefusedError says what the driver lacks: the format, the modifier, the colours. OSError if it
    refuses for another reason, such as a stride that its hardware does not support.
    UnsupportedError if it imports no dma-bufs. ImportError without libEGL. Thread-safe. Follows
    EGL_EXT_image_dma_buf_import.
    """
    return EglImage(image, display)
