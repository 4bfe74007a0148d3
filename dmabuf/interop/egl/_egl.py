"""The functions of EGL that are used here, one typed function each: handles are plain numbers.

The library is opened when it is first used. Whatever makes a handle or a descriptor adds it to a
list as the call returns, before a signal handler can run.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from dmabuf.errors import UnsupportedError
from dmabuf.interop.egl._uapi import ffi

# EGL/egl.h and EGL/eglext.h
_NONE = 0x3038
_EXTENSIONS = 0x3055
_VENDOR = 0x3053
OPENGL_ES_API, OPENGL_API = 0x30A0, 0x30A2
CONTEXT_MAJOR_VERSION, CONTEXT_MINOR_VERSION = 0x3098, 0x30FB
_LINUX_DMA_BUF = 0x3270
_GL_TEXTURE_2D = 0x30B1
_GL_TEXTURE_LEVEL = 0x30BC
_MOST_PLANES = 4
_DRAW, _READ = 0x3059, 0x305A
_PLATFORM_SURFACELESS = 0x31DD
_SYNC_NATIVE_FENCE = 0x3144
_SYNC_NATIVE_FENCE_FD = 0x3145
_NO_NATIVE_FENCE_FD = -1
_LIBRARY = "libEGL.so.1"
_ERRORS = {
    0x3001: ("EGL_NOT_INITIALIZED", errno.EINVAL),
    0x3002: ("EGL_BAD_ACCESS", errno.EACCES),
    0x3003: ("EGL_BAD_ALLOC", errno.ENOMEM),
    0x3004: ("EGL_BAD_ATTRIBUTE", errno.EINVAL),
    0x3005: ("EGL_BAD_CONFIG", errno.EINVAL),
    0x3006: ("EGL_BAD_CONTEXT", errno.EINVAL),
    0x3007: ("EGL_BAD_CURRENT_SURFACE", errno.EINVAL),
    0x3008: ("EGL_BAD_DISPLAY", errno.EINVAL),
    0x3009: ("EGL_BAD_MATCH", errno.EINVAL),
    0x300C: ("EGL_BAD_PARAMETER", errno.EINVAL),
    0x300D: ("EGL_BAD_SURFACE", errno.EINVAL),
    0x300E: ("EGL_CONTEXT_LOST", errno.EIO),
}


@cache
def _library() -> Any:
    try:
        return ffi.dlopen(_LIBRARY)
    except OSError as error:
        raise ImportError(
            f"dmabuf.interop.egl needs {_LIBRARY}: install libEGL, which is the package libegl1 of"
            f" Debian and mesa-libEGL of Fedora ({error})"
        ) from None


def address(name: str) -> int:
    """Return where a function of an extension, or of OpenGL, is; 0 if there is none."""
    return int(ffi.cast("uintptr_t", _library().eglGetProcAddress(name.encode())))


@cache
def function(name: str) -> Any:
    """Return a function of an extension, or of OpenGL, by its name."""
    found = address(name)
    if not found:
        raise UnsupportedError(errno.ENOSYS, f"the EGL library and its drivers have no {name}")
    return ffi.cast(name, found)


def text(words: Any) -> str:
    """Return a text of C's, "" for a null pointer."""
    return bytes(ffi.string(words)).decode() if words else ""  # type: ignore[arg-type]


def failure(what: str) -> OSError:
    """Return the error of the call that has just failed in this thread."""
    code = int(_library().eglGetError())
    name, number = _ERRORS.get(code, (f"EGL error {code:#06x}", errno.EIO))
    return OSError(number, f"{what}: the driver says {name}")


def current() -> tuple[int, int]:
    """Return the display and the context that are current in this thread; 0 for none."""
    library = _library()
    return library.eglGetCurrentDisplay(), library.eglGetCurrentContext()


def require_current() -> tuple[int, int]:
    """Return the display and the context that are current; RuntimeError without."""
    display, context = current()
    if not context:
        raise RuntimeError(
            "no OpenGL context is current in this thread: make your program's current, or use"
            " `with dmabuf.interop.egl.Context():`"
        )
    return display, context


