"""Images as the GPU sees them, by Mesa with a driver for the processor: pixels are compared."""

from __future__ import annotations

import contextlib
import ctypes
import os

import numpy
import pytest
from helpers import cameras, gl
from helpers.leaks import kernel_buffers

import dmabuf
from dmabuf.image import FORMATS, ColorEncoding, ColorRange, Image
from dmabuf.interop import egl
from dmabuf.interop.egl import _egl

pytestmark = [
    pytest.mark.needs("egl"),
    pytest.mark.timeout(100),
    pytest.mark.usefixtures("gl_library"),
]

WIDTH, HEIGHT = 36, 20
# What Mesa 26.1's driver for the processor lists, and draws in one colour or in others' places.
MISDRAWN = {"NV15", "NV20", "P030", "Y210", "Y212", "Y216"}
WANTED = {"XRGB8888", "ABGR8888", "RGB565", "R8", "YUYV", "UYVY", "NV12", "NV16", "YUV420", "P010"}


def fill(image: Image) -> None:
    """Put noise into the buffers of an image, the same each time."""
    noise = numpy.random.default_rng(7)
    for buffer in image.buffers:
        with buffer.write() as memory:
            memory[:] = noise.bytes(len(memory))


@pytest.fixture
def picture(allocate):
    """Give a function that returns an image with noise; they are closed at the end."""
    made = []

    def make(name: str, width=WIDTH, height=HEIGHT, *, stride_align=64, **about) -> Image:
        about = {"stride_align": stride_align, "allocate": allocate, **about}
        made.append(Image.allocate(name, width, height, **about))
        fill(made[-1])
        return made[-1]

    yield make
    for image in made:
        image.close()


def difference(image: Image) -> int:
    """Return by how much the GPU and the processor see an image differently, at the most."""
    with egl.import_image(image) as imported:
        seen = gl.look(imported).astype(int)
    channels = 1 if image.format.model == "Y" else 3  # a texture of one channel is red
    return int(abs(seen - image.to_rgb())[..., :channels].max())


class TestFormats:
    def test_have_their_modifiers(self):
        formats = egl.formats()
        assert {format.name for format in formats} >= WANTED
        assert all(FORMATS[format.name] is format for format in formats)
        assert dmabuf.image.LINEAR in formats[FORMATS["XRGB8888"]]

    def test_are_those_of_the_display_that_is_given(self, context):
        for display in (context.display, ctypes.c_void_p(context.display)):
            assert egl.formats(display) == egl.formats()

    def test_what_is_no_display_is_refused(self):
        with pytest.raises(TypeError, match="as a number or a pointer, not str"):
            egl.formats("display")
        with pytest.raises(
            OSError, match="0x7 is not an EGL display: the driver says EGL_BAD_DISPLAY"
        ):
            egl.formats(7)

    @pytest.mark.usefixtures("context")
    def test_are_seen_by_the_gpu_as_the_processor_sees_them(self, picture):
        tried, wrong = set(), {}
        for format in egl.formats():
            if format.name not in MISDRAWN and not format.name.endswith("F"):  # noise is no number
                tried.add(format.name)
                off = difference(picture(format.name))
                if off > (1 if format.components[0].bits <= 8 else 3):
                    wrong[format.name] = off
        assert tried >= WANTED
        assert not wrong, wrong


