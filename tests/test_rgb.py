"""Conversion to RGB: right to the rounding for every format, against pixels computed one by one."""

import itertools
import os
import random
import sys

import numpy
import pytest
from helpers import reference

from dmabuf import Image
from dmabuf.image import FORMATS

YUV_MODES = list(itertools.product(reference.RED, (False, True)))
WIDTH, HEIGHT = 7, 5


def filled(buffer, name, **options):
    """Return an image on random bytes, and the same for the reference."""
    content = random.Random(name).randbytes(buffer.size)
    buffer.memory[:] = content
    image = Image(buffer, name, WIDTH, HEIGHT, **options)
    offsets, strides = ([plane[place] for plane in image.planes] for place in (1, 2))
    return image, reference.Picture(content, name, WIDTH, HEIGHT, offsets, strides)


def wrong(buffer, name, options, **mode):
    """Return the pixels of an image that are not the reference's."""
    image, picture = filled(buffer, name, **options)
    rgb = image.to_rgb(**mode)
    assert (rgb.shape, rgb.dtype) == ((HEIGHT, WIDTH, 3), "u1")
    places = itertools.product(range(WIDTH), range(HEIGHT))
    return [
        (name, x, y, given, right)
        for x, y in places
        if (given := tuple(rgb[y, x].tolist())) != (right := reference.pixel(picture, x, y, **mode))
    ]


class TestFormats:
    def test_each_pixel_of_each_is_that_of_the_reference(self, buffer):
        for name, entry in FORMATS.items():
            if entry.model in ("", "C"):
                continue
            count = len(entry.planes)
            strides = [layout.row(WIDTH) + 8 for layout in entry.planes]
            options = {"strides": strides, "offsets": [1000, 2000, 3000][:count]}
            assert wrong(buffer, name, options) == []

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("NV12_16L16", "NV12_16L16 7x5 .*is in tiles or compressed: only devices know"),
            ("PISP_COMP1_RGGB", "is in tiles or compressed"),
            ("C8", "indices into a palette"),
        ],
    )
    def test_what_has_no_colours_of_its_own_is_refused(self, buffer, name, words):
        image = Image(buffer, name, WIDTH, HEIGHT)
        with pytest.raises(ValueError, match=words):
            image.to_rgb()
        assert image._repr_png_() is None

    def test_half_floats_beyond_one_are_white_and_no_numbers_are_black(self, buffer):
        image = Image(buffer, "XBGR16161616F", 5, 1)
        with image.write() as (pixels,):
            pixels[0, :, :] = numpy.array([[numpy.nan], [-1], [0.5], [1], [numpy.inf]], "<f2")
        assert image.to_rgb()[0, :, 0].tolist() == [0, 0, 128, 255, 255]

    @pytest.mark.parametrize(("matrix", "full_range"), YUV_MODES[1:])
    def test_so_are_those_of_the_other_yuv(self, buffer, matrix, full_range):
        for name in ("NV12", "P010"):
            assert wrong(buffer, name, {}, matrix=matrix, full_range=full_range) == []


class TestYuv:
    @pytest.mark.parametrize(("matrix", "full_range"), YUV_MODES)
    @pytest.mark.parametrize("bits", [8, 10])
    def test_a_grid_of_colours_is_right_to_the_rounding(self, allocate, bits, matrix, full_range):
        """All 16.7 million of 8 bits, in each mode, were held against exact integers by hand."""
        values = [0, 3, 16, 82, 127, 129, 240, 253, 255]  # 3 and 253: blue is a half
        values = [value << bits - 8 | value % 4 * (bits > 8) for value in values]
        colours = list(itertools.product(values, repeat=3))
        luma, cb, cr = numpy.array(colours, "<u2").T << (16 - bits)
        count = len(colours)
        name = "YUV444" if bits == 8 else "P010"
        with allocate(FORMATS[name].size(2 * count, 2)) as buffer:
            image = Image(buffer, name, count if bits == 8 else 2 * count, 1 if bits == 8 else 2)
            with image.write() as planes:
                if bits == 8:
                    for plane, column in zip(planes, (luma, cb, cr), strict=True):
                        plane[0] = column >> 8
                else:
                    planes[0][:] = luma.repeat(2)
                    planes[1][0] = numpy.stack([cb, cr], -1)
            rgb = image.to_rgb(matrix=matrix, full_range=full_range)
        shown = rgb[0] if bits == 8 else rgb[1, ::2]
        for (y, cb, cr), given in zip(colours, shown.tolist(), strict=True):
            expected = reference.from_yuv(y, cb, cr, bits, matrix, full_range)
            assert tuple(given) == expected, (y, cb, cr)

    @pytest.mark.parametrize(
        ("yuv", "options", "rgb"),
        [
            ((16, 128, 128), {}, (0, 0, 0)),
            ((235, 128, 128), {}, (255, 255, 255)),
            ((81, 90, 240), {}, (254, 0, 0)),
            ((63, 102, 240), {"matrix": "bt709"}, (255, 1, 0)),
            ((76, 85, 255), {"full_range": True}, (254, 0, 0)),
            ((255, 128, 128), {"full_range": True}, (255, 255, 255)),
        ],
    )
    def test_well_known_colours_are_themselves(self, buffer, yuv, options, rgb):
        buffer.memory[:3] = bytes(yuv)
        assert Image(buffer, "YUV444", 1, 1).to_rgb(**options).tolist() == [[list(rgb)]]

    def test_large_images_are_converted_in_parts_that_meet(self, allocate):
        width, height = 2001, 101
        with allocate(FORMATS["NV12"].size(width, height)) as buffer:
            image = Image(buffer, "NV12", width, height)
            with image.write() as (luma, chroma):
                luma[:] = numpy.arange(width) % 220 + 16
                chroma[:] = (numpy.arange(51) * 4)[:, None, None]
            rgb = image.to_rgb()
        assert (rgb[0:100:2] == rgb[1:100:2]).all()
        for x, y in itertools.product((0, 1000, 2000), (0, 63, 64, 100)):
            yuv = x % 220 + 16, y // 2 * 4, y // 2 * 4
            assert tuple(rgb[y, x].tolist()) == reference.from_yuv(*yuv, 8, "bt601", False)

    def test_an_unknown_matrix_is_refused(self, buffer):
        with pytest.raises(ValueError, match=r"one of bt601, bt709, .*, not 'bt2021'"):
            Image(buffer, "NV12", 2, 2).to_rgb(matrix="bt2021")


