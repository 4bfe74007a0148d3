"""Arrays on buffers in the hands of others: numpy, DLPack, OpenCV and PyTorch take them uncopied.

JAX and others that speak DLPack get what numpy.from_dlpack gets here.
"""

import gc
import importlib
import json
import subprocess
import sys
import textwrap

import numpy
import pytest

from dmabuf import Image

WIDTH, HEIGHT, STRIDE = 60, 40, 64


def address(array):
    return array.__array_interface__["data"][0]


@pytest.fixture
def image(buffer):
    """Give an NV12 image whose rows are longer than what is seen of them."""
    return Image(buffer, "NV12", WIDTH, HEIGHT, strides=STRIDE)


class TestNumpy:
    def test_asarray_takes_planes_and_memory_without_a_copy(self, buffer, image):
        start = address(numpy.asarray(buffer.memory))
        with image.write() as planes:
            for plane, place in zip(planes, image.planes, strict=True):
                assert numpy.asarray(plane) is plane
                assert address(plane) == start + place.offset
            with buffer.write() as memory:
                assert address(numpy.asarray(memory)) == start

    def test_dlpack_takes_planes_without_a_copy(self, buffer, image):
        with image.write() as planes:
            for plane in planes:
                assert plane.__dlpack_device__() == (1, 0)  # kDLCPU in dlpack.h
                taken = numpy.from_dlpack(plane)
                assert (address(taken), taken.shape) == (address(plane), plane.shape)
                assert taken.strides == plane.strides
                plane[1, 2] = 7
                assert (taken[1, 2] == 7).all()

    def test_dlpack_hands_on_that_a_plane_is_read_only(self, image):
        with image.read() as (luma, _):
            if numpy.lib.NumpyVersion(numpy.__version__) < "2.1.0":
                with pytest.raises(BufferError, match="readonly"):
                    numpy.from_dlpack(luma)
            else:
                assert not numpy.from_dlpack(luma).flags.writeable

    def test_what_dlpack_gave_outlives_the_buffer(self, allocate):
        with allocate(4096) as buffer, Image(buffer, "R8", 8, 8).write() as (plane,):
            plane[:] = 3
            taken = numpy.from_dlpack(plane)
        del buffer, plane
        gc.collect()
        assert taken.tolist() == [[3] * 8] * 8


@pytest.fixture
def cv2():
    """Give OpenCV, imported when it is needed."""
    return importlib.import_module("cv2")


@pytest.mark.needs("opencv")
class TestOpenCv:
    def test_draws_into_a_plane(self, cv2, buffer, image):
        with image.write() as (luma, chroma):
            cv2.rectangle(luma, (2, 3), (4, 5), 200, cv2.FILLED)
            cv2.rectangle(chroma, (0, 0), (1, 1), (90, 240), cv2.FILLED)
        assert bytes(buffer.memory[3 * STRIDE + 1 :][:5]) == bytes([0, 200, 200, 200, 0])
        assert bytes(buffer.memory[image.planes[1].offset :][:6]) == bytes([90, 240, 90, 240, 0, 0])

    def test_writes_its_result_into_a_plane(self, cv2, buffer):
        image = Image(buffer, "RGB888", 16, 8, strides=64)  # the bytes B, G, R, as OpenCV has them
        grey = numpy.arange(128, dtype="u1").reshape(8, 16)
        with image.write() as (pixels,):
            shown = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR, dst=pixels)
            assert address(shown) == address(pixels)
        assert (image.to_rgb() == grey[..., None]).all()

    def test_reads_planes_in_its_own_layouts(self, cv2, buffer):
        values = bytes(range(16, 236))  # below black OpenCV takes luma for black
        buffer.memory[:] = (values * 38)[: buffer.size]
        for name, conversion in (
            ("YUYV", cv2.COLOR_YUV2RGB_YUYV),
            ("UYVY", cv2.COLOR_YUV2RGB_UYVY),
        ):
            image = Image(buffer, name, WIDTH, 20, strides=128)
            with image.read() as (pixels,):
                theirs = cv2.cvtColor(pixels, conversion)
            assert abs(image.to_rgb().astype(int) - theirs).max() <= 2  # OpenCV rounds its factors

    def test_does_not_write_into_what_is_read_only(self, cv2, image):
        with image.read() as (luma, _), pytest.raises(cv2.error, match="readonly"):
            cv2.rectangle(luma, (0, 0), (4, 4), 255)


