"""Fences as Vulkan semaphores, and Vulkan semaphores as fences."""

from __future__ import annotations

from functools import partial
from typing import Any

from dmabuf._fd import Hold, close_kept
from dmabuf._keep import keep
from dmabuf._owning import duplicate
from dmabuf.fence import Fence, own_fence
from dmabuf.interop.vulkan import _vulkan
from dmabuf.interop.vulkan._handle import VulkanHandle
from dmabuf.interop.vulkan.memory import take_descriptor

_VK_SEMAPHORE_IMPORT_TEMPORARY_BIT = 1


class VulkanSemaphore(VulkanHandle):
    """A fence as a VkSemaphore, for one wait. `import_semaphore` returns it, `close()` destroys it.

        with vulkan.import_semaphore(device, fence) as ready:
            submit = VkSubmitInfo(pWaitSemaphores=[ready.handle], pCommandBuffers=[commands])

    Close it before the device is destroyed, and after the commands that wait for it are done, from
    any thread. In a forked child it belongs to the parent.
    """

    __slots__ = ()
    _KIND, _CREATE, _DESTROY = "VkSemaphore", "vkCreateSemaphore", "vkDestroySemaphore"
    _NUMBER = _KIND

    def __init__(self, device: Any, fence: Fence) -> None:
        """See `import_semaphore`."""
        _vulkan.require(device, "VkDevice", "device")
        if not isinstance(fence, Fence):
            raise TypeError(f"fence must be a dmabuf.Fence, not {type(fence).__name__}")
        what = f"the GPU can't wait for {fence!r}"
        put = _vulkan.function(device, "vkImportSemaphoreFdKHR")
        info = _vulkan.struct(
            "VkImportSemaphoreFdInfoKHR",
            flags=_VK_SEMAPHORE_IMPORT_TEMPORARY_BIT,  # the one kind that a sync_file is
            handleType=_vulkan.SYNC_FD,
        )
        copies: list[int] = []
        results: list[int] = []
        try:
            with Hold(fence) as number:
                duplicate(number, copies)
            self._create(device, _vulkan.struct("VkSemaphoreCreateInfo"), what)
            info.semaphore, info.fd = self._place[0], copies[0]
            keep(results, put, device, info)
            _vulkan.check(results[0], what)
        except BaseException:
            if results != [0]:  # else the descriptor is Vulkan's
                close_kept(copies)
            if hasattr(self, "_number"):
                self.close()
            raise


def import_semaphore(device: Any, fence: Fence) -> VulkanSemaphore:
    """Return a semaphore that the fence signals, and that commands may wait for once.

    Before the GPU reads what another device writes, pass `buffer.export_fence(Access.READ)`.
    `device` is as in `import_buffer`. The caller still owns `fence` and may close it.

    OSError if the driver refuses. UnsupportedError if the device lacks the extensions. ImportError
    without the package or libvulkan. Thread-safe. Follows VK_KHR_external_semaphore_fd.
    """
    return VulkanSemaphore(device, fence)


def export_semaphore(device: Any, semaphore: Any) -> Fence:
    """Return a fence that signals when the commands that signal a semaphore are done.

    `semaphore` is a VkSemaphore that was created with a VkExportSemaphoreCreateInfo for
    VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT, and submitted with vkQueueSubmit before.
    Afterwards it is unsignalled and can be used again. `buffer.import_fence(fence, Access.WRITE)`
    makes other devices and processes wait for the GPU's result.

    A software driver may block here until the commands have begun. Errors as in `import_semaphore`.
    """
    _vulkan.require(device, "VkDevice", "device")
    _vulkan.require(semaphore, "VkSemaphore", "semaphore")
    info = _vulkan.struct(
        "VkSemaphoreGetFdInfoKHR", semaphore=semaphore, handleType=_vulkan.SYNC_FD
    )
    what = "the semaphore can't be exported as a fence"
    return own_fence(partial(take_descriptor, device, "vkGetSemaphoreFdKHR", info, what))