@cache
def default_display() -> int:
    """Return the display of this machine's GPU, or of what stands in for one, without a window.

    It is the whole process's, and stays.
    """
    library = _library()
    if "EGL_MESA_platform_surfaceless" in text(library.eglQueryString(0, _EXTENSIONS)).split():
        get = function("eglGetPlatformDisplayEXT")
        display = get(_PLATFORM_SURFACELESS, 0, ffi.NULL)
    else:
        display = library.eglGetDisplay(0)
    if not display or not library.eglInitialize(display, ffi.NULL, ffi.NULL):
        raise failure("no EGL display could be opened for this machine's GPU")
    return int(display)


def choose_display(display: object) -> int:
    """Return the display that somebody means: the current one for None, else this machine's."""
    if display is None:
        return current()[0] or default_display()
    if isinstance(display, int):
        return display
    import ctypes

    if isinstance(display, (ctypes.c_void_p, ctypes._Pointer)):  # as PyOpenGL has it
        return ctypes.cast(display, ctypes.c_void_p).value or 0
    kind = type(display).__name__
    raise TypeError(f"display must be an EGLDisplay, as a number or a pointer, not {kind}")


@cache
def _extensions(display: int) -> frozenset[str]:
    words = _library().eglQueryString(display, _EXTENSIONS)
    if not words:
        raise failure(f"{display:#x} is not an EGL display")
    return frozenset(text(words).split())


def has(display: int, extension: str) -> bool:
    """Whether a display has an extension."""
    return extension in _extensions(display)


def require(display: int, extension: str) -> None:
    """Raise UnsupportedError unless a display has an extension."""
    if not has(display, extension):
        vendor = text(_library().eglQueryString(display, _VENDOR))
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            f"the EGL display of {vendor} has no {extension}; a newer driver may have it",
        )


def _attributes(values: Sequence[int]) -> Any:
    return ffi.new("int32_t[]", [*values, _NONE])


def _keep(what: str, made: list[int], failed: int, call: Callable[..., int], *given: Any) -> None:
    """Add to a list what a function returns, before a signal handler can run."""
    before = len(made)
    made.extend(filter(failed.__ne__, map(call, *zip(given))))
    if len(made) == before:
        raise failure(what)


def import_image(display: int, attributes: Sequence[int], what: str, made: list[int]) -> None:
    """Add to a list the EGLImage of dma-bufs; `what` it is that fails otherwise."""
    create = function("eglCreateImageKHR")
    _keep(what, made, 0, create, display, 0, _LINUX_DMA_BUF, 0, _attributes(attributes))


def texture_image(display: int, context: int, texture: int, made: list[int]) -> None:
    """Add to a list the EGLImage of a two-dimensional texture of a context."""
    create = function("eglCreateImageKHR")
    what = f"texture {texture} can't be exported"
    level = _attributes((_GL_TEXTURE_LEVEL, 0))
    _keep(what, made, 0, create, display, context, _GL_TEXTURE_2D, texture, level)


def destroy_image() -> Callable[[int, int], None]:
    """Return the function of C that destroys an image of a display."""
    return function("eglDestroyImageKHR")  # type: ignore[no-any-return]


@cache
def formats(display: int) -> tuple[int, ...]:
    """Return the codes of the formats that a display imports."""
    query = function("eglQueryDmaBufFormatsEXT")
    count = ffi.new("int32_t *")
    what = "the formats that the GPU imports are not known"
    if not query(display, 0, ffi.NULL, count):
        raise failure(what)
    codes = ffi.new("int32_t[]", count[0])
    if not query(display, count[0], codes, count):
        raise failure(what)
    return tuple(code & 0xFFFFFFFF for code in codes[0 : count[0]])


@cache
def modifiers(display: int, code: int) -> dict[int, bool]:
    """Return with which modifiers a display imports a format, and whether for sampling alone."""
    query = function("eglQueryDmaBufModifiersEXT")
    word, count = signed(code), ffi.new("int32_t *")
    what = "the modifiers that the GPU imports are not known"
    if not query(display, word, 0, ffi.NULL, ffi.NULL, count):
        raise failure(what)
    room = max(1, count[0])
    found, external = ffi.new("uint64_t[]", room), ffi.new("uint32_t[]", room)
    if not query(display, word, count[0], found, external, count):
        raise failure(what)
    return {found[place]: bool(external[place]) for place in range(count[0])}


