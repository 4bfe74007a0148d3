"""Fences from the GPU's commands, and for them."""

from __future__ import annotations

from functools import partial

from dmabuf._fd import Hold, close_kept, duplicate
from dmabuf.fence import Fence, own_fence
from dmabuf.interop.egl import _egl, _gl
from dmabuf.interop.egl._handle import EglHandle

_NATIVE_FENCE, _WAIT = "EGL_ANDROID_native_fence_sync", "EGL_KHR_wait_sync"


class _Sync(EglHandle):
    """A native fence sync, while it is asked for its fence, or told to be waited for."""

    __slots__ = ()
    _NUMBER = "EGLSync"

    def __init__(self, display: int, fence: Fence | None = None) -> None:
        make = (
            partial(_egl.create_sync, display) if fence is None else partial(_take, display, fence)
        )
        self._adopt_from(display, _egl.destroy_sync(), make)


def _take(display: int, fence: Fence, made: list[int]) -> None:
    """Add to a list the sync of a fence, which has a descriptor of its own."""
    copies: list[int] = []
    try:
        with Hold(fence) as number:
            duplicate(number, copies)
        _egl.create_sync(display, made, copies[0])
    finally:
        if not made:  # else it is EGL's
            close_kept(copies)


def fence() -> Fence:
    """Return a fence of all commands that the current context was given: it signals after them.

    For whom the GPU's result goes to: `buffer.import_fence(fence, Access.WRITE)` has devices and
    other processes wait for it. Flushes the commands.

    RuntimeError if no context is current in this thread; UnsupportedError for a driver without
    EGL_ANDROID_native_fence_sync.
    """
    display, _ = _egl.require_current()
    _egl.require(display, _NATIVE_FENCE)
    with _Sync(display) as sync:
        _gl.flush()
        return own_fence(partial(_egl.dup_fence, display, sync.handle))


def wait(fence: Fence) -> None:
    """Have the commands that follow in the current context wait for a fence.

    Before the GPU reads what another device writes: `wait(buffer.export_fence(Access.READ))`. The
    caller keeps its fence, and may close it. A GPU waits by itself, and this returns at once; a
    driver for the processor waits here, and other threads run meanwhile.

    RuntimeError if no context is current in this thread; UnsupportedError for a driver without
    EGL_ANDROID_native_fence_sync and EGL_KHR_wait_sync: wait by `fence.wait()` then.
    """
    if not isinstance(fence, Fence):
        raise TypeError(f"fence must be a dmabuf.Fence, not {type(fence).__name__}")
    display, _ = _egl.require_current()
    for extension in (_NATIVE_FENCE, _WAIT):
        _egl.require(display, extension)
    with _Sync(display, fence) as sync:
        _egl.wait_sync(display, sync.handle)
