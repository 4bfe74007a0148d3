"""The middle of a camera's frames, cropped by Vulkan: from the camera's buffers into ours.

The GPU reads each frame in the camera's buffer, and writes its middle into a dma-heap buffer, which
a display, an encoder or another program can use; the CPU copies nothing. A fence in that buffer
makes the next user wait until the GPU is done. Needs a camera with RGB, a GPU whose driver imports
dma-bufs (Mesa's software rendering does), PyPI's package vulkan, and Linux 6.0.

    python examples/camera_cropped_by_vulkan.py [--frames 10] [--camera /dev/video0] middle.png
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Any

import vulkan as vk

import dmabuf
from dmabuf import Access
from dmabuf.devices import v4l2
from dmabuf.interop import vulkan

GENERAL = vk.VK_IMAGE_LAYOUT_GENERAL
WHOLE = vk.VkImageSubresourceRange(vk.VK_IMAGE_ASPECT_COLOR_BIT, 0, 1, 0, 1)
LAYERS = vk.VkImageSubresourceLayers(vk.VK_IMAGE_ASPECT_COLOR_BIT, 0, 0, 1)


class Gpu:
    """The first GPU: one device, one queue, and one buffer for its commands."""

    def __init__(self) -> None:
        """Make the device with what dma-bufs and fences need."""
        about = vk.VkApplicationInfo(apiVersion=vk.VK_MAKE_VERSION(1, 2, 0))
        self.instance = vk.vkCreateInstance(vk.VkInstanceCreateInfo(pApplicationInfo=about), None)
        self.physical = vk.vkEnumeratePhysicalDevices(self.instance)[0]
        self.name = vk.vkGetPhysicalDeviceProperties(self.physical).deviceName
        queues = [vk.VkDeviceQueueCreateInfo(queueFamilyIndex=0, pQueuePriorities=[1.0])]
        extensions = list(vulkan.DEVICE_EXTENSIONS)
        info = vk.VkDeviceCreateInfo(pQueueCreateInfos=queues, ppEnabledExtensionNames=extensions)
        self.device = vk.vkCreateDevice(self.physical, info, None)
        self.queue = vk.vkGetDeviceQueue(self.device, 0, 0)
        reset = vk.VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT
        pool = vk.VkCommandPoolCreateInfo(flags=reset, queueFamilyIndex=0)
        self.pool = vk.vkCreateCommandPool(self.device, pool, None)
        wanted = vk.VkCommandBufferAllocateInfo(commandPool=self.pool, commandBufferCount=1)
        self.commands = vk.vkAllocateCommandBuffers(self.device, wanted)[0]
        export = vk.VkExportSemaphoreCreateInfo(
            handleTypes=vk.VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT
        )
        done = vk.VkSemaphoreCreateInfo(pNext=export)
        self.done = vk.vkCreateSemaphore(self.device, done, None)

    def close(self) -> None:
        """Destroy all of it, once the GPU is idle."""
        vk.vkDeviceWaitIdle(self.device)
        vk.vkDestroySemaphore(self.device, self.done, None)
        vk.vkDestroyCommandPool(self.device, self.pool, None)
        vk.vkDestroyDevice(self.device, None)
        vk.vkDestroyInstance(self.instance, None)

    def crop(self, source: vulkan.VulkanImage, target: vulkan.VulkanImage) -> dmabuf.Fence:
        """Have the GPU fill an image with the middle of another, and return the fence of that."""
        vk.vkQueueWaitIdle(self.queue)  # its commands are recorded anew
        vk.vkBeginCommandBuffer(self.commands, vk.VkCommandBufferBeginInfo())
        every = vk.VK_PIPELINE_STAGE_ALL_COMMANDS_BIT
        barriers = [
            taken(source, vk.VK_ACCESS_TRANSFER_READ_BIT),
            taken(target, vk.VK_ACCESS_TRANSFER_WRITE_BIT),
        ]
        vk.vkCmdPipelineBarrier(self.commands, every, every, 0, 0, None, 0, None, 2, barriers)
        (width, height), size = source.size, target.size
        place = vk.VkOffset3D((width - size[0]) // 2, (height - size[1]) // 2, 0)
        corner = vk.VkOffset3D(0, 0, 0)
        copy = vk.VkImageCopy(LAYERS, place, LAYERS, corner, vk.VkExtent3D(*size, 1))
        images = (source.handle, GENERAL, target.handle, GENERAL)
        vk.vkCmdCopyImage(self.commands, *images, 1, [copy])
        vk.vkEndCommandBuffer(self.commands)
        info = vk.VkSubmitInfo(pCommandBuffers=[self.commands], pSignalSemaphores=[self.done])
        vk.vkQueueSubmit(self.queue, 1, [info], None)
        return vulkan.export_semaphore(self.device, self.done)


def taken(image: vulkan.VulkanImage, access: int) -> Any:
    """Return the barrier by which the GPU takes an image, with its pixels, from who had it."""
    return vk.VkImageMemoryBarrier(
        srcAccessMask=0,
        dstAccessMask=access,
        oldLayout=GENERAL,
        newLayout=GENERAL,
        srcQueueFamilyIndex=vk.VK_QUEUE_FAMILY_FOREIGN_EXT,
        dstQueueFamilyIndex=0,
        image=image.handle,
        subresourceRange=WHOLE,
    )


def run(camera: v4l2.Capture, gpu: Gpu, count: int, path: str) -> None:
    """Crop `count` frames, and save the last."""
    format = camera.set_format("XRGB8888", 640, 360)
    size = format.width // 2, format.height // 2
    with camera.stream(count=4) as frames, ExitStack() as stack:
        result = stack.enter_context(dmabuf.Image.allocate("XRGB8888", *size, stride_align=256))
        usage = vk.VK_IMAGE_USAGE_TRANSFER_DST_BIT
        target = stack.enter_context(vulkan.import_image(gpu.device, result, usage))
        stack.callback(vk.vkDeviceWaitIdle, gpu.device)  # before what it draws into goes
        imported: dict[dmabuf.Buffer, vulkan.VulkanImage] = {}  # the camera has the same few again
        for _, frame in zip(range(count), frames, strict=False):
            with frame:
                buffer = frame.buffers[0]
                if buffer not in imported:
                    about = vulkan.import_image(
                        gpu.device,
                        frame.image,
                        vk.VK_IMAGE_USAGE_TRANSFER_SRC_BIT,
                        physical_device=gpu.physical,
                    )
                    imported[buffer] = stack.enter_context(about)
                with gpu.crop(imported[buffer], target) as drawn:
                    buffer.import_fence(drawn, Access.READ)
                    result.buffers[0].import_fence(drawn, Access.WRITE)
        result.save(path)  # waits for the fence
        print(f"camera   {camera.device.path}, {camera.device.info.card}, {format.format}")
        print(f"GPU      {gpu.name}")
        print(f"result   {result}, without a copy by the processor")


def main() -> None:
    """Take the options, and run."""
    parser = argparse.ArgumentParser(description="Crop a camera's frames by Vulkan.")
    parser.add_argument("path", metavar="PICTURE")
    parser.add_argument("--frames", type=int, default=10, metavar="N")
    parser.add_argument("--camera", metavar="NODE", help="by default the first")
    options = parser.parse_args()
    gpu = Gpu()
    try:
        with v4l2.Capture(options.camera or v4l2.Capture.find()) as camera:
            run(camera, gpu, options.frames, options.path)
    finally:
        gpu.close()


if __name__ == "__main__":
    main()
