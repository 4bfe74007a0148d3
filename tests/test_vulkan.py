"""Buffers, images and fences in Vulkan's hands, by Mesa's driver for the processor."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import threading
import time

import numpy
import pytest
from helpers import cameras, interrupt, vulkan
from helpers.leaks import descriptors, kernel_buffers

import dmabuf
from dmabuf import Access
from dmabuf._fd import Hold
from dmabuf.image import FORMATS, Image
from dmabuf.interop import vulkan as ours

pytestmark = [pytest.mark.needs("vulkan", "export"), pytest.mark.timeout(100)]

WIDTH, HEIGHT = 36, 20
USAGE = vulkan.TRANSFER_SRC | vulkan.TRANSFER_DST
WANTED = ["XRGB8888", "ABGR8888", "RGB565", "R8", "YUYV", "NV12", "YUV420", "P010"]


@pytest.fixture(scope="module")
def gpu():
    """Give a device whose driver has opened what it keeps, before anything is counted."""
    with vulkan.gpu() as gpu:
        with vulkan.recorded(gpu) as commands:
            pass
        vulkan.submit(gpu, commands)
        vulkan.wait_idle(gpu)
        yield gpu


@pytest.fixture
def picture(allocate):
    """Give a function that returns an image with noise; they are closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(name: str, **about) -> Image:
            about = {"stride_align": 64, "allocate": allocate, **about}
            image = stack.enter_context(Image.allocate(name, WIDTH, HEIGHT, **about))
            fill(image)
            return image

        yield make


def fill(image: Image) -> None:
    """Put noise into the buffers of an image, the same each time."""
    noise = numpy.random.default_rng(7)
    for buffer in image.buffers:
        with buffer.write() as memory:
            memory[:] = noise.bytes(len(memory))


def look(gpu, image: Image, buffer: dmabuf.Buffer) -> bytes:
    """Return the pixels of an image as the GPU sees them, which it copies into a buffer."""
    with (
        ours.import_image(gpu.device, image, USAGE, physical_device=gpu.physical) as imported,
        ours.import_buffer(gpu.device, buffer, USAGE) as target,
    ):
        vulkan.submit(gpu, vulkan.copy_out(gpu, imported, target))
        vulkan.wait_idle(gpu)
    wanted = len(vulkan.pixels(image))
    with buffer.read() as memory:
        return bytes(memory[:wanted])