@pytest.mark.usefixtures("context")
class TestImport:
    @pytest.mark.parametrize("name", ["XRGB8888", "NV12", "YUV420"])
    def test_rows_and_planes_are_where_the_image_says(self, buffer, name):
        format = FORMATS[name]
        strides = [step + 8 for step in format.aligned_strides(WIDTH, 16)]
        offsets = [16 + 2304 * place for place in range(len(format.planes))]
        image = Image(buffer, name, WIDTH, HEIGHT, strides=strides, offsets=offsets)
        fill(image)
        assert difference(image) <= 1

    def test_planes_are_in_buffers_of_their_own(self, buffer, other):
        image = Image([buffer, other], "NV12", WIDTH, HEIGHT, strides=64)
        fill(image)
        assert difference(image) <= 1

    @pytest.mark.parametrize("range", ColorRange)
    @pytest.mark.parametrize("encoding", ["bt601", "bt709", "bt2020"])
    def test_colours_are_those_of_the_image(self, picture, encoding, range):
        image = picture("NV12", color_encoding=encoding, color_range=range)
        assert difference(image) <= 1
        plain = Image(image.buffers, "NV12", WIDTH, HEIGHT, strides=64).to_rgb()
        standard = (encoding, range) == ("bt601", ColorRange.LIMITED)
        assert (plain == image.to_rgb()).all() == standard

    def test_what_the_processor_writes_later_is_seen(self, picture):
        image = picture("XRGB8888")
        with egl.import_image(image) as imported:
            before = gl.look(imported)
            with image.write() as (pixels,):
                pixels[:] = (10, 20, 30, 0)
            assert (before != (30, 20, 10)).any()
            assert (gl.look(imported) == (30, 20, 10)).all()

    def test_the_gpu_draws_into_it(self, picture):
        source, result = picture("NV12"), picture("XRGB8888")
        with egl.import_image(source) as imported, egl.import_image(result) as target:
            with gl.drawing_into(target.texture(), WIDTH, HEIGHT):
                gl.draw(imported)
            with egl.fence() as fence:
                assert fence.wait(timeout=50)
            off = abs(result.to_rgb().astype(int) - source.to_rgb())
        assert off.max() <= 1

    @pytest.mark.needs("udmabuf")
    def test_memory_of_udmabuf_is_taken(self, picture):
        assert difference(picture("YUYV", allocate=dmabuf.udmabuf.allocate)) <= 1

    @pytest.mark.needs("vivid")
    @pytest.mark.parametrize("name", ["YUYV", "NV12", "RGB565"])
    def test_a_cameras_own_memory_is_taken(self, camera, name):
        camera.set_format(name, cameras.WIDTH, cameras.HEIGHT)
        with camera.stream(count=2) as frames, frames.frame(timeout=30) as frame:
            assert difference(frame.image) <= 1

    def test_the_memory_lives_until_the_image_of_the_gpu_is_closed(self, allocate):
        before = kernel_buffers()
        image = Image.allocate("XRGB8888", WIDTH, HEIGHT, stride_align=64, allocate=allocate)
        fill(image)
        seen = image.to_rgb()
        imported = egl.import_image(image)
        image.close()
        assert kernel_buffers() == before + 1
        with egl.Context():  # a driver keeps what it has drawn from until then
            assert (gl.look(imported) == seen).all()
            imported.close()
            imported.close()
        assert kernel_buffers() == before

    def test_what_is_closed_is_an_error(self, picture):
        image = picture("XRGB8888")
        imported = egl.import_image(image)
        imported.close()
        for use in (imported.texture, lambda: imported.handle, imported.__enter__):
            with pytest.raises(ValueError, match="on a closed EglImage"):
                use()
        image.close()
        with pytest.raises(ValueError, match="on a closed Image"):
            egl.import_image(image)
        assert repr(imported).startswith("<dmabuf.interop.egl.EglImage [closed] of <dmabuf.Image")

    def test_one_that_is_forgotten_warns_and_is_destroyed(self, allocate):
        before = kernel_buffers()
        with Image.allocate("XRGB8888", 16, 16, allocate=allocate) as image:
            imported = egl.import_image(image)
            imported.texture()
        with pytest.warns(ResourceWarning, match="unclosed EglImage"):
            del imported
        assert kernel_buffers() == before


