"""Buffers as Vulkan's memory, and Vulkan's memory as buffers."""

from __future__ import annotations

import errno
from functools import partial
from typing import Any

from dmabuf._fd import Hold, close_kept
from dmabuf._keep import keep
from dmabuf._mapping import prove
from dmabuf._owning import duplicate
from dmabuf.buffer import Buffer, own_buffer
from dmabuf.errors import RefusedError
from dmabuf.interop.vulkan import _vulkan
from dmabuf.interop.vulkan._handle import VulkanHandle


class Memory(VulkanHandle):
    """A buffer as a VkDeviceMemory. It goes with the object that is bound to it."""

    __slots__ = ()
    _KIND, _CREATE, _DESTROY = "VkDeviceMemory", "vkAllocateMemory", "vkFreeMemory"
    _NUMBER = _KIND

    def __init__(
        self, device: Any, buffer: Buffer, number: int, needs: Any, dedicated: Any, what: str
    ) -> None:
        """Import a buffer whose number the caller holds, for what needs VkMemoryRequirements.

        `dedicated` is the VkMemoryDedicatedAllocateInfo that names it.
        """
        taken = _vulkan.struct(
            "VkImportMemoryFdInfoKHR", pNext=dedicated, handleType=_vulkan.DMA_BUF
        )
        info = _vulkan.struct(
            "VkMemoryAllocateInfo",
            pNext=taken,
            allocationSize=buffer.size,
            memoryTypeIndex=_memory_type(device, buffer, number, needs, what),
        )
        copies: list[int] = []
        try:
            duplicate(number, copies)
            taken.fd = copies[0]
            self._create(device, info, what)
        finally:
            if not self._is_made():
                close_kept(copies)  # else it is Vulkan's

    def _is_made(self) -> bool:
        place = getattr(self, "_place", None)
        return place is not None and bool(place[0])

    def __del__(self) -> None:
        self._closed = True  # nobody has to close it
        super().__del__()


def _memory_type(device: Any, buffer: Buffer, number: int, needs: Any, what: str) -> int:
    """Return the index of the memory type that a buffer can be, RefusedError if there is none."""
    if needs.size > buffer.size:
        raise RefusedError(
            errno.EINVAL,
            f"{what}: the driver needs {needs.size} bytes of it, and {buffer!r} has {buffer.size};"
            " allocate more",
        )
    properties = _vulkan.struct("VkMemoryFdPropertiesKHR")
    query = _vulkan.function(device, "vkGetMemoryFdPropertiesKHR")
    _vulkan.check(query(device, _vulkan.DMA_BUF, number, properties), what)
    types = int(properties.memoryTypeBits & needs.memoryTypeBits)
    if not types:
        raise RefusedError(
            errno.EINVAL,
            f"{what}: the GPU can't use memory of the exporter {buffer.exporter!r} for that;"
            " allocate with the GPU's driver, or from another heap",
        )
    return (types & -types).bit_length() - 1


class Bound(VulkanHandle):
    """A VkBuffer or a VkImage, with the memory that it is bound to."""

    __slots__ = ("_memory",)
    _DEDICATED: str
    """What it is to VkMemoryDedicatedAllocateInfo."""

    def _create_on(self, device: Any, buffer: Buffer, info: Any, what: str) -> None:
        """Own what a device makes of a struct, bound to a buffer from its beginning on."""
        kind = self._KIND.removeprefix("Vk")
        with Hold(buffer) as number:
            prove(buffer, number)
            self._create(device, info, what)
            try:
                handle = self._place[0]
                needs = _vulkan.package().ffi.new("VkMemoryRequirements *")
                _vulkan.function(device, f"vkGet{kind}MemoryRequirements")(device, handle, needs)
                name = "VkMemoryDedicatedAllocateInfo"
                dedicated = _vulkan.struct(name, **{self._DEDICATED: handle})
                self._memory = Memory(device, buffer, number, needs, dedicated, what)
                bind = _vulkan.function(device, f"vkBind{kind}Memory")
                _vulkan.check(bind(device, handle, self._memory.handle, 0), what)
            except BaseException:
                self.close()
                raise

    @property
    def memory(self) -> Any:
        """The memory, a VkDeviceMemory of the package vulkan. ValueError if closed."""
        if self._closed:
            self._require_open()
        return self._memory.handle

    def _let_go(self) -> None:
        super()._let_go()
        if self._closed and hasattr(self, "_memory"):
            self._memory.close()


