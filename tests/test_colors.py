"""What an image knows of its colours: it is kept, goes along to other processes, and is used."""

import itertools
import socket

import numpy
import pytest
from helpers import reference

from dmabuf import Image, share
from dmabuf.image import ColorEncoding, ColorRange

BOTH = list(itertools.product(ColorEncoding, ColorRange))


@pytest.fixture
def yuv(buffer):
    """Return a function that makes an image of random YUV on the buffer."""
    buffer.memory[:] = numpy.random.default_rng(1).bytes(buffer.size)

    def make(**colors):
        return Image(buffer, "NV12", 32, 32, **colors)

    return make


class TestStated:
    def test_is_kept_and_read_as_text_too(self, yuv):
        for encoding, range_ in BOTH:
            for given in ((encoding, range_), (encoding.value, range_.value)):
                image = yuv(color_encoding=given[0], color_range=given[1])
                assert image.color_encoding is encoding
                assert image.color_range is range_
        assert (yuv().color_encoding, yuv().color_range) == (None, None)

    def test_is_kept_by_an_image_that_owns_its_buffer(self, allocate):
        colors = {"color_encoding": "bt709", "color_range": "full"}
        with Image.allocate("NV12", 32, 32, allocate=allocate, **colors) as image:
            assert image.color_encoding is ColorEncoding.BT709
            assert image.color_range is ColorRange.FULL

    def test_what_is_none_is_refused(self, yuv, allocate):
        for colors in ({"color_encoding": "bt2021"}, {"color_range": "all"}, {"color_range": 1}):
            (wrong,) = colors.values()
            with pytest.raises(ValueError, match=f"the colour .* must be one of .*, not {wrong!r}"):
                yuv(**colors)
            with pytest.raises(ValueError, match="the colour"):
                Image.allocate("NV12", 32, 32, allocate=allocate, **colors)

    def test_decides_how_yuv_is_converted(self, yuv):
        for encoding, range_ in BOTH:
            shown = yuv(color_encoding=encoding, color_range=range_).to_rgb()
            full = range_ is ColorRange.FULL
            assert (shown == yuv().to_rgb(matrix=encoding.value, full_range=full)).all()
        assert (yuv().to_rgb() == yuv().to_rgb(matrix="bt601", full_range=False)).all()
        known = yuv(color_encoding="bt709", color_range="full")
        assert (known.to_rgb(matrix="bt601", full_range=False) == yuv().to_rgb()).all()
        assert (yuv().to_rgb() != known.to_rgb()).any()

    def test_decides_what_is_saved(self, yuv, tmp_path):
        import PIL.Image as pillow

        image = yuv(color_encoding="bt709", color_range="full")
        image.save(tmp_path / "frame.png")
        with pillow.open(tmp_path / "frame.png") as picture:
            assert (numpy.asarray(picture) == image.to_rgb()).all()

    @pytest.mark.parametrize(
        ("name", "channels"),
        [
            ("R8", [(8, lambda pixels: pixels)]),
            ("R10", [(10, lambda pixels: pixels & 1023)]),
            ("R16", [(16, lambda pixels: pixels)]),
            ("RGB565", [(5, lambda pixels: pixels >> 11), (6, lambda pixels: pixels >> 5 & 63)]),
            ("RGB888", [(8, lambda pixels: pixels[..., 2]), (8, lambda pixels: pixels[..., 1])]),
            ("XRGB2101010", [(10, lambda pixels: pixels >> 20 & 1023)]),
            ("XRGB16161616", [(16, lambda pixels: pixels[..., 2])]),
        ],
    )
    def test_limited_rgb_and_grey_are_stretched(self, buffer, name, channels):
        buffer.memory[:] = numpy.random.default_rng(2).bytes(buffer.size)
        image = Image(buffer, name, 32, 16, color_range="limited")
        shown = image.to_rgb(full_range=True)  # which is for YUV alone
        with image.read() as (pixels,):
            for place, (bits, take) in enumerate(channels):
                right = [reference.scaled_limited(int(value), bits) for value in take(pixels).flat]
                assert shown[..., place].flatten().tolist() == right

    def test_bayer_is_full_range_whatever_is_said(self, buffer):
        buffer.memory[:] = numpy.random.default_rng(3).bytes(buffer.size)
        limited = Image(buffer, "SRGGB8", 32, 16, color_range="limited")
        assert (limited.to_rgb() == Image(buffer, "SRGGB8", 32, 16).to_rgb()).all()


class TestOnItsWay:
    @pytest.mark.parametrize(("encoding", "range_"), [*BOTH, (None, None)])
    def test_goes_along_to_other_processes(self, yuv, encoding, range_):
        image = yuv(color_encoding=encoding, color_range=range_)
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with left, right:
            share.send(left, [image])
            (received,) = share.receive(right).objects
        with received.buffers[0]:
            assert (received.color_encoding, received.color_range) == (encoding, range_)

    def test_goes_along_with_what_is_published(self, allocate, tmp_path):
        colors = {"color_encoding": "bt709", "color_range": "full"}
        path = str(tmp_path / "s")
        image = Image.allocate("NV12", 32, 32, allocate=allocate, **colors)
        with share.Publisher(path) as publisher, share.Subscriber(path) as subscriber:
            publisher.publish(image)
            subscriber.fileno()  # asks
            publisher.service()
            with subscriber.frame(10) as frame:
                assert frame.image.color_encoding is ColorEncoding.BT709
                assert frame.image.color_range is ColorRange.FULL