def signed(word: int) -> int:
    """Return a word of 32 bits as an attribute is."""
    return word - (1 << 32) if word >> 31 else word


def halves(modifier: int) -> tuple[int, int]:
    """Return a modifier's low and high half, as attributes are."""
    return signed(modifier & 0xFFFFFFFF), signed(modifier >> 32)


def query_export(display: int, image: int) -> tuple[int, int, int]:
    """Return the code, the number of planes and the modifier of what an image would export."""
    code, planes = ffi.new("int32_t *"), ffi.new("int32_t *")
    found = ffi.new(f"uint64_t[{_MOST_PLANES}]")
    if not function("eglExportDMABUFImageQueryMESA")(display, image, code, planes, found):
        raise failure("the texture can't be exported")
    return code[0] & 0xFFFFFFFF, planes[0], found[0]


def export_image(display: int, image: int, fds: Any) -> tuple[list[int], list[int]]:
    """Put an image's descriptors into an array; return its planes' strides and offsets."""
    strides, offsets = ffi.new(f"int32_t[{_MOST_PLANES}]"), ffi.new(f"int32_t[{_MOST_PLANES}]")
    if not function("eglExportDMABUFImageMESA")(display, image, fds, strides, offsets):
        raise failure("the texture can't be exported")
    return list(strides), list(offsets)


def no_descriptors() -> Any:
    """Return an array for the descriptors of an export, with none in it."""
    return ffi.new(f"int32_t[{_MOST_PLANES}]", [-1] * _MOST_PLANES)


def create_sync(display: int, made: list[int], fd: int = _NO_NATIVE_FENCE_FD) -> None:
    """Add to a list the sync of a sync_file, which is EGL's then, or of the commands so far."""
    create = function("eglCreateSyncKHR")
    attributes = _attributes((_SYNC_NATIVE_FENCE_FD, fd))
    what = "the GPU's driver can't make a native fence"
    _keep(what, made, 0, create, display, _SYNC_NATIVE_FENCE, attributes)


def destroy_sync() -> Callable[[int, int], None]:
    """Return the function of C that destroys a sync; commands that wait for it go on waiting."""
    return function("eglDestroySyncKHR")  # type: ignore[no-any-return]


def dup_fence(display: int, sync: int, made: list[int]) -> None:
    """Add to a list a descriptor of the sync_file behind a sync."""
    dup = function("eglDupNativeFenceFDANDROID")
    _keep(
        "the GPU's driver can't export a native fence",
        made,
        _NO_NATIVE_FENCE_FD,
        dup,
        display,
        sync,
    )


def wait_sync(display: int, sync: int) -> None:
    """Have the commands that follow wait for a sync."""
    if not function("eglWaitSyncKHR")(display, sync, 0):
        raise failure("the GPU can't wait for the fence")


def create_context(display: int, api: int, attributes: Sequence[int], made: list[int]) -> None:
    """Add to a list a new context of an API."""
    library = _library()
    before = library.eglQueryAPI()
    try:
        if not library.eglBindAPI(api):
            raise failure("the EGL library does not support this API of OpenGL")
        what = "the driver can't make an OpenGL context of this version"
        create = library.eglCreateContext
        _keep(what, made, 0, create, display, 0, 0, _attributes(attributes))
    finally:
        library.eglBindAPI(before)


def destroy_context() -> Callable[[int, int], None]:
    """Return the function of C that destroys a context of a display."""
    return _library().eglDestroyContext  # type: ignore[no-any-return]


Current = tuple[int, int, int, int]
"""A display, the surfaces for drawing and reading, and a context, as they are made current."""


def current_all() -> Current:
    """Return all that is current in this thread."""
    library = _library()
    draw, read = library.eglGetCurrentSurface(_DRAW), library.eglGetCurrentSurface(_READ)
    display, context = current()
    return display, draw, read, context


def make_current(wanted: Current) -> None:
    """Make a context current in this thread."""
    if not _library().eglMakeCurrent(*wanted):
        raise failure("the OpenGL context can't be made current in this thread")
