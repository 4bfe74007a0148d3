"""A handle of a Vulkan device, with one owner."""

from __future__ import annotations

from functools import partial
from typing import Any

from dmabuf.interop._handle import Handle
from dmabuf.interop.vulkan import _vulkan


class VulkanHandle(Handle):
    """A handle of a device, destroyed with `close()`, which must come before the device's end.

    A forked child leaves it to its parent.
    """

    __slots__ = ("_device", "_place")
    _KIND: str
    _CREATE: str
    _DESTROY: str

    def _create(self, device: Any, info: Any, what: str) -> None:
        """Own what a device makes of a struct; `what` it is that fails otherwise."""
        self._device = device
        null = _vulkan.package().ffi.NULL
        self._place = place = _vulkan.array(self._KIND, [null])
        destroy = _vulkan.function(device, self._DESTROY)
        create = partial(_vulkan.function(device, self._CREATE), device, info, null, place)
        # Destroys what is in the place then, once: a function of C, as `_fd.py` asks for.
        give_back = partial(next, map(destroy, (device,), place, (null,)))
        self._adopt(give_back, partial(_make, create, place, give_back, what))

    @property
    def handle(self) -> Any:
        """The handle, as the package vulkan takes it. ValueError if closed."""
        if self._closed:
            self._require_open()
        return self._place[0]


def _make(create: Any, place: Any, give_back: Any, what: str, made: list[int]) -> None:
    """Add to a list the handle that a function puts in a place, or destroy it."""
    try:
        _vulkan.check(create(), what)
        made.append(int(_vulkan.package().ffi.cast("uintptr_t", place[0])))
    except BaseException:
        give_back(0)
        raise
