"""Images: planes that lie inside their buffers, as arrays, in a scope that brackets each buffer."""

import gc
import os

import pytest

from dmabuf import Image
from dmabuf.image import FORMATS, Plane

X_TILED = 0x100000000000001  # I915_FORMAT_MOD_X_TILED in drm_fourcc.h


@pytest.fixture
def buffers(allocate):
    """Give three buffers of two pages, closed at the end."""
    with allocate(8192) as first, allocate(8192) as second, allocate(8192) as third:
        yield first, second, third


class TestPlanes:
    def test_lie_one_after_the_other_at_the_least_stride(self, buffer):
        image = Image(buffer, "NV12", 64, 32)
        assert image.planes == (Plane(buffer, 0, 64, 64, 32), Plane(buffer, 2048, 64, 32, 16))
        assert image.buffers == (buffer,)
        assert (image.width, image.height, image.modifier) == (64, 32, 0)
        assert image.format is FORMATS["NV12"]

    def test_odd_sizes_round_up(self, buffer):
        image = Image(buffer, "YUV420", 7, 5)
        assert [plane[1:] for plane in image.planes] == [(0, 7, 7, 5), (35, 4, 4, 3), (47, 4, 4, 3)]
        with image.read() as planes:
            assert [plane.shape for plane in planes] == [(5, 7), (3, 4), (3, 4)]

    def test_one_stride_is_the_first_planes_and_the_others_follow(self, buffer):
        strides = {
            "NV12": [64, 64],
            "YUV420": [64, 32, 32],
            "YUV422": [64, 32, 32],
            "NV24": [64, 128],
            "XRGB8888": [64],
        }
        for name, expected in strides.items():
            image = Image(buffer, name, 10, 10, strides=64)
            assert [plane.stride for plane in image.planes] == expected

    def test_strides_and_offsets_are_taken_as_given(self, buffer):
        image = Image(buffer, "NV12", 16, 16, strides=[32, 48], offsets=[4096, 16])
        assert image.planes == (Plane(buffer, 4096, 32, 16, 16), Plane(buffer, 16, 48, 8, 8))

    def test_the_last_row_may_end_before_its_stride(self, buffer):
        image = Image(buffer, "XRGB8888", 2, 2, strides=8184)
        assert image.planes[0].stride == 8184
        with pytest.raises(ValueError, match="needs bytes 0 to 8196; its buffer has 0 to 8192"):
            Image(buffer, "XRGB8888", 2, 2, strides=8188)

    def test_each_in_a_buffer_of_its_own_starts_there(self, buffers):
        image = Image(buffers, "YUV420", 64, 64)
        assert [plane.buffer for plane in image.planes] == list(buffers)
        assert [plane.offset for plane in image.planes] == [0, 0, 0]
        assert image.buffers == buffers

    def test_the_same_memory_given_twice_is_one_buffer(self, buffers):
        first, second, _ = buffers
        with first.dup() as again:
            image = Image([first, second, again], "YUV420", 16, 16)
        assert [plane.buffer for plane in image.planes] == [first, second, first]
        assert image.planes[2].buffer is first
        assert [plane.offset for plane in image.planes] == [0, 0, 256]
        assert image.buffers == (first, second)

    @pytest.mark.parametrize(
        ("arguments", "options", "error", "words"),
        [
            (("NV12", 64, 128), {}, ValueError, "plane 1 of NV12 64x128 needs bytes 8192 to 12288"),
            (("R8", 1, 1), {"offsets": [8192]}, ValueError, "needs bytes 8192 to 8193"),
            (("R8", 1, 1), {"offsets": [-1]}, ValueError, "needs bytes -1 to 0"),
            (("R8", 10, 1), {"strides": 9}, ValueError, "at least 10 bytes, not 9"),
            (("R8", 1, 2), {"strides": -1}, ValueError, "at least 1 bytes, not -1"),
            (("RGB565", 2, 2), {"strides": 5}, ValueError, "a stride that 2 divides, not 5"),
            (("RGB565", 2, 2), {"offsets": [1]}, ValueError, "an? offset that 2 divides, not 1"),
            (("NV12", 2, 2), {"offsets": [0]}, ValueError, "NV12 has 2 planes, not 1 offsets"),
            (("NV12", 2, 2), {"strides": [2]}, ValueError, "NV12 has 2 planes, not 1 strides"),
            (("R8", 0, 1), {}, ValueError, "at least one pixel, not 0x1"),
            (("R8", 1, -1), {}, ValueError, "at least one pixel, not 1x-1"),
            (("R8", 1 << 62, 1 << 62), {}, ValueError, "its buffer has 0 to 8192"),
            (("R8", 1, 1), {"modifier": -1}, ValueError, "64 bits"),
            (("R8", 1, 1), {"modifier": 1 << 64}, ValueError, "64 bits"),
            (("R8", 1.5, 1), {}, TypeError, "float"),
            (("R8", 1, 1), {"strides": [1.5]}, TypeError, "float"),
            (("no such", 1, 1), {}, ValueError, "no pixel format 'no such'"),
            ((None, 1, 1), {}, TypeError, "NoneType"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, buffer, arguments, options, error, words):
        with pytest.raises(error, match=words):
            Image(buffer, *arguments, **options)

    def test_buffers_are_one_or_one_a_plane_and_open(self, buffers):
        first, second, third = buffers
        with pytest.raises(ValueError, match="NV12 wants one buffer, or 2, not 3"):
            Image(buffers, "NV12", 2, 2)
        with pytest.raises(ValueError, match="R8 wants one buffer, not 2"):
            Image([first, second], "R8", 2, 2)
        with pytest.raises(ValueError, match="not 0"):
            Image([], "R8", 2, 2)
        with pytest.raises(TypeError, match=r"one a plane, not bytes"):
            Image([b"12", first], "NV12", 2, 2)
        third.close()
        with pytest.raises(ValueError, match="closed Buffer"):
            Image(third, "R8", 2, 2)


class TestScope:
    def test_gives_an_array_for_each_plane_on_the_buffers_memory(self, buffer):
        image = Image(buffer, "NV12", 6, 4, strides=[8, 10], offsets=[3, 100])
        with image.write() as (luma, chroma):
            assert (luma.shape, luma.strides, luma.dtype) == ((4, 6), (8, 1), "u1")
            assert (chroma.shape, chroma.strides) == ((2, 3, 2), (10, 2, 1))
            luma[1, 2] = 7
            chroma[1, 2] = 8, 9
        assert buffer.memory[3 + 8 + 2] == 7
        assert bytes(buffer.memory[100 + 10 + 4 :][:2]) == b"\x08\x09"

    def test_planes_of_several_buffers_are_on_their_own(self, buffers):
        with Image(buffers, "YVU420", 4, 4).read_write() as planes:
            for value, plane in enumerate(planes, 1):
                plane[:] = value
        assert [buffer.memory[3] for buffer in buffers] == [1, 2, 3]
        assert [buffer.memory[4] for buffer in buffers] == [1, 0, 0]

    def test_a_read_scope_gives_read_only_arrays(self, buffer):
        with Image(buffer, "XRGB8888", 4, 4).read() as (pixels,):
            assert not pixels.flags.writeable
            with pytest.raises(ValueError, match="read-only"):
                pixels[0, 0, 0] = 1

    def test_arrays_outlive_the_scope_and_the_buffer(self, allocate):
        with allocate(4096) as buffer, Image(buffer, "XRGB8888", 4, 4).write() as (pixels,):
            pixels[:] = 5
        del buffer
        gc.collect()
        pixels[0, 0, 0] += 1
        assert pixels[0, 0].tolist() == [6, 5, 5, 5]

    def test_is_refused_for_a_modifier_other_than_linear(self, buffer):
        image = Image(buffer, "XRGB8888", 640, 480, modifier=X_TILED)
        for access in (image.read, image.write, image.read_write):
            with pytest.raises(ValueError, match=r"modifier=0x100000000000001.* isn't linear"):
                access()
        with pytest.raises(ValueError, match=r"offset 8192; its buffer has 0 to 8192"):
            Image(buffer, "XRGB8888", 1, 1, offsets=[8192], modifier=X_TILED)

    def test_is_refused_once_a_buffer_is_closed(self, buffers):
        image = Image(buffers, "YUV420", 2, 2)
        buffers[1].close()
        with pytest.raises(ValueError, match="closed Buffer"), image.read():
            pass
        os.close(buffers[0].detach())  # EBUSY if it were held