TORCH = """
    import gc, json, sys, warnings
    import numpy, torch, dmabuf

    told = {}
    buffer = dmabuf.allocate(8192)
    image = dmabuf.Image(buffer, "NV12", 60, 40, strides=64)
    makers = {"from_dlpack": torch.from_dlpack, "from_numpy": torch.from_numpy}

    for name, make in makers.items():
        with image.write() as planes:
            for index, plane in enumerate(planes):
                tensor = make(plane)
                told[f"{name} {index} address"] = tensor.data_ptr() == plane.ctypes.data
                told[f"{name} {index} layout"] = [tensor.shape, tensor.stride(), str(tensor.dtype)]
                tensor[1, 2] = 7
                told[f"{name} {index} written"] = plane[1, 2].tolist()
                plane[1, 2] = 9
                told[f"{name} {index} read"] = tensor[1, 2].tolist()

    with dmabuf.Image(buffer, "R16", 30, 40, strides=64).write() as (plane,):
        told["u2"] = str(torch.from_dlpack(plane).dtype)

    with image.read() as (luma, _):
        for name, make in makers.items():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    make(luma)
                    told[f"read-only {name}"] = [str(warning.message) for warning in caught]
                except Exception as error:
                    told[f"read-only {name}"] = type(error).__name__

    tensors = []
    for make in makers.values():
        with dmabuf.allocate(4096) as short, dmabuf.Image(short, "R8", 64, 64).write() as (plane,):
            plane[:] = 5
            tensors.append(make(plane))
        del short, plane
    with dmabuf.allocate(4096) as short, short.write() as memory:
        tensors.append(torch.from_numpy(numpy.asarray(memory).reshape(64, 64)))
        tensors[-1][:] = 5
    del short, memory
    tensors += [make(buffer.array((8, 8))) for make in makers.values()]
    buffer.close()
    del buffer, image, planes, luma, _
    gc.collect()
    dmabuf.allocate(1 << 20).close()
    for tensor in tensors:
        tensor[0, 0] = 6
        tensor.add_(1)
    told["outlived"] = [tensor[0, :2].tolist() for tensor in tensors[:3]]
    told["end"] = True
    print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told():
    """Give what a program with torch found out: one process, since the import takes its time."""
    command = [sys.executable, "-c", textwrap.dedent(TORCH)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"status {run.returncode}: {run.stderr}"
    return json.loads(run.stdout)


@pytest.mark.needs("torch", "heap")
@pytest.mark.timeout(400)
class TestTorch:
    @pytest.mark.parametrize("make", ["from_dlpack", "from_numpy"])
    def test_takes_planes_without_a_copy(self, told, make):
        assert told[f"{make} 0 layout"] == [[HEIGHT, WIDTH], [STRIDE, 1], "torch.uint8"]
        assert told[f"{make} 1 layout"] == [
            [HEIGHT // 2, WIDTH // 2, 2],
            [STRIDE, 2, 1],
            "torch.uint8",
        ]
        for plane, (seven, nine) in enumerate([(7, 9), ([7, 7], [9, 9])]):
            assert told[f"{make} {plane} address"]
            assert told[f"{make} {plane} written"] == seven
            assert told[f"{make} {plane} read"] == nine

    def test_takes_words_too(self, told):
        assert told["u2"] == "torch.uint16"

    def test_keeps_the_memory_of_closed_and_collected_buffers(self, told):
        assert told["outlived"] == [[7, 6]] * 3
        assert told["end"]

    def test_has_no_read_only_tensors(self, told):
        """So what is made in a read scope must not be written: torch warns once, or not at all."""
        assert told["read-only from_dlpack"] == []
        assert any("not writable" in warning for warning in told["read-only from_numpy"])
