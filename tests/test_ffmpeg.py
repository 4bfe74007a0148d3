"""FFmpeg's DRM_PRIME frames as images, and ours as its frames: the same memory, checked."""

import ctypes
import runpy
import sys
from pathlib import Path

import numpy
import pytest
from helpers import drm

from dmabuf.image import Image
from dmabuf.image.layout import fourcc
from dmabuf.interop import ffmpeg
from dmabuf.interop.ffmpeg._uapi import ffi

pytestmark = pytest.mark.needs("exporter")
SIZE = 64, 48
EXAMPLE = Path(__file__).parent.parent / "examples" / "image_in_ffmpeg.py"


@pytest.fixture
def image(allocate):
    with Image.allocate("NV12", *SIZE, stride_align=128, allocate=allocate) as image:
        with image.write() as planes:
            for number, plane in enumerate(planes):
                plane[...] = numpy.arange(plane.size).reshape(plane.shape) % 251 + number
        yield image


def struct(drm):
    """Return the AVDRMFrameDescriptor at an address."""
    return ffi.cast("AVDRMFrameDescriptor *", drm.address)


def picture(image):
    with image.read() as planes:
        return [plane.tobytes() for plane in planes]


@pytest.mark.needs("ffmpeg", "vgem")
def test_ffmpeg_maps_an_image_of_ours(image):
    mapped = runpy.run_path(str(EXAMPLE))["mapped"]
    with (
        ffmpeg.descriptor(image) as described,
        mapped(described.address, described.size, *SIZE, drm.find("vgem")) as frame,
        image.read() as (luma, chroma),
    ):
        for number, plane in enumerate((luma, chroma.reshape(SIZE[1] // 2, -1))):
            for row in (0, 1, plane.shape[0] - 1):
                start = frame.data[number] + row * frame.linesize[number]
                assert ctypes.string_at(start, SIZE[0]) == plane[row].tobytes()


@pytest.mark.needs("ffmpeg", "heap", "vgem")
def test_the_example_shows_what_ffmpeg_sees(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [EXAMPLE.name, "--device", drm.find("vgem")])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert (
        "FFmpeg  64 bytes a row, which begins with [0, 1, 2, 3, 4, 5, 6, 7]"
        in capsys.readouterr().out
    )


def test_the_descriptor_is_what_the_image_is(image):
    with ffmpeg.descriptor(image) as described:
        about = struct(described)
        assert (about.nb_objects, about.nb_layers) == (1, 1)
        assert about.objects[0].size == image.buffers[0].size
        assert about.objects[0].fd != image.buffers[0].fileno()
        layer = about.layers[0]
        assert (layer.format, layer.nb_planes) == (fourcc("NV12"), 2)
        places = [(place.offset, place.pitch) for place in layer.planes[0:2]]
        assert places == [(plane.offset, plane.stride) for plane in image.planes]


def test_there_and_back_it_is_the_same_image_which_outlives_both(image):
    before, buffer = picture(image), image.buffers[0]
    with ffmpeg.descriptor(image) as described:
        again = ffmpeg.image(described.address, *SIZE, color_range="full")
    image.close()
    with again:
        assert again.owns_buffers
        assert list(again.buffers) == [buffer]
        assert again.color_range.name == "FULL"
        assert picture(again) == before


def test_an_image_in_two_buffers_has_two_objects(buffer, other):
    with ffmpeg.descriptor(Image([buffer, other], "NV12", *SIZE)) as described:
        assert struct(described).nb_objects == 2
        with ffmpeg.image(described.address, *SIZE) as again:
            assert list(again.buffers) == [buffer, other]


def test_a_layer_for_each_plane_is_one_image(image):
    with ffmpeg.descriptor(image) as described:
        about = struct(described)
        chroma = about.layers[0].planes[1]
        about.nb_layers = 2
        about.layers[0].nb_planes = about.layers[1].nb_planes = 1
        about.layers[0].format, about.layers[1].format = fourcc("R8"), fourcc("GR88")
        about.layers[1].planes[0] = chroma
        with ffmpeg.image(described.address, *SIZE) as again:
            assert picture(again) == picture(image)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda about: setattr(about, "nb_objects", 5), "1 to 4 objects, not 5"),
        (lambda about: setattr(about, "nb_layers", 0), "1 to 4 layers, not 0"),
        (lambda about: setattr(about.layers[0], "nb_planes", -1), "1 to 4 planes of a layer"),
        (lambda about: setattr(about.layers[0], "nb_planes", 1), "has 2 planes, not 1"),
        (lambda about: setattr(about.layers[0], "format", 1), "is not known"),
        (lambda about: setattr(about.layers[0].planes[1], "object_index", 1), "planes in others"),
        (lambda about: setattr(about.layers[0].planes[0], "offset", 1 << 30), "bytes"),
        (lambda about: setattr(about.layers[0].planes[0], "pitch", -1), "stride"),
        (lambda about: setattr(about, "nb_layers", 2), "layers 'NV12'"),
    ],
)
def test_what_is_no_image_is_refused_and_leaves_nothing_open(image, change, words):
    with ffmpeg.descriptor(image) as described:
        about = struct(described)
        about.layers[1].format, about.layers[1].nb_planes = fourcc("NV12"), 1
        change(about)
        with pytest.raises(ValueError, match=words):
            ffmpeg.image(described.address, *SIZE)


def test_address_0_is_no_descriptor():
    with pytest.raises(ValueError, match="at address 0"):
        ffmpeg.image(0, *SIZE)


def test_closing_ends_its_use_and_not_the_image(image):
    described = ffmpeg.descriptor(image)
    described.close()
    described.close()
    assert described.closed
    with pytest.raises(ValueError, match="closed"):
        _ = described.address
    assert not image.buffers[0].closed


def test_a_format_that_drm_has_not_is_refused(buffer):
    with pytest.raises(ValueError, match="DRM has no code"):
        ffmpeg.descriptor(Image(buffer, "SRGGB8", *SIZE))
