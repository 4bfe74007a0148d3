"""Images: planes that lie inside their buffers, as arrays, in a scope that brackets each buffer."""

import asyncio
import contextlib
import errno
import gc
import itertools
import os
import sys
import types

import numpy
import pytest
from helpers import interrupt, strace, vgem
from helpers.examples import examples
from helpers.fences import is_open, join_threads
from helpers.tasks import waiting, watched
from hypothesis import given
from hypothesis import strategies as st

import dmabuf
from dmabuf import Image, _ioctl
from dmabuf.image import FORMATS, Plane

READ, WRITE, RW = 1, 2, 3  # SYNC START with these flags
END_READ, END_WRITE, END_RW = 5, 6, 7
READABLE = [name for name, entry in FORMATS.items() if not entry.opaque]
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
            (
                ("RGB565", 2, 2),
                {"strides": 5},
                ValueError,
                "a stride that is a multiple of 2, not 5",
            ),
            (
                ("RGB565", 2, 2),
                {"offsets": [1]},
                ValueError,
                "a.* offset that is a multiple of 2, not 1",
            ),
            (("NV12", 2, 2), {"offsets": [0]}, ValueError, "NV12 has 2 planes, not 1 offsets"),
            (("NV12", 2, 2), {"strides": [2]}, ValueError, "NV12 has 2 planes, not 1 strides"),
            (("R8", 0, 1), {}, ValueError, "at least one pixel, not 0x1"),
            (("R8", 1, -1), {}, ValueError, "at least one pixel, not 1x-1"),
            (("R8", 1 << 62, 1 << 62), {}, ValueError, "its buffer has 0 to 8192"),
            (("R8", 1, 1), {"modifier": -1}, ValueError, "a modifier must be"),
            (("R8", 1, 1), {"modifier": 1 << 64}, ValueError, "a modifier must be"),
            (("R8", 1.5, 1), {}, TypeError, "whole numbers of pixels, not 1.5"),
            (("R8", 1, 1), {"strides": [1.5]}, TypeError, "whole numbers, not"),
            (("R8", 1, 1), {"strides": 1.5}, TypeError, "not float"),
            (("no such", 1, 1), {}, ValueError, "no pixel format 'no such'"),
            ((None, 1, 1), {}, TypeError, "NoneType"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, buffer, arguments, options, error, words):
        with pytest.raises(error, match=words):
            Image(buffer, *arguments, **options)

    def test_buffers_are_one_or_one_a_plane_and_open(self, buffers):
        first, second, third = buffers
        with pytest.raises(ValueError, match="NV12 needs one buffer, or 2, not 3"):
            Image(buffers, "NV12", 2, 2)
        with pytest.raises(ValueError, match="R8 needs one buffer, not 2"):
            Image([first, second], "R8", 2, 2)
        with pytest.raises(ValueError, match="not 0"):
            Image([], "R8", 2, 2)
        with pytest.raises(TypeError, match=r"one per plane, not bytes"):
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
                with pytest.raises(ValueError, match="only once"):
                    scope.__enter__()
                assert luma[0, 0] == 0
            with pytest.raises(ValueError, match="only once"):
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


class Kept:
    """An allocator that keeps what it gave, for whoever looks afterwards."""

    def __init__(self, allocate):
        self._allocate = allocate
        self.asked, self.given = [], []

    def __call__(self, size, *, name=None):
        self.asked.append((size, name))
        self.given.append(self._allocate(size, name=name))
        return self.given[-1]


@pytest.fixture
def kept(allocate):
    """Give an allocator that keeps its buffers."""
    return Kept(allocate)


