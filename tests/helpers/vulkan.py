"""A Vulkan device by PyPI's package, and what its GPU sees of images: copied, not sampled."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from dmabuf.image import Image
from dmabuf.interop.vulkan import DEVICE_EXTENSIONS, VulkanBuffer, VulkanImage

# vulkan/vulkan_core.h
TRANSFER_SRC, TRANSFER_DST = 1, 2
FOREIGN = 0xFFFFFFFD  # VK_QUEUE_FAMILY_FOREIGN_EXT
_LAYOUT_GENERAL = 1
_COLOR = 1
_PLANES = (0x10, 0x20, 0x40)
_SECOND = 1_000_000_000


class Gpu(NamedTuple):
    """A device with one queue."""

    physical: Any
    device: Any
    queue: Any
    pool: Any


def vk() -> Any:
    """Return the package; its import takes seconds where emulated."""
    import vulkan

    return vulkan


@contextlib.contextmanager
def gpu(extensions: Sequence[str] = DEVICE_EXTENSIONS) -> Iterator[Gpu]:
    """Give a device, which is destroyed at the end."""
    v = vk()
    about = v.VkApplicationInfo(apiVersion=1 << 22 | 2 << 12)
    instance = v.vkCreateInstance(v.VkInstanceCreateInfo(pApplicationInfo=about), None)
    try:
        physical = v.vkEnumeratePhysicalDevices(instance)[0]
        queues = [v.VkDeviceQueueCreateInfo(queueFamilyIndex=0, pQueuePriorities=[1.0])]
        info = v.VkDeviceCreateInfo(
            pQueueCreateInfos=queues, ppEnabledExtensionNames=list(extensions)
        )
        device = v.vkCreateDevice(physical, info, None)
        try:
            info = v.VkCommandPoolCreateInfo(queueFamilyIndex=0)
            pool = v.vkCreateCommandPool(device, info, None)
            yield Gpu(physical, device, v.vkGetDeviceQueue(device, 0, 0), pool)
            v.vkDestroyCommandPool(device, pool, None)
        finally:
            v.vkDestroyDevice(device, None)
    finally:
        v.vkDestroyInstance(instance, None)


def aspects(imported: VulkanImage) -> list[int]:
    """Return the aspect of each plane."""
    count = len(imported.format.planes)
    return list(_PLANES[:count]) if count > 1 else [_COLOR]


def acquire(commands: Any, imported: VulkanImage, access: int) -> None:
    """Take an image from whoever had it, with its pixels."""
    v = vk()
    barrier = v.VkImageMemoryBarrier(
        srcAccessMask=0,
        dstAccessMask=access,
        oldLayout=_LAYOUT_GENERAL,
        newLayout=_LAYOUT_GENERAL,
        srcQueueFamilyIndex=FOREIGN,
        dstQueueFamilyIndex=0,
        image=imported.handle,
        subresourceRange=v.VkImageSubresourceRange(_COLOR, 0, 1, 0, 1),
    )
    every = v.VK_PIPELINE_STAGE_ALL_COMMANDS_BIT
    v.vkCmdPipelineBarrier(commands, every, every, 0, 0, None, 0, None, 1, [barrier])


def regions(imported: VulkanImage) -> list[Any]:
    """Return where each plane of an image is in plain memory, one after the other, without gaps."""
    v = vk()
    found, end = [], 0
    for aspect, layout in zip(aspects(imported), imported.format.planes, strict=True):
        rows, columns, *_ = layout.shape(*imported.size)
        layers = v.VkImageSubresourceLayers(aspect, 0, 0, 1)
        extent = v.VkExtent3D(columns, rows, 1)
        copy = v.VkBufferImageCopy(bufferOffset=end, imageSubresource=layers, imageExtent=extent)
        found.append(copy)
        end += layout.row(imported.size[0]) * rows
    return found


@contextlib.contextmanager
def recorded(gpu: Gpu) -> Iterator[Any]:
    """Give a command buffer to record into, in the block; its end ends the recording."""
    v = vk()
    info = v.VkCommandBufferAllocateInfo(
        commandPool=gpu.pool, level=v.VK_COMMAND_BUFFER_LEVEL_PRIMARY, commandBufferCount=1
    )
    commands = v.vkAllocateCommandBuffers(gpu.device, info)[0]
    v.vkBeginCommandBuffer(commands, v.VkCommandBufferBeginInfo())
    yield commands
    v.vkEndCommandBuffer(commands)


def submit(
    gpu: Gpu, commands: Any, *, wait: Sequence[Any] = (), signal: Sequence[Any] = ()
) -> None:
    """Have the GPU run commands, once semaphores are signalled; others it signals itself."""
    v = vk()
    every = [v.VK_PIPELINE_STAGE_ALL_COMMANDS_BIT] * len(wait)
    info = v.VkSubmitInfo(
        pWaitSemaphores=list(wait),
        pWaitDstStageMask=every,
        pCommandBuffers=[commands],
        pSignalSemaphores=list(signal),
    )
    v.vkQueueSubmit(gpu.queue, 1, [info], None)


def copy_out(gpu: Gpu, imported: VulkanImage, into: VulkanBuffer) -> Any:
    """Return the commands that copy an image's planes into a buffer, one after the other."""
    v = vk()
    with recorded(gpu) as commands:
        acquire(commands, imported, v.VK_ACCESS_TRANSFER_READ_BIT)
        found = regions(imported)
        source, target = imported.handle, into.handle
        v.vkCmdCopyImageToBuffer(commands, source, _LAYOUT_GENERAL, target, len(found), found)
    return commands


def copy_in(gpu: Gpu, source: VulkanBuffer, imported: VulkanImage) -> Any:
    """Return the commands that copy planes out of a buffer into an image."""
    v = vk()
    with recorded(gpu) as commands:
        acquire(commands, imported, v.VK_ACCESS_TRANSFER_WRITE_BIT)
        found = regions(imported)
        target = imported.handle
        v.vkCmdCopyBufferToImage(
            commands, source.handle, target, _LAYOUT_GENERAL, len(found), found
        )
    return commands


def wait_idle(gpu: Gpu) -> None:
    """Wait until the GPU is done."""
    vk().vkQueueWaitIdle(gpu.queue)


def pixels(image: Image) -> bytes:
    """Return the pixels of an image's planes as the processor sees them, without gaps."""
    with image.read() as arrays:
        return b"".join(array.tobytes() for array in arrays)
