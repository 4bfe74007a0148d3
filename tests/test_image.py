"""Images: planes that lie inside their buffers, as arrays, in a scope that brackets each buffer."""

import contextlib
import errno
import gc
import itertools
import os

import numpy
import pytest
from helpers import interrupt, strace
from hypothesis import given, settings
from hypothesis import strategies as st

import dmabuf
from dmabuf import Image, _ioctl
from dmabuf.image import FORMATS, Plane

READ, WRITE, RW = 1, 2, 3  # SYNC START with these flags
END_READ, END_WRITE, END_RW = 5, 6, 7
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
            assert Image(buffer, name, 10, 10, strides=numpy.int64(64)).planes == image.planes

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
            (("R8", 1, 1), {"strides": 1.5}, TypeError, "float"),
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
        for access in (image.read, image.write, image.read_write, image.to_rgb):
            with pytest.raises(ValueError, match=r"modifier=0x100000000000001.* isn't linear"):
                access()
        with pytest.raises(ValueError, match=r"offset 8192; its buffer has 0 to 8192"):
            Image(buffer, "XRGB8888", 1, 1, offsets=[8192], modifier=X_TILED)


def is_free(buffer) -> bool:
    """Return whether nobody holds a buffer's descriptor; takes it away."""
    try:
        os.close(buffer.detach())
    except OSError as error:
        assert error.errno == errno.EBUSY  # noqa: PT017
        return False
    return True


class TestBrackets:
    @pytest.mark.parametrize(
        ("scope", "flags"),
        [
            (Image.read, (READ, END_READ)),
            (Image.write, (WRITE, END_WRITE)),
            (Image.read_write, (RW, END_RW)),
        ],
    )
    def test_each_distinct_buffer_has_one_pair(self, buffers, scope, flags):
        first, second, _ = buffers
        image = Image([first, second, first], "YUV420", 8, 8)
        one, other = first.fileno(), second.fileno()

        def body() -> None:
            with scope(image):
                pass

        start, end = flags
        assert strace.syncs(body) == [(one, start), (other, start), (one, end), (other, end)]

    def test_nothing_is_issued_before_with(self, buffer):
        image = Image(buffer, "NV12", 8, 8)
        assert strace.syncs(lambda: (image.read(), image.write())) == []

    def test_conversion_reads_in_a_pair_of_its_own(self, buffer):
        image = Image(buffer, "NV12", 8, 8)
        image.to_rgb()
        assert [flags for _, flags in strace.syncs(image.to_rgb)] == [READ, END_READ]

    def test_ends_follow_a_body_that_raises(self, buffers):
        image = Image(buffers[:2], "NV12", 8, 8)

        def body() -> None:
            with pytest.raises(KeyError, match="body"), image.write():
                raise KeyError("body")

        seen = [flags for _, flags in strace.syncs(body)]
        assert seen == [WRITE, WRITE, END_WRITE, END_WRITE]
        body()
        assert all(map(is_free, image.buffers))

    def test_ends_follow_when_the_second_buffer_is_refused(self, buffers):
        first, second, _ = buffers
        image = Image([first, second], "NV12", 8, 8)
        assert first.memory[0] == 0
        second.close()

        def body() -> None:
            with pytest.raises(ValueError, match="closed Buffer"), image.read():
                pass

        assert strace.syncs(body) == [(first.fileno(), READ), (first.fileno(), END_READ)]
        body()
        assert is_free(first)

    @pytest.mark.parametrize("failing", [READ, END_READ])
    def test_ends_follow_when_one_fails(self, buffers, monkeypatch, failing):
        """No kernel can be made to do it, so an error stands in the place of one ioctl."""
        _, second, _ = buffers
        asked = []

        def ioctl(number, request, argument):
            asked.append((number, bytes(argument)[0]))
            if asked[-1] == (second.fileno(), failing):
                raise OSError(errno.EIO, "test")
            return kernel(number, request, argument)

        kernel = _ioctl.ioctl
        monkeypatch.setattr(_ioctl, "ioctl", ioctl)
        with (
            pytest.raises(OSError, match=f"SYNC with flags {failing:#x}"),
            Image(buffers, "YUV420", 8, 8).read(),
        ):
            pass
        one, two, three = (buffer.fileno() for buffer in buffers)
        ended = [(one, END_READ), *([(two, END_READ), (three, END_READ)] * (failing == END_READ))]
        assert [call for call in asked if call[1] == END_READ] == ended
        assert all(map(is_free, buffers))

    def test_a_scope_is_for_a_single_use(self, buffers):
        image = Image(buffers[:2], "NV12", 8, 8)

        def body() -> None:
            scope = image.read()
            with scope as (luma, _):
                with pytest.raises(ValueError, match="single use"):
                    scope.__enter__()
                assert luma[0, 0] == 0
            with pytest.raises(ValueError, match="single use"):
                scope.__enter__()
            with pytest.raises(ValueError, match="not open"):
                scope.__exit__()

        assert [flags for _, flags in strace.syncs(body)] == [READ, READ, END_READ, END_READ]

    def test_a_signal_handler_that_raises_leaves_no_access_open(self, buffers, monkeypatch):
        """A handler comes at each point of the code, one after the other."""

        def ioctl(number, request, argument):
            seen.setdefault(number, []).append(bytes(argument)[0])
            return kernel(number, request, argument)

        seen, kernel = {}, _ioctl.ioctl
        monkeypatch.setattr(_ioctl, "ioctl", ioctl)
        image = Image(buffers[:2], "NV12", 8, 8)
        image.to_rgb()  # imports and maps
        for moment in interrupt.every_point():
            seen = {}
            with (
                contextlib.suppress(interrupt.Interrupted),
                moment.runs(interrupt.raise_interrupted),
                image.write() as (luma, _),
            ):
                luma[0] = 1
            for flags in seen.values():
                # An END too many is harmless, one too few is not.
                assert flags.count(WRITE) <= 1, moment.where
                assert flags[-1] == END_WRITE, moment.where
        assert len(seen) == 2
        assert all(map(is_free, image.buffers))