class TestRefusals:
    def test_a_format_that_the_driver_has_not(self, buffer):
        assert FORMATS["BGRX8888"] not in egl.formats()
        with pytest.raises(dmabuf.RefusedError, match=r"the driver has no BGRX8888, only .*NV12"):
            egl.import_image(Image(buffer, "BGRX8888", 16, 16))

    def test_a_format_that_drm_has_not(self, buffer):
        with pytest.raises(dmabuf.RefusedError, match="DRM has no format SRGGB8"):
            egl.import_image(Image(buffer, "SRGGB8", WIDTH, HEIGHT))

    def test_a_modifier_that_the_driver_has_not(self, buffer):
        image = Image(buffer, "XRGB8888", WIDTH, HEIGHT, modifier=0x100000000000001)
        words = "the driver has no modifier 0x100000000000001 of XRGB8888; it has 0x0"
        with pytest.raises(dmabuf.RefusedError, match=words):
            egl.import_image(image)

    def test_colours_that_egl_has_not(self, buffer):
        encoding = ColorEncoding.SMPTE240M
        image = Image(buffer, "NV12", WIDTH, HEIGHT, color_encoding=encoding)
        with pytest.raises(dmabuf.RefusedError, match="the colours bt601, bt709, bt2020 only"):
            egl.import_image(image)

    def test_what_is_no_image(self, buffer):
        with pytest.raises(TypeError, match=r"image must be a dmabuf\.Image, not Buffer"):
            egl.import_image(buffer)

    def test_a_buffer_whose_number_is_something_else(self, buffer):
        with buffer.dup() as taken:
            file = os.memfd_create("another")
            os.dup2(file, taken.fileno(), inheritable=False)
            os.close(file)
            with pytest.raises(dmabuf.NotADmaBufError, match="closed behind its owner's back"):
                egl.import_image(Image(taken, "XRGB8888", 16, 16))

    def test_what_a_driver_refuses_by_an_error_is_told_with_it(self, buffer, monkeypatch):
        monkeypatch.setattr("dmabuf.interop.egl.image.check", lambda *_: None)
        image = Image(buffer, "XRGB8888", 16, 16, modifier=0x100000000000001)
        with pytest.raises(OSError, match=r"import <dmabuf.Image .*: the driver says EGL_BAD_"):
            egl.import_image(image)

    def test_a_missing_library_is_named(self, monkeypatch):
        monkeypatch.setattr(_egl, "_LIBRARY", "libEGL-nothing.so.1")
        _egl._library.cache_clear()
        try:
            with pytest.raises(ImportError, match=r"needs libEGL-nothing.so.1: install libEGL"):
                egl.Context()
        finally:
            _egl._library.cache_clear()


