"""Flips: changes of the image in a window."""

from __future__ import annotations

import errno
from collections.abc import Generator

from dmabuf._timeout import deadline, seconds_left
from dmabuf.errors import UnsupportedError
from dmabuf.fence import Fence
from dmabuf.interop.wayland._buffers import Shown
from dmabuf.interop.wayland._client import Client


class Flip:
    """The change of a window to an image that `Window.show` has submitted to the compositor.

        flip = window.show(image)
        assert flip.wait(timeout=1)

    It is done once the image is in the window. Then the buffers of the previous image may be
    written again; those of this image may not. `await flip` waits in asyncio. Thread-safe.

    A compositor does not draw a window that nobody can see, such as one on another workspace. Its
    flips stay pending until the next `show()`, or until the window is visible again.
    """

    __slots__ = ("_client", "_shown")

    def __init__(self, client: Client, shown: Shown) -> None:
        self._client = client
        self._shown = shown

    @property
    def fence(self) -> Fence:
        """Raises UnsupportedError, as for a display that is not atomic. Use `wait()`."""
        raise UnsupportedError(
            errno.EOPNOTSUPP, "the flip of a window has no fence before it is done; use wait()"
        )

    @property
    def done(self) -> bool:
        """True once the image is in the window and the previous image's buffers are free."""
        if not self._shown.is_told():
            self._client.read()
        if not self._shown.is_told():
            return False
        fence = self._shown.fence_before()
        return fence is None or fence.signaled

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the flip is done. Return False if `timeout` seconds pass first.

        ConnectionResetError, with the reason, if the compositor is gone; the image's buffers may be
        written again then. ValueError if the window is closed before. Other threads run meanwhile.
        A signal handler that raises ends the wait.
        """
        end = deadline(timeout)
        if not self._client.wait_for(self._shown.is_told, timeout):
            return False
        fence = self._shown.fence_before()
        return fence is None or fence.wait(seconds_left(end))

    def __await__(self) -> Generator[object, None, None]:
        """Wait in the running asyncio event loop until the flip is done."""
        return self._wait().__await__()

    async def _wait(self) -> None:
        await self._client.ready_for(self._shown.is_told)
        fence = self._shown.fence_before()
        if fence is not None:
            await fence

    def __repr__(self) -> str:
        return f"<dmabuf.interop.wayland.Flip of {self._client!r}>"