class TestBayer:
    def test_one_colour_stays_one_colour(self, buffer):
        for order in ("RGGB", "BGGR", "GRBG", "GBRG"):
            image = Image(buffer, f"S{order}12", 6, 4)
            levels = {"R": 4095, "G": 2048, "B": 0}
            with image.write() as (raw,):
                for place, colour in enumerate(order):
                    raw[place // 2 :: 2, place % 2 :: 2] = levels[colour]
            assert (image.to_rgb() == (255, 128, 0)).all()

    def test_the_unused_high_bits_are_left_out(self, buffer):
        buffer.memory[:8] = b"\xff\xff" * 4
        assert (Image(buffer, "R10", 2, 2).to_rgb() == 255).all()
        assert (Image(buffer, "SRGGB10", 2, 2).to_rgb() == 255).all()

    @pytest.mark.parametrize("size", [(1, 1), (1, 4), (4, 1)])
    def test_less_than_a_mosaic_is_converted_without_an_error(self, buffer, size):
        width, height = size
        assert Image(buffer, "SRGGB8", width, height).to_rgb().shape == (height, width, 3)


class TestSave:
    def test_writes_what_to_rgb_gives(self, buffer, tmp_path):
        import PIL.Image as pillow

        image, _ = filled(buffer, "NV12")
        image.save(tmp_path / "frame.png", matrix="bt709", full_range=True)
        with pillow.open(tmp_path / "frame.png") as picture:
            assert picture.mode == "RGB"
            shown = numpy.asarray(picture)
        assert (shown == image.to_rgb(matrix="bt709", full_range=True)).all()

    def test_a_file_is_replaced_and_a_pipe_written(self, buffer, tmp_path):
        image, _ = filled(buffer, "NV12")
        picture = image._repr_png_()
        path = tmp_path / "frame.png"
        path.write_bytes(b"before")
        image.save(path)
        assert path.read_bytes() == picture
        reader, writer = os.pipe()
        with open(reader, "rb") as pipe:
            with open(writer, "wb"):
                (tmp_path / "pipe.png").symlink_to(f"/dev/fd/{writer}")
                (tmp_path / "pipe.tiff").symlink_to(f"/dev/fd/{writer}")
                image.save(tmp_path / "pipe.png")
                assert pipe.read(len(picture)) == picture
                image.save(tmp_path / "pipe.tiff")  # in whose writing places are sought
            assert pipe.read(2) == b"II"

    def test_an_image_that_can_not_be_read_leaves_the_file_as_it_was(self, buffer, tmp_path):
        image, _ = filled(buffer, "NV12")
        path = tmp_path / "frame.png"
        path.write_bytes(b"before")
        buffer.close()
        with pytest.raises(ValueError, match="closed"):
            image.save(path)
        assert path.read_bytes() == b"before"

    def test_without_pillow_says_what_to_install(self, buffer, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "PIL", None)
        with pytest.raises(ImportError, match=r"pip install dmabuf\[image\]"):
            Image(buffer, "R8", 2, 2).save(tmp_path / "frame.png")

    def test_an_ending_that_pillow_does_not_know_is_refused(self, buffer, tmp_path):
        with pytest.raises(ValueError, match=r"its ending '\.nonsense' is not a picture format"):
            Image(buffer, "R8", 2, 2).save(tmp_path / "frame.nonsense")