class TestTexture:
    def test_is_one_per_target_and_context(self, context, picture):
        with egl.import_image(picture("XRGB8888")) as imported:
            first = imported.texture()
            assert imported.texture() == imported.texture(gl.TEXTURE_2D) == first
            assert imported.texture(gl.TEXTURE_EXTERNAL) != first
            assert (gl.look(imported, gl.TEXTURE_EXTERNAL) == gl.look(imported)).all()
            with egl.Context():
                there = gl.new_texture(4, 4)
                assert imported.texture() != there
                gl.delete_texture(there)

    @pytest.mark.usefixtures("context")
    def test_leaves_what_is_bound(self, picture):
        es = gl.gl()
        bound = gl.new_texture(4, 4)
        es.glBindTexture(gl.TEXTURE_2D, bound)
        with egl.import_image(picture("XRGB8888")) as imported:
            imported.texture()
            assert es.glGetIntegerv(es.GL_TEXTURE_BINDING_2D) == bound
        gl.delete_texture(bound)

    @pytest.mark.usefixtures("context")
    def test_is_bound_to_the_unit_that_is_named(self, picture):
        es = gl.gl()
        with egl.import_image(picture("XRGB8888")) as imported:
            imported.bind(3)
            assert es.glGetIntegerv(es.GL_ACTIVE_TEXTURE) == es.GL_TEXTURE0
            assert es.glGetIntegerv(es.GL_TEXTURE_BINDING_2D) == 0
            es.glActiveTexture(es.GL_TEXTURE3)
            assert es.glGetIntegerv(es.GL_TEXTURE_BINDING_2D) == imported.texture()
            with pytest.raises(ValueError, match="a texture unit must be 0 or more, not -1"):
                imported.bind(-1)
            with pytest.raises(OSError, match="there is no texture unit 9999: the driver says GL_"):
                imported.bind(9999)

    @pytest.mark.usefixtures("context")
    def test_is_deleted_with_its_image(self, allocate):
        before = kernel_buffers()
        with Image.allocate("NV12", 16, 16, stride_align=64, allocate=allocate) as image:
            with egl.import_image(image) as imported:
                texture = imported.texture()
                imported.bind(1)
                assert gl.gl().glIsTexture(texture)
            assert not gl.gl().glIsTexture(texture)
        assert kernel_buffers() == before

    def test_of_another_context_goes_with_that(self, allocate):
        before = kernel_buffers()
        with egl.Context() as first:
            with Image.allocate("XRGB8888", 16, 16, allocate=allocate) as image:
                imported = egl.import_image(image)
                texture = imported.texture()
            with egl.Context():
                own = gl.new_texture(4, 4)
                imported.close()
                assert gl.gl().glIsTexture(own)
                gl.delete_texture(own)
            assert first.handle
            assert gl.gl().glIsTexture(texture)
        assert kernel_buffers() == before

    def test_without_a_context_is_an_error(self, picture):
        with egl.import_image(picture("XRGB8888")) as imported:
            for call in (imported.texture, egl.fence, lambda: egl.export_texture(1)):
                with pytest.raises(RuntimeError, match="no OpenGL context is current"):
                    call()

    @pytest.mark.usefixtures("context")
    def test_of_another_kind_is_refused(self, picture):
        with egl.import_image(picture("NV12")) as imported:
            with pytest.raises(ValueError, match="target must be GL_TEXTURE_2D"):
                imported.texture(0x8513)
            with pytest.raises(
                dmabuf.RefusedError, match="the driver only samples it, with target"
            ):
                imported.texture(gl.TEXTURE_2D)

    def test_of_yuv_needs_opengl_es(self, picture):
        with egl.Context(desktop=True, version=(3, 3)):
            with (
                egl.import_image(picture("NV12")) as imported,
                pytest.raises(dmabuf.UnsupportedError, match="has no GL_OES_EGL_image_external"),
            ):
                imported.texture()
            with egl.import_image(picture("XRGB8888")) as imported:
                assert imported.texture()


class TestExport:
    def test_the_image_has_the_textures_pixels_and_owns_its_memory(self):
        before = kernel_buffers()
        with egl.Context():
            texture = gl.new_texture(WIDTH, HEIGHT)
            gl.clear(texture, WIDTH, HEIGHT, (0.2, 0.4, 0.6, 1.0))
            with egl.fence() as fence:
                assert fence.wait(timeout=60)
            image = egl.export_texture(texture)
            gl.delete_texture(texture)
            with egl.import_image(image) as imported:
                assert (gl.look(imported) == (51, 102, 153)).all()
        assert (image.format.name, image.width, image.height) == ("ABGR8888", WIDTH, HEIGHT)
        assert image.modifier == dmabuf.image.LINEAR
        assert (image.to_rgb() == (51, 102, 153)).all()
        assert kernel_buffers() == before + 1
        assert image.owns_buffers
        image.close()
        assert kernel_buffers() == before

    @pytest.mark.usefixtures("context")
    def test_what_was_imported_is_the_same_memory_or_refused(self, picture):
        image = picture("XRGB8888")
        with (
            egl.import_image(image) as imported,
            contextlib.suppress(dmabuf.RefusedError),  # by drivers that give no descriptor of it
            egl.export_texture(imported.texture()) as exported,
        ):
            assert (exported.to_rgb() == image.to_rgb()).all()
            assert exported.planes[0].stride == image.planes[0].stride

    @pytest.mark.usefixtures("context")
    def test_what_is_no_texture_is_refused(self):
        with pytest.raises(OSError, match="999 "):
            egl.export_texture(999)
        with pytest.raises(OSError, match="0 "):
            egl.export_texture(0)