class TestEveryLayout:
    """Random formats, sizes, strides and offsets, on the address of each element."""

    @pytest.fixture
    def memory(self, allocate):
        with allocate(16384) as buffer:
            yield buffer

    def test_planes_are_what_they_say_and_never_reach_outside(self, memory):
        @given(name=st.sampled_from(list(FORMATS)), data=st.data())
        @settings(max_examples=40, deadline=None, database=None)
        def check(name, data):
            entry = FORMATS[name]
            width, height = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
            strides, offsets = [], []
            for layout in entry.planes:
                unit = layout.itemsize
                strides.append(layout.row(width) + unit * data.draw(st.integers(-1, 40)))
                offsets.append(unit * data.draw(st.integers(-1, 20000 // unit)))
            fits = all(
                stride >= layout.row(width)
                and offset >= 0
                and offset + (layout.shape(width, height)[0] - 1) * stride + layout.row(width)
                <= memory.size
                for layout, stride, offset in zip(entry.planes, strides, offsets, strict=True)
            )
            try:
                image = Image(memory, entry, width, height, strides=strides, offsets=offsets)
            except ValueError:
                assert not fits
                return
            assert fits
            with image.read_write() as planes:
                for place, array in zip(image.planes, planes, strict=True):
                    assert array.shape[:2] == (place.height, place.width)
                    self.check_elements(memory, array, place)

        check()

    def check_elements(self, memory, array, place):
        start = numpy.frombuffer(memory.memory, "u1").ctypes.data
        last = tuple(length - 1 for length in array.shape)
        middle = tuple(length // 2 for length in array.shape)
        for index in (tuple(0 for _ in last), middle, last):
            row, column, channel = (*index, 0)[:3]
            channels = array.shape[2] if array.ndim == 3 else 1
            at = place.offset + row * place.stride
            at += (column * channels + channel) * array.itemsize
            assert 0 <= at <= memory.size - array.itemsize
            assert array[index].dtype.itemsize == array.itemsize
            assert array[tuple(slice(i, i + 1) for i in index)].ctypes.data == start + at
            array[index] = 0xA5
            assert bytes(memory.memory[at : at + array.itemsize]) == b"\xa5" + bytes(
                array.itemsize - 1
            )
            memory.memory[at] = 0x5A
            assert array[index] == 0x5A

    def test_the_size_that_a_format_tells_is_enough_and_no_more(self, memory):
        sizes = itertools.product((1, 2, 13), (1, 5))
        for entry, (width, height) in itertools.product(FORMATS.values(), sizes):
            step = entry.planes[0].itemsize
            first = (memory.size - entry.size(width, height)) // step * step
            planes = entry.sizes(width, height)
            offsets = [first + sum(planes[:index]) for index in range(len(planes))]
            Image(memory, entry, width, height, offsets=offsets)
            offsets[-1] += step
            with pytest.raises(ValueError, match="needs bytes"):
                Image(memory, entry, width, height, offsets=offsets)


def test_the_package_has_no_other_names_that_it_imports_late():
    assert dmabuf.image.Image is dmabuf.Image
    with pytest.raises(AttributeError, match="no attribute 'Picture'"):
        dmabuf.Picture  # noqa: B018