class TestImages:
    def test_formats_have_their_modifiers(self, gpu):
        formats = ours.formats(gpu.physical)
        assert {format.name for format in formats} >= set(WANTED)
        assert dmabuf.image.LINEAR in formats[FORMATS["XRGB8888"]]

    @pytest.mark.parametrize("name", WANTED)
    def test_are_seen_by_the_gpu_as_the_processor_sees_them(self, gpu, picture, buffer, name):
        image = picture(name)
        assert look(gpu, image, buffer) == vulkan.pixels(image)

    def test_rows_and_planes_are_where_the_image_says(self, gpu, buffer, other):
        image = Image(buffer, "NV12", WIDTH, HEIGHT, strides=(128, 64), offsets=(64, 4096))
        fill(image)
        assert look(gpu, image, other) == vulkan.pixels(image)

    @pytest.mark.needs("udmabuf")
    def test_memory_of_udmabuf_is_taken(self, gpu, picture, buffer):
        image = picture("XRGB8888", allocate=dmabuf.udmabuf.allocate)
        assert look(gpu, image, buffer) == vulkan.pixels(image)

    @pytest.mark.needs("vivid")
    def test_a_cameras_own_memory_is_taken(self, gpu, camera, allocate):
        camera.set_format("YUYV", cameras.WIDTH, cameras.HEIGHT)
        with (
            allocate(cameras.WIDTH * cameras.HEIGHT * 2) as buffer,
            camera.stream(count=2) as frames,
            frames.frame(timeout=30) as frame,
        ):
            assert look(gpu, frame.image, buffer) == vulkan.pixels(frame.image)

    def test_the_gpu_draws_into_one(self, gpu, picture, buffer):
        image = picture("NV12")
        noise = numpy.random.default_rng(8).bytes(buffer.size)
        with buffer.write() as memory:
            memory[:] = noise
        with (
            ours.import_image(gpu.device, image, USAGE) as imported,
            ours.import_buffer(gpu.device, buffer, USAGE) as source,
        ):
            vulkan.submit(gpu, vulkan.copy_in(gpu, source, imported))
            vulkan.wait_idle(gpu)
        assert vulkan.pixels(image) == noise[: WIDTH * HEIGHT * 3 // 2]

    def test_tells_what_views_of_it_need(self, gpu, picture):
        with ours.import_image(gpu.device, picture("XRGB8888"), USAGE) as imported:
            assert imported.vk_format == vulkan.vk().VK_FORMAT_B8G8R8A8_UNORM
            assert imported.format is FORMATS["XRGB8888"]
            assert imported.size == (WIDTH, HEIGHT)
            assert "VulkanImage handle=0x" in repr(imported)
        assert "VulkanImage [closed] of <dmabuf.Image XRGB8888" in repr(imported)


class TestOwnership:
    def test_the_memory_lives_until_what_was_imported_is_closed(self, gpu, allocate):
        before = kernel_buffers()
        image = Image.allocate("XRGB8888", WIDTH, HEIGHT, stride_align=64, allocate=allocate)
        imported = ours.import_image(gpu.device, image, USAGE)
        whole = ours.import_buffer(gpu.device, image.buffers[0], USAGE)
        image.close()
        assert kernel_buffers() == before + 1
        imported.close()
        assert kernel_buffers() == before + 1
        assert whole.memory
        for _ in range(2):
            whole.close()
        assert kernel_buffers() == before

    def test_what_is_closed_is_an_error(self, gpu, buffer, picture):
        whole = ours.import_buffer(gpu.device, buffer, USAGE)
        whole.close()
        for use in (lambda: whole.handle, lambda: whole.memory, whole.__enter__):
            with pytest.raises(ValueError, match="on a closed VulkanBuffer"):
                use()
        image = picture("R8")
        image.close()
        with pytest.raises(ValueError, match="on a closed Image"):
            ours.import_image(gpu.device, image, USAGE)

    def test_one_that_is_forgotten_warns_and_is_destroyed(self, gpu, allocate):
        before = kernel_buffers()
        with allocate(4096) as buffer:
            whole = ours.import_buffer(gpu.device, buffer, USAGE)
        with pytest.warns(ResourceWarning, match="unclosed VulkanBuffer"):
            del whole
        assert kernel_buffers() == before

    def test_a_child_leaves_all_to_its_parent(self, gpu, buffer, other):
        image = Image(buffer, "XRGB8888", 16, 16, strides=64)
        fill(image)
        with ours.import_image(gpu.device, image, USAGE) as imported:
            pid = os.fork()
            if not pid:
                status = 1
                with contextlib.suppress(BaseException):
                    imported.close()
                    status = 0
                os._exit(status)
            assert os.waitpid(pid, 0)[1] == 0
            with ours.import_buffer(gpu.device, other, USAGE) as target:
                vulkan.submit(gpu, vulkan.copy_out(gpu, imported, target))
                vulkan.wait_idle(gpu)
            assert bytes(other.memory[:1024]) == vulkan.pixels(image)

    def test_exported_memory_is_the_gpus_and_outlives_it(self, gpu, other):
        v = vulkan.vk()
        before = kernel_buffers()
        export = v.VkExportMemoryAllocateInfo(
            handleTypes=v.VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT
        )
        info = v.VkMemoryAllocateInfo(pNext=export, allocationSize=8192, memoryTypeIndex=0)
        memory = v.vkAllocateMemory(gpu.device, info, None)
        with ours.export_memory(gpu.device, memory) as buffer:
            mapped = v.vkMapMemory(gpu.device, memory, 0, 8192, 0)
            mapped[:4] = b"here"
            v.vkUnmapMemory(gpu.device, memory)
            v.vkFreeMemory(gpu.device, memory, None)
            assert bytes(buffer.memory[:4]) == b"here"
            assert buffer.size >= 8192
            image = Image(buffer, "XRGB8888", 16, 16, strides=64)
            assert look(gpu, image, other) == vulkan.pixels(image)
        assert kernel_buffers() == before


class TestRefusals:
    def test_a_format_that_vulkan_has_not(self, gpu, buffer):
        with pytest.raises(dmabuf.RefusedError, match=r"no format SRGGB8, only .*NV12"):
            ours.import_image(gpu.device, Image(buffer, "SRGGB8", WIDTH, HEIGHT), USAGE)

    def test_a_modifier_that_the_driver_has_not(self, gpu, buffer):
        image = Image(buffer, "XRGB8888", WIDTH, HEIGHT, modifier=0x100000000000001)
        words = "the driver has no modifier 0x100000000000001 of XRGB8888; it has 0x0"
        with pytest.raises(dmabuf.RefusedError, match=words):
            ours.import_image(gpu.device, image, USAGE, physical_device=gpu.physical)

    def test_planes_in_several_buffers(self, gpu, buffer, other):
        image = Image([buffer, other], "NV12", WIDTH, HEIGHT)
        with pytest.raises(dmabuf.RefusedError, match="its planes are in 2 buffers"):
            ours.import_image(gpu.device, image, USAGE)

    def test_what_is_something_else(self, gpu, buffer):
        image = Image(buffer, "R8", 16, 16)
        for call, words in (
            (lambda: ours.import_image(gpu.device, buffer, USAGE), "image must be a dmabuf.Image"),
            (lambda: ours.import_buffer(gpu.device, image, USAGE), "buffer must be a dmabuf.Buff"),
            (lambda: ours.import_semaphore(gpu.device, buffer), "fence must be a dmabuf.Fence"),
            (lambda: ours.import_buffer(7, buffer, USAGE), "device must be a VkDevice of the pack"),
            (lambda: ours.export_memory(gpu.device, gpu.queue), "memory must be a VkDeviceMemory"),
            (lambda: ours.formats(gpu.device), "physical_device must be a VkPhysicalDevice"),
        ):
            with pytest.raises(TypeError, match=words):
                call()

    def test_a_buffer_whose_number_is_something_else(self, gpu, buffer):
        with buffer.dup() as taken:
            file = os.memfd_create("another")
            os.dup2(file, taken.fileno(), inheritable=False)
            os.close(file)
            with pytest.raises(dmabuf.NotADmaBufError, match="closed behind its owner's back"):
                ours.import_buffer(gpu.device, taken, USAGE)

    def test_a_device_without_the_extensions(self, buffer):
        with vulkan.gpu(extensions=()) as bare:
            words = "the Vulkan device has no vkGetMemoryFdPropertiesKHR: make it with the ext"
            with pytest.raises(dmabuf.UnsupportedError, match=words):
                ours.import_buffer(bare.device, buffer, USAGE)

    def test_nothing_is_left_where_no_descriptor_is_to_be_had(self, gpu, buffer, pending):
        image = Image(buffer, "R8", 16, 16)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for call in (
            lambda: ours.import_buffer(gpu.device, buffer, USAGE),
            lambda: ours.import_image(gpu.device, image, USAGE),
            lambda: ours.import_semaphore(gpu.device, pending.fence),
        ):
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors() - 1, hard))
            try:
                with pytest.raises(OSError, match="Too many open files"):
                    call()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        pending.signal()