class TestAllocate:
    def test_an_image_of_each_format_is_writable_to_its_last_byte(self, kept):
        for name, entry in FORMATS.items():
            if entry.opaque:
                continue
            with Image.allocate(name, 7, 5, allocate=kept) as image:
                (buffer,) = image.buffers
                assert image.planes == Image(buffer, name, 7, 5).planes
                assert image.format is entry
                with image.write() as planes:
                    for plane in planes:
                        plane[:] = 0xA5
                last = image.planes[-1]
                end = last.offset + last.stride * last.height
                assert kept.asked[-1] == (end, None)
                written = bytes(buffer.memory[end - entry.planes[-1].itemsize : end])
                assert numpy.frombuffer(written, entry.planes[-1].dtype)[0] == 0xA5
                if entry.model != "C":
                    assert image.to_rgb().shape == (5, 7, 3)
            assert buffer.closed

    @pytest.mark.parametrize("align", [1, 2, 3, 64, 256, 4096])
    def test_rows_and_planes_begin_at_multiples_in_each_format(self, kept, align):
        for entry, width in itertools.product(FORMATS.values(), (1, 7, 63)):
            with Image.allocate(entry, width, 3, stride_align=align, allocate=kept) as image:
                strides = tuple(plane.stride for plane in image.planes)
                for plane in image.planes:
                    assert plane.stride % align == 0, (entry, width)
                    assert plane.offset % align == 0, (entry, width)
                if align > 1:  # one number says them all
                    assert strides == entry.strides(width, strides[0])
                else:
                    assert strides == entry.strides(width)

    def test_an_aligned_stride_is_the_least(self):
        least = {
            ("XRGB8888", 100, 64): (448,),
            ("NV12", 100, 64): (128, 128),
            ("YUV420", 64, 64): (128, 64, 64),
            ("NV24", 100, 64): (128, 256),
            ("NV12", 7, 2): (8, 8),
            ("RGB565", 3, 3): (6,),
            ("RGB565", 1, 3): (6,),
            ("SRGGB10P", 8, 4): (12,),
        }
        for (name, width, align), strides in least.items():
            assert FORMATS[name].aligned_strides(width, align) == strides, name

    @pytest.mark.needs("heap")
    def test_it_comes_from_the_best_exporter_unless_told_otherwise(self):
        with Image.allocate("NV12", 64, 48, name="frame") as image:
            assert image.buffers[0].name == "frame"
            assert image.buffers[0].exporter == "system"

    @pytest.mark.needs("heap")
    def test_heaps_and_adapters_of_pools_allocate(self, buffer):
        with dmabuf.Heap("system") as heap:
            with Image.allocate("R8", 8, 8, name="here", allocate=heap.allocate) as image:
                assert (image.buffers[0].exporter, image.buffers[0].name) == ("system", "here")
            with Image.allocate("R8", 8, 8, allocate=lambda size, name: buffer.dup()) as image:
                assert image.buffers == (buffer,)
        assert not buffer.closed

    @pytest.mark.parametrize(
        ("arguments", "options", "error", "words"),
        [
            (("no such", 1, 1), {}, ValueError, "no pixel format"),
            ((None, 1, 1), {}, TypeError, "NoneType"),
            (("R8", 0, 1), {}, ValueError, "at least one pixel, not 0x1"),
            (("R8", 1, -1), {}, ValueError, "at least one pixel, not 1x-1"),
            (("R8", 1.5, 1), {}, TypeError, "whole numbers of pixels, not 1.5"),
            (("R8", 1, 1), {"stride_align": 0}, ValueError, "1 byte or more, not to 0"),
            (("R8", 1, 1), {"stride_align": -64}, ValueError, "1 byte or more, not to -64"),
            (("R8", 1, 1), {"stride_align": "64"}, TypeError, "str"),
            (("R8", 1, 1), {"name": "x" * 32}, ValueError, "at most 31 bytes"),
            (("R8", 1, 1), {"name": 7}, TypeError, "name must be a str"),
        ],
    )
    def test_what_can_not_be_is_refused_before_anything_is_allocated(
        self, kept, arguments, options, error, words
    ):
        with pytest.raises(error, match=words):
            Image.allocate(*arguments, allocate=kept, **options)
        assert kept.asked == []

    def test_an_allocator_that_is_none_is_refused(self, kept):
        with pytest.raises(TypeError, match="allocate must be callable, not int"):
            Image.allocate("R8", 1, 1, allocate=7)
        with pytest.raises(TypeError, match=r"must return a dmabuf\.Buffer, not NoneType"):
            Image.allocate("R8", 1, 1, allocate=lambda size, name: None)

    def test_a_buffer_that_is_too_small_is_closed(self, kept):
        with pytest.raises(ValueError, match="its buffer has 0 to 4096"):
            Image.allocate("R8", 64, 65, allocate=lambda size, name: kept(4096))
        assert kept.given[0].closed

    def test_what_the_exporter_refuses_is_the_callers_to_see(self):
        with pytest.raises(dmabuf.AllocationError):
            Image.allocate("XRGB8888", 1 << 20, 1 << 20)

    def test_a_signal_handler_that_raises_leaves_no_buffer(self, allocate):
        """A handler comes at each point of the code, one after the other."""

        def hand_out(size, *, name):
            buffer = spare.pop()
            given.append(buffer)
            return buffer

        for moment in interrupt.every_point():
            given, spare, image = [], [allocate(8192)], None
            with (
                contextlib.suppress(interrupt.Interrupted),
                moment.runs(interrupt.raise_interrupted),
            ):
                image = Image.allocate("NV12", 16, 16, stride_align=64, allocate=hand_out)
            for ours in (image, *spare):
                if ours is not None:
                    ours.close()
            assert all(buffer.closed for buffer in given), moment.where
        assert given


