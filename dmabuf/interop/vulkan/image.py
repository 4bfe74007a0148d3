"""Images as Vulkan images."""

from __future__ import annotations

import errno
from typing import Any

from dmabuf.errors import RefusedError
from dmabuf.image import Image, PixelFormat
from dmabuf.interop.vulkan import _vulkan
from dmabuf.interop.vulkan._formats import check, vk_format
from dmabuf.interop.vulkan.memory import Bound

# vulkan/vulkan_core.h
_IMAGE_TYPE_2D = 1
_TILING_DRM_FORMAT_MODIFIER = 1000158000


class VulkanImage(Bound):
    """An image that Vulkan has imported: a VkImage.

    `import_image` returns it, `close()` destroys it.

        with vulkan.import_image(device, image, VK_IMAGE_USAGE_SAMPLED_BIT) as imported:
            about = VkImageViewCreateInfo(image=imported.handle, format=imported.vk_format)

    It keeps the memory by itself: the image and its buffers may be closed before it. Close it
    before the device is destroyed, and after the GPU is done with it, from any thread. In a forked
    child it belongs to the parent.
    """

    __slots__ = ("_description", "_format", "_size", "_vk_format")
    _KIND, _CREATE, _DESTROY = "VkImage", "vkCreateImage", "vkDestroyImage"
    _NUMBER, _DEDICATED = _KIND, "image"

    def __init__(
        self, device: Any, image: Image, usage: int, *, physical_device: Any = None
    ) -> None:
        """See `import_image`."""
        _vulkan.require(device, "VkDevice", "device")
        if not isinstance(image, Image):
            raise TypeError(f"image must be a dmabuf.Image, not {type(image).__name__}")
        if image.closed:
            raise ValueError(f"operation on a closed Image: {image!r}")
        self._vk_format = vk_format(image)
        if physical_device is not None:
            check(physical_device, image)
        self._description = repr(image)
        self._format = image.format
        self._size = image.width, image.height
        what = f"the GPU can't import {image!r}"
        if len(image.buffers) > 1:
            raise RefusedError(
                errno.EINVAL,
                f"{what}: its planes are in {len(image.buffers)} buffers, which Mesa's driver for"
                " the processor confuses; have them in one, as Image.allocate does",
            )
        self._create_image(device, image, usage, what)

    def _create_image(self, device: Any, image: Image, usage: int, what: str) -> None:
        layouts = _vulkan.array(
            "VkSubresourceLayout",
            [{"offset": plane.offset, "rowPitch": plane.stride} for plane in image.planes],
        )
        explicit = _vulkan.struct(
            "VkImageDrmFormatModifierExplicitCreateInfoEXT",
            drmFormatModifier=image.modifier,
            drmFormatModifierPlaneCount=len(image.planes),
            pPlaneLayouts=layouts,
        )
        external = _vulkan.struct(
            "VkExternalMemoryImageCreateInfo", pNext=explicit, handleTypes=_vulkan.DMA_BUF
        )
        info = _vulkan.struct(
            "VkImageCreateInfo",
            pNext=external,
            imageType=_IMAGE_TYPE_2D,
            format=self._vk_format,
            extent={"width": image.width, "height": image.height, "depth": 1},
            mipLevels=1,
            arrayLayers=1,
            samples=1,
            tiling=_TILING_DRM_FORMAT_MODIFIER,
            usage=usage,
        )
        self._create_on(device, image.buffers[0], info, what)

    @property
    def format(self) -> PixelFormat:
        """The pixel format of the imported image."""
        return self._format

    @property
    def vk_format(self) -> int:
        """The VkFormat number of the pixel format, for image views."""
        return self._vk_format

    @property
    def size(self) -> tuple[int, int]:
        """The width and height in pixels."""
        return self._size

    def _about(self) -> str:
        return f" of {self._description}"


def import_image(
    device: Any, image: Image, usage: int, *, physical_device: Any = None
) -> VulkanImage:
    """Return an image as a `VulkanImage`, without a copy.

    `device` is a VkDevice of the package vulkan with `DEVICE_EXTENSIONS`; `usage` is
    VkImageUsageFlags. With its `physical_device` an unsupported image is refused with a reason;
    without it, a driver may accept an image that it can't draw. The planes may have any stride and
    offset that the driver supports, and a modifier of `formats()`; they must be in one buffer. The
    caller still owns the image and its buffer: Vulkan gets its own descriptor.

    The initial layout is VK_IMAGE_LAYOUT_UNDEFINED. Before the first command that reads the image,
    record a barrier from VK_IMAGE_LAYOUT_GENERAL and the queue family VK_QUEUE_FAMILY_FOREIGN_EXT,
    which keeps the pixels. The GPU does not wait for fences in the buffers: see `import_semaphore`.

    RefusedError says what Vulkan or the driver lacks: the format, the modifier, memory of that
    exporter, planes in several buffers. OSError if the driver refuses for another reason, such as a
    stride that its hardware does not support. UnsupportedError if the device lacks the extensions.
    ImportError without the package or libvulkan. Thread-safe. Follows
    VK_EXT_image_drm_format_modifier.
    """
    return VulkanImage(device, image, usage, physical_device=physical_device)