def exportable(gpu):
    """Return a semaphore that a fence can be had of."""
    v = vulkan.vk()
    info = v.VkExportSemaphoreCreateInfo(
        handleTypes=v.VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT
    )
    return v.vkCreateSemaphore(gpu.device, v.VkSemaphoreCreateInfo(pNext=info), None)


class TestFences:
    def test_a_pending_one_holds_the_gpu_and_the_gpus_tells_when_it_is_done(
        self, gpu, picture, buffer, pending
    ):
        image = picture("XRGB8888")
        with buffer.write() as memory:
            memory[:] = bytes(len(memory))
        done = exportable(gpu)
        with (
            ours.import_image(gpu.device, image, USAGE) as imported,
            ours.import_buffer(gpu.device, buffer, USAGE) as target,
            ours.import_semaphore(gpu.device, pending.fence) as ready,
        ):
            commands = vulkan.copy_out(gpu, imported, target)
            seen = []

            def signal():
                time.sleep(0.3)  # so that commands that don't wait are over by then
                seen.append(any(buffer.memory))
                pending.signal()

            thread = threading.Thread(target=signal)
            thread.start()
            vulkan.submit(gpu, commands, wait=[ready.handle], signal=[done])
            with ours.export_semaphore(gpu.device, done) as fence:
                assert fence.wait(timeout=60)
                assert fence.error is None
                buffer.import_fence(fence, Access.WRITE)
            thread.join()
            assert seen == [False]
            assert bytes(buffer.memory[: WIDTH * HEIGHT * 4]) == vulkan.pixels(image)
            vulkan.wait_idle(gpu)
        assert pending.fence.signaled  # it stays the caller's
        vulkan.vk().vkDestroySemaphore(gpu.device, done, None)

    def test_one_that_has_signalled_holds_nothing(self, gpu, picture, buffer):
        image = picture("R8")
        with (
            buffer.export_fence(Access.READ) as fence,
            ours.import_semaphore(gpu.device, fence) as ready,
            ours.import_image(gpu.device, image, USAGE) as imported,
            ours.import_buffer(gpu.device, buffer, USAGE) as target,
        ):
            commands = vulkan.copy_out(gpu, imported, target)
            vulkan.submit(gpu, commands, wait=[ready.handle])
            vulkan.wait_idle(gpu)
        assert bytes(buffer.memory[: WIDTH * HEIGHT]) == vulkan.pixels(image)


class TestAHandlerThatRaises:
    """At each point of the package's code: nothing is lost, and the next call goes on."""

    pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

    def at_each_point(self, make):
        make().close()
        gc.collect()
        before = descriptors(), kernel_buffers()
        for moment in interrupt.every_point(Hold.__exit__):
            made = moment.interrupts(make)
            if made is not None:
                made.close()
            del made
            gc.collect()
            assert (descriptors(), kernel_buffers()) == before, moment.where

    def test_importing_a_buffer(self, gpu, buffer):
        self.at_each_point(lambda: ours.import_buffer(gpu.device, buffer, USAGE))

    def test_importing_an_image(self, gpu, buffer):
        image = Image(buffer, "NV12", 16, 16, strides=64)
        self.at_each_point(lambda: ours.import_image(gpu.device, image, USAGE))

    def test_importing_a_fence(self, gpu, pending):
        pending.signal()
        self.at_each_point(lambda: ours.import_semaphore(gpu.device, pending.fence))

    def test_exporting_memory(self, gpu):
        v = vulkan.vk()
        export = v.VkExportMemoryAllocateInfo(
            handleTypes=v.VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT
        )
        info = v.VkMemoryAllocateInfo(pNext=export, allocationSize=4096, memoryTypeIndex=0)
        memory = v.vkAllocateMemory(gpu.device, info, None)
        self.at_each_point(lambda: ours.export_memory(gpu.device, memory))
        v.vkFreeMemory(gpu.device, memory, None)
