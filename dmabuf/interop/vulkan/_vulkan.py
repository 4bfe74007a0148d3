"""PyPI's package `vulkan`, and how its functions are called here: those of C, with its structs.

Its wrappers of them lose what a function has made where a signal handler raises. Here a handle or a
descriptor stays where C has put it, and its owner looks there.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from dmabuf.errors import UnsupportedError

# vulkan/vulkan_core.h
DMA_BUF = 0x200  # VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT
SYNC_FD = 0x10  # VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT
_ERRORS = {
    -1: ("VK_ERROR_OUT_OF_HOST_MEMORY", errno.ENOMEM),
    -2: ("VK_ERROR_OUT_OF_DEVICE_MEMORY", errno.ENOMEM),
    -4: ("VK_ERROR_DEVICE_LOST", errno.EIO),
    -8: ("VK_ERROR_FEATURE_NOT_PRESENT", errno.EOPNOTSUPP),
    -10: ("VK_ERROR_TOO_MANY_OBJECTS", errno.EMFILE),
    -11: ("VK_ERROR_FORMAT_NOT_SUPPORTED", errno.EINVAL),
    -1000072003: ("VK_ERROR_INVALID_EXTERNAL_HANDLE", errno.EINVAL),
    -1000158000: ("VK_ERROR_INVALID_DRM_FORMAT_MODIFIER_PLANE_LAYOUT_EXT", errno.EINVAL),
}

DEVICE_EXTENSIONS = (
    "VK_KHR_external_memory_fd",
    "VK_EXT_external_memory_dma_buf",
    "VK_KHR_external_semaphore_fd",
    "VK_EXT_image_drm_format_modifier",
    "VK_EXT_queue_family_foreign",
)
"""The extensions that a device is made with, for all of `dmabuf.interop.vulkan`.

Buffers need the first two, fences the third, images the fourth. The last is for the barriers that
take an image from whoever had it, and give it back. They build on Vulkan 1.2.
"""


@cache
def package() -> Any:
    """Return the package `vulkan`; ImportError says what to install."""
    try:
        import vulkan
    except ImportError as error:
        raise ImportError(
            f"dmabuf.interop.vulkan needs the package vulkan: pip install vulkan ({error})"
        ) from None
    except OSError as error:
        raise ImportError(
            "dmabuf.interop.vulkan needs libvulkan.so.1: install Vulkan's loader, which is the"
            " package libvulkan1 of Debian and vulkan-loader of Fedora, and the GPU's driver"
            f" ({error})"
        ) from None
    return vulkan


def struct(name: str, **fields: Any) -> Any:
    """Return a pointer to a new struct. Keep what its pNext and its other pointers are."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z0-9])", "_", name.removeprefix("Vk")).upper()
    vulkan = package()
    fields["sType"] = getattr(vulkan, f"VK_STRUCTURE_TYPE_{words}")
    return vulkan.ffi.new(f"{name} *", fields)


def array(kind: str, values: Sequence[Any]) -> Any:
    """Return a new array of C's."""
    return package().ffi.new(f"{kind}[]", values)


def require(handle: Any, kind: str, name: str) -> None:
    """Raise TypeError unless it is a handle of a kind, and ValueError if it is null."""
    ffi = package().ffi
    if not isinstance(handle, ffi.CData) or ffi.typeof(handle) is not ffi.typeof(kind):
        raise TypeError(
            f"{name} must be a {kind} of the package vulkan, not {type(handle).__name__}"
        )
    if not handle:
        raise ValueError(f"{name} is VK_NULL_HANDLE")


def function(device: Any, name: str) -> Any:
    """Return a function of C's of a device; UnsupportedError for one made without its extension."""
    vulkan = package()
    found = vulkan.lib.vkGetDeviceProcAddr(device, name.encode())
    if not found:
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            f"the Vulkan device has no {name}: make it with the extensions of"
            " dmabuf.interop.vulkan.DEVICE_EXTENSIONS",
        )
    return vulkan.ffi.cast(f"PFN_{name}", found)


def check(result: int, what: str) -> None:
    """Raise the error that a function of C's has returned."""
    if result < 0:
        name, number = _ERRORS.get(result, (f"VkResult {result}", errno.EIO))
        raise OSError(number, f"{what}: the driver says {name}")