class TestOwnership:
    def test_an_allocated_image_closes_its_buffer_once(self, allocate):
        image = Image.allocate("NV12", 8, 8, allocate=allocate)
        assert not image.closed
        for _ in range(2):
            image.close()
            assert image.closed
            assert image.buffers[0].closed
        assert "[closed] NV12 8x8" in repr(image)

    def test_a_borrowing_image_closes_no_buffer(self, buffers):
        with Image(buffers, "YUV420", 8, 8) as image:
            assert not image.closed
        assert image.closed
        assert not any(buffer.closed for buffer in buffers)
        with Image(buffers, "YUV420", 8, 8).read():
            pass

    def test_a_closed_image_is_refused_with_its_name(self, buffer, allocate):
        borrowing, owning = Image(buffer, "R8", 8, 8), Image.allocate("R8", 8, 8, allocate=allocate)
        for image in (borrowing, owning):
            image.close()
            for use in (image.read, image.write, image.read_write, image.to_rgb, image.__enter__):
                with pytest.raises(ValueError, match=r"closed Image: <dmabuf\.Image \[closed\] R8"):
                    use()
            assert (image.width, image.planes[0].stride, image.format.name) == (8, 8, "R8")
            assert image._repr_png_() is None

    def test_arrays_outlive_the_image(self, allocate):
        with (
            Image.allocate("XRGB8888", 4, 4, allocate=allocate) as image,
            image.write() as (pixels,),
        ):
            pixels[:] = 5
        del image
        gc.collect()
        pixels[0, 0, 0] += 1
        assert pixels[0, 0].tolist() == [6, 5, 5, 5]

    def test_an_open_scope_ends_on_a_closed_image(self, kept):
        image = Image.allocate("NV12", 8, 8, allocate=kept)
        number = kept.given[0].fileno()

        def body() -> None:
            with image.write() as (luma, _):
                image.close()
                luma[:] = 1

        assert strace.syncs(body) == [(number, WRITE), (number, END_WRITE)]
        body()
        assert image.closed
        assert not is_open(number)

    def test_a_scope_that_is_entered_after_the_close_is_refused(self, allocate):
        image = Image.allocate("NV12", 8, 8, allocate=allocate)
        scope = image.read()
        image.close()
        with pytest.raises(ValueError, match="closed Buffer"):
            scope.__enter__()

    def test_an_allocated_image_that_is_collected_warns(self, allocate):
        image = Image.allocate("NV12", 8, 8, allocate=allocate)
        with pytest.warns(ResourceWarning, match="unclosed Buffer"):
            del image

    def test_a_borrowing_image_is_collected_in_silence(self, buffer):
        image = Image(buffer, "NV12", 8, 8)
        del image
        gc.collect()
        assert not buffer.closed


class TestNotebook:
    def test_shows_the_pixels_as_png(self, buffer):
        import io

        import PIL.Image as pillow

        image = Image(buffer, "NV12", 12, 8)
        with image.write() as (luma, chroma):
            luma[:] = numpy.arange(12) * 16 + 16
            chroma[:] = 90, 240
        with pillow.open(io.BytesIO(image._repr_png_())) as picture:
            assert (picture.format, picture.mode) == ("PNG", "RGB")
            assert (numpy.asarray(picture) == image.to_rgb()).all()

    def test_shows_nothing_without_pillow(self, buffer, monkeypatch):
        monkeypatch.setitem(sys.modules, "PIL", None)
        assert Image(buffer, "R8", 2, 2)._repr_png_() is None

    def test_shows_nothing_where_the_processor_has_no_access(self, buffer):
        assert Image(buffer, "XRGB8888", 640, 480, modifier=X_TILED)._repr_png_() is None


