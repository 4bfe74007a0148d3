"""What Vulkan calls the pixel formats, and what a GPU imports of them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from dmabuf.errors import RefusedError
from dmabuf.image import FORMATS, Image, PixelFormat
from dmabuf.interop.vulkan import _vulkan

# vulkan/vulkan_core.h: the components of one element each, or the planes of YUV.
VK_FORMATS = MappingProxyType(
    {
        "RGB565": 4,  # VK_FORMAT_R5G6B5_UNORM_PACK16
        "BGR565": 5,
        "XRGB1555": 8,  # VK_FORMAT_A1R5G5B5_UNORM_PACK16
        "ARGB1555": 8,
        "R8": 9,
        "BGR888": 23,  # VK_FORMAT_R8G8B8_UNORM: Vulkan names bytes, DRM words
        "RGB888": 30,
        "XBGR8888": 37,  # VK_FORMAT_R8G8B8A8_UNORM
        "ABGR8888": 37,
        "XRGB8888": 44,  # VK_FORMAT_B8G8R8A8_UNORM
        "ARGB8888": 44,
        "XRGB2101010": 58,  # VK_FORMAT_A2R10G10B10_UNORM_PACK32
        "ARGB2101010": 58,
        "XBGR2101010": 64,
        "ABGR2101010": 64,
        "R16": 70,
        "XBGR16161616": 91,  # VK_FORMAT_R16G16B16A16_UNORM
        "ABGR16161616": 91,
        "XBGR16161616F": 97,  # VK_FORMAT_R16G16B16A16_SFLOAT
        "ABGR16161616F": 97,
        "YUYV": 1000156000,  # VK_FORMAT_G8B8G8R8_422_UNORM
        "UYVY": 1000156001,
        "YUV420": 1000156002,  # VK_FORMAT_G8_B8_R8_3PLANE_420_UNORM
        "NV12": 1000156003,
        "YUV422": 1000156004,
        "NV16": 1000156005,
        "YUV444": 1000156006,
        "P010": 1000156013,  # VK_FORMAT_G10X6_B10X6R10X6_2PLANE_420_UNORM_3PACK16
        "P012": 1000156023,
        "P016": 1000156030,  # VK_FORMAT_G16_B16R16_2PLANE_420_UNORM
        "NV24": 1000330000,
    }
)


def formats(physical_device: Any) -> dict[PixelFormat, list[int]]:
    """Return the formats that a GPU imports, each with its modifiers.

    `physical_device` is a VkPhysicalDevice of the package vulkan that supports
    VK_EXT_image_drm_format_modifier. The usage and the size of an image may limit them further.
    Formats with more planes of memory than of pixels, such as compressed ones, are left out.

    ImportError without the package or libvulkan. Thread-safe.
    """
    _vulkan.require(physical_device, "VkPhysicalDevice", "physical_device")
    found = {}
    for name, number in VK_FORMATS.items():
        format = FORMATS[name]
        planes = len(format.planes)
        modifiers = [
            int(entry.drmFormatModifier)
            for entry in _modifiers(physical_device, number)
            if entry.drmFormatModifierPlaneCount == planes
        ]
        if modifiers:
            found[format] = modifiers
    return found


def vk_format(image: Image) -> int:
    """Return the VkFormat of an image; RefusedError if Vulkan has none."""
    name = image.format.name
    if name not in VK_FORMATS:
        raise RefusedError(
            errno.EINVAL,
            f"the GPU can't import {image!r}: Vulkan has no format {name}, only"
            f" {', '.join(VK_FORMATS)}; have the image's source give one of these",
        )
    return VK_FORMATS[name]


def check(physical_device: Any, image: Image) -> None:
    """Raise RefusedError, in words, for a format or a modifier that a GPU has not."""
    known = formats(physical_device)
    what = f"the GPU can't import {image!r}"
    if image.format not in known:
        raise RefusedError(
            errno.EINVAL,
            f"{what}: the driver has no {image.format}, only {', '.join(map(str, known))}; have the"
            " image's source give one of these, or draw `image.to_rgb()` into an image of one",
        )
    if image.modifier not in known[image.format]:
        modifiers = ", ".join(map(hex, known[image.format]))
        raise RefusedError(
            errno.EINVAL,
            f"{what}: the driver has no modifier {image.modifier:#x} of {image.format}; it has"
            f" {modifiers}",
        )


def _modifiers(physical_device: Any, number: int) -> Iterator[Any]:
    vulkan = _vulkan.package()
    listed = _vulkan.struct("VkDrmFormatModifierPropertiesListEXT")
    properties = _vulkan.struct("VkFormatProperties2", pNext=listed)
    query = vulkan.lib.vkGetPhysicalDeviceFormatProperties2
    query(physical_device, number, properties)
    room = vulkan.ffi.new(f"VkDrmFormatModifierPropertiesEXT[{listed.drmFormatModifierCount}]")
    listed.pDrmFormatModifierProperties = room
    query(physical_device, number, properties)
    yield from room
