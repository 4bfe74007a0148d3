"""Fences of the GPU's commands, and commands that wait for fences."""

from __future__ import annotations

from functools import partial

from dmabuf._fd import Hold, close_kept
from dmabuf._owning import duplicate
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
    """Return a fence that signals when all commands so far in the current context are done.

    Flushes the commands. `buffer.import_fence(fence, Access.WRITE)` makes other devices and
    processes wait for the GPU's result.

    RuntimeError if no context is current in this thread. UnsupportedError if the driver lacks
    EGL_ANDROID_native_fence_sync.
    """
    display, _ = _egl.require_current()
    _egl.require(display, _NATIVE_FENCE)
    with _Sync(display) as sync:
        _gl.flush()
        return own_fence(partial(_egl.dup_fence, display, sync.handle))


def wait(fence: Fence) -> None:
    """Make the following commands in the current context wait for a fence.

    Call it before the GPU reads what another device writes:
    `wait(buffer.export_fence(Access.READ))`. The caller still owns `fence` and may close it. With a
    GPU this returns at once. With software rendering it blocks; other threads run meanwhile.

    RuntimeError if no context is current in this thread. UnsupportedError if the driver lacks
    EGL_ANDROID_native_fence_sync and EGL_KHR_wait_sync: use `fence.wait()` then.
    """
    if not isinstance(fence, Fence):
        raise TypeError(f"fence must be a dmabuf.Fence, not {type(fence).__name__}")
    display, _ = _egl.require_current()
    for extension in (_NATIVE_FENCE, _WAIT):
        _egl.require(display, extension)
    with _Sync(display, fence) as sync:
        _egl.wait_sync(display, sync.handle)
