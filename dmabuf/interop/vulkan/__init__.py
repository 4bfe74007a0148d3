"""Buffers, images and fences as Vulkan objects, and Vulkan objects back, without a copy.

    with dmabuf.interop.vulkan.import_image(device, frame.image, usage) as imported:
        view = vkCreateImageView(device, VkImageViewCreateInfo(image=imported.handle, ...), None)

For PyPI's package `vulkan`, whose handles it takes and returns. Needs libvulkan 1.2 or later, the
GPU's driver, and a device with `DEVICE_EXTENSIONS`.
"""

from dmabuf.interop.vulkan._formats import formats
from dmabuf.interop.vulkan._vulkan import DEVICE_EXTENSIONS
from dmabuf.interop.vulkan.image import VulkanImage, import_image
from dmabuf.interop.vulkan.memory import VulkanBuffer, export_memory, import_buffer
from dmabuf.interop.vulkan.semaphore import VulkanSemaphore, export_semaphore, import_semaphore

__all__ = [
    "DEVICE_EXTENSIONS",
    "VulkanBuffer",
    "VulkanImage",
    "VulkanSemaphore",
    "export_memory",
    "export_semaphore",
    "formats",
    "import_buffer",
    "import_image",
    "import_semaphore",
]