@pytest.mark.timeout(60)  # a wait that nobody ends is a hang
class TestAsyncScope:
    def test_gives_the_planes_of_idle_buffers(self, buffers):
        async def main():
            for scope in (Image.read, Image.write, Image.read_write):
                async with scope(Image(buffers, "YUV420", 8, 8)) as planes:
                    assert [plane.shape for plane in planes] == [(8, 8), (4, 4), (4, 4)]
            assert watched() == 0

        asyncio.run(main())
        assert all(map(is_free, buffers))

    @pytest.mark.needs("vgem")
    @pytest.mark.parametrize("scope", [Image.read, Image.write, Image.read_write])
    def test_lets_others_run_until_each_buffer_is_free(self, buffers, scope):
        async def main():
            first, second, _ = buffers
            image = Image([first, second, first], "YUV420", 8, 8)
            with vgem.Fence(first) as one, vgem.Fence(second) as other:
                [task] = await waiting(enter(image))
                for fence, remain in ((one, True), (other, False)):
                    for _ in range(3):
                        await asyncio.sleep(0)
                        assert not task.done()
                    fence.signal()
                    assert not (remain and task.done())
                assert await task == [(8, 8), (4, 4), (4, 4)]
            assert watched() == 0

        async def enter(image):
            async with scope(image) as planes:
                return [plane.shape for plane in planes]

        asyncio.run(main())

    @pytest.mark.needs("vgem")
    def test_brackets_nothing_while_it_waits_and_each_once_after(self, buffers):
        first, second, _ = buffers
        image = Image([first, second], "NV12", 8, 8)

        def body() -> None:
            asyncio.run(main())

        async def main() -> None:
            with vgem.Fence(second) as fence:

                async def enter() -> None:
                    async with image.write():
                        pass

                [task] = await waiting(enter())
                assert not task.done()
                fence.signal()
                await task

        one, other = first.fileno(), second.fileno()
        assert strace.syncs(body) == [
            (one, WRITE),
            (other, WRITE),
            (one, END_WRITE),
            (other, END_WRITE),
        ]

    @pytest.mark.needs("vgem")
    def test_a_reader_does_not_wait_for_readers(self, buffer):
        async def main():
            with vgem.Fence(buffer, write=False):
                async with Image(buffer, "NV12", 8, 8).read() as (luma, _):
                    assert luma.shape == (8, 8)
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(write(), 0.01)
            assert watched() == 0

        async def write():
            async with Image(buffer, "NV12", 8, 8).write():
                pass

        asyncio.run(main())
        assert is_free(buffer)

    @pytest.mark.needs("vgem")
    def test_closing_the_image_ends_the_wait(self, allocate):
        async def main():
            image = Image.allocate("NV12", 8, 8, allocate=allocate)
            with vgem.Fence(image.buffers[0]):
                scope = image.write()
                [task] = await waiting(scope.__aenter__())
                image.close()
                with pytest.raises(ValueError, match="closed while it was awaited"):
                    await task
            assert watched() == 0

        asyncio.run(main())
        join_threads()

    def test_ends_follow_a_body_that_raises(self, buffers):
        async def main():
            with pytest.raises(KeyError, match="body"):
                async with Image(buffers[:2], "NV12", 8, 8).write():
                    raise KeyError("body")

        asyncio.run(main())
        assert all(map(is_free, buffers))

    def test_a_scope_is_for_a_single_use(self, buffer):
        async def main():
            scope = Image(buffer, "NV12", 8, 8).read()
            async with scope as (luma, _):
                with pytest.raises(ValueError, match="only once"):
                    await scope.__aenter__()
                assert luma[0, 0] == 0
            with pytest.raises(ValueError, match="only once"):
                await scope.__aenter__()

        asyncio.run(main())
        assert is_free(buffer)

    def test_a_signal_handler_that_raises_leaves_no_access_open(self, buffers, monkeypatch):
        """A handler comes at each point of the way out; the way in is that of `with`."""

        def ioctl(number, request, argument):
            seen.setdefault(number, []).append(bytes(argument)[0])
            return kernel(number, request, argument)

        @types.coroutine
        def pause():
            yield

        async def access():
            async with image.write():
                await pause()

        seen, kernel = {}, _ioctl.ioctl
        monkeypatch.setattr(_ioctl, "ioctl", ioctl)
        image = Image(buffers[:2], "NV12", 8, 8)
        image.to_rgb()  # imports and maps
        for moment in interrupt.every_point():
            seen, task = {}, access()
            task.send(None)  # the event loop's turn
            task.send(None)
            assert [flags for (flags,) in seen.values()] == [WRITE, WRITE]
            with (
                contextlib.suppress(interrupt.Interrupted, StopIteration),
                moment.runs(interrupt.raise_interrupted),
            ):
                task.send(None)
            for flags in seen.values():
                assert flags.count(WRITE) == 1, moment.where
                assert flags[-1] == END_WRITE, moment.where
        assert len(seen) == 2
        assert all(map(is_free, image.buffers))


def test_a_scope_shows_users_nothing_but_the_context_manager(buffer):
    scope = Image(buffer, "R8", 2, 2).read()
    assert [name for name in dir(scope) if not name.startswith("_")] == []


class TestEveryLayout:
    """Random formats, sizes, strides and offsets, on the address of each element."""

    @pytest.fixture
    def memory(self, allocate):
        with allocate(16384) as buffer:
            yield buffer

    def test_planes_are_what_they_say_and_never_reach_outside(self, memory):
        @given(name=st.sampled_from(READABLE), data=st.data())
        @examples(40)
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
            written = memory.memory[at : at + array.itemsize]
            assert numpy.frombuffer(written, array.dtype)[0] == 0xA5
            written[:] = numpy.array([0x5A], array.dtype).tobytes()
            assert array[index] == 0x5A

    def test_the_size_that_a_format_tells_is_enough_and_no_more(self, memory):
        sizes = itertools.product((1, 2, 13), (1, 5))
        for name, (width, height) in itertools.product(READABLE, sizes):
            entry = FORMATS[name]
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
