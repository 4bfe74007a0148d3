"""An OpenGL context without a window."""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import TypeVar

from dmabuf._fd import Hold
from dmabuf.interop.egl import _egl
from dmabuf.interop.egl._handle import EglHandle

_Self = TypeVar("_Self", bound="Context")
_PROFILE, _CORE = 0x30FD, 1  # EGL/egl.h


class Context(EglHandle):
    """A context of OpenGL ES or OpenGL without a window: it draws into textures and buffers.

        with egl.Context() as context, egl.import_image(image) as imported:
            texture = imported.texture()

    `with` makes it current in this thread. At the end the previously current context is current
    again, and this one is closed. A context can be current in one thread at a time: one thread
    calls `release()`, then another may call `make_current()`. In a forked child it can't be used;
    it belongs to the parent.
    """

    __slots__ = ("_before",)
    _NUMBER = "EGLContext"

    def __init__(
        self, *, desktop: bool = False, version: tuple[int, int] = (3, 1), display: object = None
    ) -> None:
        """Make a context of OpenGL ES or, with `desktop`, of OpenGL's core profile.

        `version` is the minimum version. `display` is an EGLDisplay, as a number or a pointer; the
        default is that of this machine's GPU, or of software rendering if there is no GPU.

        ImportError without libEGL. OSError if the driver does not support the version.
        """
        chosen = _egl.default_display() if display is None else _egl.choose_display(display)
        _egl.require(chosen, "EGL_KHR_surfaceless_context")
        _egl.require(chosen, "EGL_KHR_no_config_context")
        major, minor = version
        wanted = [_egl.CONTEXT_MAJOR_VERSION, major, _egl.CONTEXT_MINOR_VERSION, minor]
        if desktop:
            wanted += [_PROFILE, _CORE]
        api = _egl.OPENGL_API if desktop else _egl.OPENGL_ES_API
        self._before: _egl.Current | None = None
        make = partial(_egl.create_context, chosen, api, wanted)
        self._adopt_from(chosen, _egl.destroy_context(), make)

    def make_current(self) -> None:
        """Make it current in this thread. OSError (EACCES) while it is current in another one."""
        with Hold(self) as context:
            _egl.make_current((self._display, 0, 0, context))

    def release(self) -> None:
        """Make no context current in this thread, if this one is."""
        if self._is_current():
            _egl.make_current((self._display, 0, 0, 0))

    def _is_current(self) -> bool:
        """Whether it is this process's, and current in this thread."""
        if self._number < 0 or self.forked:
            return False
        return _egl.current() == (self._display, self._number)

    def load_opengl_function(self, name: str) -> int:
        """Return the address of an OpenGL function; 0 if there is none.

        moderngl expects this method of a loader: call `moderngl.init_context(loader=context)` and
        then `moderngl.get_context()`, while this context is current.
        """
        with Hold(self):
            return _egl.address(name)

    def close(self) -> None:
        """Close it. If it is current in this thread, no context is current afterwards.

        If it is current in another thread, it is destroyed when that thread releases it. Does
        nothing the second time.
        """
        try:
            if not self._closed:
                self.release()
        finally:
            super().close()

    def __enter__(self: _Self) -> _Self:
        super().__enter__()
        before = _egl.current_all()
        try:
            self.make_current()
            self._before = before
            return self
        except BaseException:
            self._restore(before)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        before, self._before = self._before, None
        try:
            self._restore(before)
        finally:
            self.close()

    def _restore(self, before: _egl.Current | None) -> None:
        """Make current again what was, unless the program has made another current meanwhile."""
        if before is not None and before[3] and self._is_current():
            _egl.make_current(before)
        else:
            self.release()
