"""Displays: what they have, what they show, and what they refuse."""

import errno
import os
import re
from pathlib import Path

import numpy
import pytest
import screen

import dmabuf
from dmabuf.devices import kms

pytestmark = [pytest.mark.needs("display", "root"), pytest.mark.timeout(60)]
CLOSED = "operation on a closed Display"


@pytest.fixture
def display():
    with kms.Display() as display:
        yield display


def paint(image, seed=0):
    """Fill an image with a picture that no other seed gives, and return it as it looks."""
    columns = numpy.arange(image.width, dtype="u4") // 16 * 8 & 0xFF
    rows = numpy.arange(image.height, dtype="u4")[:, None] // 16 * 8 & 0xFF
    picture = numpy.empty((image.height, image.width, 3), "u1")
    picture[..., 0], picture[..., 1], picture[..., 2] = columns, rows, seed & 0xFF
    with image.write() as planes:
        if image.format.name == "RGB565":
            red, green, blue = (picture[..., n].astype("u2") for n in range(3))
            planes[0][:] = red >> 3 << 11 | green >> 2 << 5 | blue >> 3
        else:
            planes[0][..., :3] = picture[..., ::-1]
    return picture


class TestWhatItHas:
    def test_the_first_that_imports_buffers_is_opened(self, display, buffer):
        assert re.fullmatch(r"/dev/dri/card\d+", display.path)
        display.import_buffer(buffer).close()
        assert display.driver not in ("vgem", "virtio_gpu")
        for part in (display.path, display.driver, "Display", display.connector.name):
            assert part in repr(display)

    def test_connectors_and_modes_are_those_of_sysfs(self, display):
        card = os.path.basename(display.path)
        for connector in display.connectors:
            folder = Path("/sys/class/drm", f"{card}-{connector.name}")
            assert (folder / "status").read_text().strip().upper() == connector.status.name
            names = [mode.name for mode in connector.modes]
            assert (folder / "modes").read_text().split() == names
        assert display.connector in display.connectors

    def test_modes_have_a_size_and_a_rate(self, display):
        modes = display.connector.modes
        for mode in modes:
            assert re.match(f"{mode.width}x{mode.height}", mode.name)
            assert mode.size == (mode.width, mode.height)
            assert 20 < mode.refresh < 250
            assert len(mode.timings) == 68
            assert str(mode).startswith(f"{mode.width}x{mode.height}@")
        assert sum(mode.preferred for mode in modes) >= 1

    def test_planes_list_formats_and_modifiers(self, display):
        assert display.plane in display.planes
        assert display.plane.kind is kms.PlaneKind.PRIMARY
        assert display.plane.formats["XR24"] == (dmabuf.image.LINEAR,)
        for plane in display.planes:
            assert all(re.fullmatch(r"[\w ]{4}", name) for name in plane.formats)

    def test_a_connector_is_opened_by_its_name(self, display):
        path, name = display.path, display.connector.name
        display.close()
        with kms.Display(path, connector=name) as same:
            assert same.connector.name == name
        with pytest.raises(ValueError, match=f"has no connector 'HDMI-Z-9' but.*{name}"):
            kms.Display(path, connector="HDMI-Z-9")


class TestShow:
    @pytest.mark.needs("screendump")
    @pytest.mark.parametrize("atomic", [True, False])
    @pytest.mark.parametrize("format", ["XRGB8888", "RGB565"])
    def test_the_screen_shows_the_image(self, allocate, atomic, format):
        with kms.Display(atomic=atomic) as display, allocate(640 * 480 * 4) as buffer:
            assert display.atomic is atomic
            image = dmabuf.Image(buffer, format, 640, 480)
            if format == "RGB565" and "RG16" not in display.plane.formats:
                with pytest.raises(dmabuf.RefusedError, match="can't show RGB565"):
                    display.show(image)
                return
            picture = paint(image, 200)
            flip = display.show(image)
            assert flip.wait(10)
            assert display.mode.size == (640, 480)
            mask = (0xF8, 0xFC, 0xF8) if format == "RGB565" else (0xFF, 0xFF, 0xFF)
            assert (screen.pixels() & mask == picture & mask).all()


class TestMisuse:
    def test_what_is_no_display_is_refused(self):
        with dmabuf.devices.drm.Vgem() as vgem:
            nodes = [node for node in Path("/dev/dri").iterdir() if "D" in node.name]
            for path in (vgem.path, *nodes):
                with pytest.raises(OSError, match="is no display") as caught:
                    kms.Display(path)
                assert caught.value.errno == errno.ENODEV
                assert str(path) in str(caught.value)