class VulkanBuffer(Bound):
    """A buffer that Vulkan has imported: a VkBuffer.

    `import_buffer` returns it, `close()` destroys it.

        with vulkan.import_buffer(device, buffer, VK_BUFFER_USAGE_STORAGE_BUFFER_BIT) as imported:
            infos = [VkDescriptorBufferInfo(buffer=imported.handle, range=buffer.size)]

    It keeps the memory by itself: the buffer may be closed before it. Close it before the device is
    destroyed, and after the GPU is done with it, from any thread. In a forked child it belongs to
    the parent.
    """

    __slots__ = ()
    _KIND, _CREATE, _DESTROY = "VkBuffer", "vkCreateBuffer", "vkDestroyBuffer"
    _NUMBER, _DEDICATED = _KIND, "buffer"

    def __init__(self, device: Any, buffer: Buffer, usage: int) -> None:
        """See `import_buffer`."""
        _vulkan.require(device, "VkDevice", "device")
        if not isinstance(buffer, Buffer):
            raise TypeError(f"buffer must be a dmabuf.Buffer, not {type(buffer).__name__}")
        what = f"the GPU can't import {buffer!r}"
        external = _vulkan.struct("VkExternalMemoryBufferCreateInfo", handleTypes=_vulkan.DMA_BUF)
        info = _vulkan.struct("VkBufferCreateInfo", pNext=external, size=buffer.size, usage=usage)
        self._create_on(device, buffer, info, what)


def import_buffer(device: Any, buffer: Buffer, usage: int) -> VulkanBuffer:
    """Return a whole buffer as a `VulkanBuffer`, without a copy.

    `device` is a VkDevice of the package vulkan with `DEVICE_EXTENSIONS`; `usage` is
    VkBufferUsageFlags. The caller still owns the buffer: Vulkan gets its own descriptor. The GPU
    does not wait for fences in the buffer: see `import_semaphore`.

    RefusedError if the GPU can't use the memory. OSError if the driver refuses for another reason.
    UnsupportedError if the device lacks the extensions. ImportError without the package or
    libvulkan. Thread-safe. Follows VK_EXT_external_memory_dma_buf.
    """
    return VulkanBuffer(device, buffer, usage)


def export_memory(device: Any, memory: Any) -> Buffer:
    """Return Vulkan's memory as a `Buffer`, without a copy.

    `memory` is a VkDeviceMemory that was allocated with a VkExportMemoryAllocateInfo for
    VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT. The buffer stays valid when Vulkan frees the
    memory. For an `Image` on it, get the places of the planes from vkGetImageSubresourceLayout and
    the modifier from vkGetImageDrmFormatModifierPropertiesEXT.

    OSError if the driver refuses. UnsupportedError and ImportError as in `import_buffer`.
    Thread-safe. Follows VK_KHR_external_memory_fd.
    """
    _vulkan.require(device, "VkDevice", "device")
    _vulkan.require(memory, "VkDeviceMemory", "memory")
    info = _vulkan.struct("VkMemoryGetFdInfoKHR", memory=memory, handleType=_vulkan.DMA_BUF)
    what = "the memory can't be exported as a dma-buf"
    return own_buffer(partial(take_descriptor, device, "vkGetMemoryFdKHR", info, what))


def take_descriptor(device: Any, name: str, info: Any, what: str, made: list[int]) -> None:
    """Add to a list the descriptor that a function of a device gives."""
    get = _vulkan.function(device, name)
    place = _vulkan.array("int", [-1])
    results: list[int] = []
    try:
        keep(results, get, device, info, place)
        _vulkan.check(results[0], what)
    finally:
        # No signal handler runs here, between the call and this.
        made.extend(filter((-1).__ne__, place))
    if not made:
        raise OSError(errno.EIO, f"{what}: the driver gives no descriptor")
