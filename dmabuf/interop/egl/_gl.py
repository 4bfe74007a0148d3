"""The functions of OpenGL that are used here, in the context that is current in this thread."""

from __future__ import annotations

import errno
from functools import cache
from typing import Any

from dmabuf.errors import UnsupportedError
from dmabuf.interop.egl import _egl
from dmabuf.interop.egl._uapi import ffi

# GLES3/gl31.h and GLES2/gl2ext.h
TEXTURE_2D, TEXTURE_EXTERNAL = 0x0DE1, 0x8D65
_ACTIVE_TEXTURE, _TEXTURE0 = 0x84E0, 0x84C0
_BINDINGS = {TEXTURE_2D: 0x8069, TEXTURE_EXTERNAL: 0x8D67}
_EXTENSIONS_OF = {
    TEXTURE_2D: ("GL_OES_EGL_image", "GL_EXT_EGL_image_storage"),
    TEXTURE_EXTERNAL: ("GL_OES_EGL_image_external",),
}
_VERSION, _EXTENSIONS, _COUNT_OF_EXTENSIONS = 0x1F02, 0x1F03, 0x821D
_FILTERS, _NEAREST = (0x2800, 0x2801), 0x2600
_WRAPS, _CLAMP_TO_EDGE = (0x2802, 0x2803), 0x812F
_TEXTURE_WIDTH, _TEXTURE_HEIGHT = 0x1000, 0x1001
_ERRORS = {
    0x0500: ("GL_INVALID_ENUM", errno.EINVAL),
    0x0501: ("GL_INVALID_VALUE", errno.EINVAL),
    0x0502: ("GL_INVALID_OPERATION", errno.EINVAL),
    0x0505: ("GL_OUT_OF_MEMORY", errno.ENOMEM),
    0x0507: ("GL_CONTEXT_LOST", errno.EIO),
}
_MOST_ERRORS = 100  # a lost context has no end of them


def _forget_errors() -> None:
    """Forget errors of earlier commands, for which the caller has not asked."""
    get_error = _egl.function("glGetError")
    for _ in range(_MOST_ERRORS):
        if not get_error():
            return


def _raise_error(what: str) -> None:
    code = int(_egl.function("glGetError")())
    if code:
        name, number = _ERRORS.get(code, (f"OpenGL error {code:#06x}", errno.EIO))
        raise OSError(number, f"{what}: the driver says {name}")


def _version() -> str:
    return _egl.text(_egl.function("glGetString")(_VERSION))


@cache
def _extensions(version: str) -> frozenset[str]:
    """Return the extensions of the contexts of a version, which names the driver too."""
    count = ffi.new("int32_t *")
    _egl.function("glGetIntegerv")(_COUNT_OF_EXTENSIONS, count)
    if count[0]:
        get = _egl.function("glGetStringi")
        return frozenset(_egl.text(get(_EXTENSIONS, place)) for place in range(count[0]))
    words = _egl.function("glGetString")(_EXTENSIONS)  # before version 3
    return frozenset(_egl.text(words).split())


def require_target(target: int) -> None:
    """Raise UnsupportedError unless the current context has textures of images with a target."""
    version = _version()
    wanted = _EXTENSIONS_OF[target]
    if not _extensions(version).intersection(wanted):
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            f"the OpenGL context ({version}) has no {' or '.join(wanted)}: use a context of"
            " OpenGL ES, such as `dmabuf.interop.egl.Context()`",
        )


def place() -> Any:
    """Return the place of a texture's number, with none in it."""
    return ffi.new("uint32_t[1]")


def make_texture(target: int, image: int, texture: Any, what: str) -> None:
    """Put the number of a new texture of an EGLImage in its place; bindings stay as they are."""
    before = ffi.new("int32_t *")
    _forget_errors()
    _egl.function("glGetIntegerv")(_BINDINGS[target], before)
    bind = _egl.function("glBindTexture")
    try:
        _egl.function("glGenTextures")(1, texture)
        bind(target, texture[0])
        _egl.function("glEGLImageTargetTexture2DOES")(target, image)
        _raise_error(what)
        set_parameter = _egl.function("glTexParameteri")
        for names, value in ((_FILTERS, _NEAREST), (_WRAPS, _CLAMP_TO_EDGE)):
            for name in names:
                set_parameter(target, name, value)
    finally:
        bind(target, before[0])


def bind_texture(unit: int, target: int, texture: int) -> None:
    """Bind a texture to a unit; the unit that is active stays so."""
    before = ffi.new("int32_t *")
    _forget_errors()
    _egl.function("glGetIntegerv")(_ACTIVE_TEXTURE, before)
    activate = _egl.function("glActiveTexture")
    try:
        activate(_TEXTURE0 + unit)
        _raise_error(f"there is no texture unit {unit}")
        _egl.function("glBindTexture")(target, texture)
    finally:
        activate(before[0])


def delete_texture(texture: Any) -> None:
    """Delete the texture in a place, if one is in it."""
    _egl.function("glDeleteTextures")(1, texture)
    texture[0] = 0


def texture_size(texture: int) -> tuple[int, int]:
    """Return the width and height of a two-dimensional texture; OSError if there is none."""
    before, width, height = (ffi.new("int32_t *") for _ in range(3))
    _forget_errors()
    _egl.function("glGetIntegerv")(_BINDINGS[TEXTURE_2D], before)
    bind, get = (_egl.function(name) for name in ("glBindTexture", "glGetTexLevelParameteriv"))
    try:
        bind(TEXTURE_2D, texture)
        get(TEXTURE_2D, 0, _TEXTURE_WIDTH, width)
        get(TEXTURE_2D, 0, _TEXTURE_HEIGHT, height)
        _raise_error(
            f"{texture} is not a two-dimensional texture, or the context is older than 3.1"
        )
    finally:
        bind(TEXTURE_2D, before[0])
    return width[0], height[0]


def flush() -> None:
    """Have the GPU begin with the commands so far."""
    _egl.function("glFlush")()
