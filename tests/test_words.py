"""What a call is not meant for is refused in words, and not in Python's own of what is inside."""

import pytest

import dmabuf
from dmabuf import Image, Pool, share, udmabuf
from dmabuf.image import FORMATS, fourcc, from_drm, from_v4l2, pixel_format

WRONG = {
    "allocate": (lambda: dmabuf.allocate(4096, heaps=5), "heaps must be several names or paths"),
    "from_memfds": (lambda: udmabuf.from_memfds([5]), r"pieces are \[\(memfd, offset, size\), …\]"),
    "from_memfds pair": (lambda: udmabuf.from_memfds([(1, 2)]), r"and \(1, 2\) is not one"),
    "Image": (lambda: Image(5, "R8", 4, 4), "an image needs a dmabuf.Buffer, .* not int"),
    "format": (lambda: pixel_format(1.5), "a pixel format, unless it is text, must be a whole"),
    "from_drm": (lambda: from_drm("NV12"), "a code of DRM's must be a whole number, not str"),
    "from_v4l2": (lambda: from_v4l2(None), "a code of V4L2's must be a whole number, not None"),
    "fourcc": (lambda: fourcc(5), "a fourcc must be text, not int"),
    "strides": (
        lambda: FORMATS["NV12"].strides(4, "x"),
        "a stride must be a whole number, not str",
    ),
    "aligned": (lambda: FORMATS["NV12"].aligned_strides(4, 1.5), "an alignment of rows must be"),
    "stride_align": (lambda: Image.allocate("R8", 4, 4, stride_align="4"), "stride_align must be"),
    "count": (lambda: Pool("3", 4096), "count must be a whole number, not str"),
    "size": (lambda: Pool(3, 1.5), "size must be a whole number, not float"),
    "pid": (lambda: share.from_process("x", 1), "pid must be a whole number, not str"),
    "depth": (lambda: share.Subscriber("/nowhere", depth="x"), "depth must be a whole number"),
    "mode": (lambda: share.Publisher("/tmp/unused", mode="x"), "mode must be a whole number, not"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_number_is_named(name):
    call, words = WRONG[name]
    with pytest.raises(TypeError, match=words):
        call()


def test_an_image_names_what_is_wrong_with_its_planes(buffer):
    for options, words in (
        ({"strides": 1.5}, "a stride must be a whole number, not float"),
        ({"strides": [1.5]}, r"strides must be whole numbers, not \[1.5\]"),
        ({"offsets": 5}, "offsets must be whole numbers, not 5"),
        ({"offsets": ["a"]}, r"offsets must be whole numbers, not \['a'\]"),
        ({"modifier": "x"}, "modifier must be a whole number, not str"),
    ):
        with pytest.raises(TypeError, match=words):
            Image(buffer, "R8", 4, 4, **options)


def test_one_object_is_not_several(buffer):
    for objects in (buffer, Image(buffer, "R8", 4, 4)):
        with pytest.raises(TypeError, match="objects must be a list or another iterable: send "):
            share.send(None, objects)


@pytest.mark.needs("export")
def test_a_deadline_is_a_number(buffer):
    with buffer.export_fence(dmabuf.Access.READ) as fence:
        for wrong in ("x", None, 1j):
            with pytest.raises(TypeError, match="a deadline is a number of seconds, not"):
                fence.set_deadline(wrong)
        with pytest.raises(TypeError, match="objects must be a list"):
            share.send(None, fence)
