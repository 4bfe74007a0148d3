"""A USB camera, and what real ones do: stalled controls, depth and MJPEG frames, a pulled cable."""

import contextlib
import enum
import errno
from functools import partial

import pytest
from helpers import uvc_camera
from helpers.features import RELEASE
from helpers.uvc_camera import HEIGHT, SETTINGS, WIDTH, frame_bytes, plugged_in

import dmabuf
from dmabuf.devices import v4l2
from dmabuf.devices.v4l2 import ControlId, controls
from dmabuf.image import pixel_format

pytestmark = pytest.mark.needs("uvc camera")
TELLS_NAMES = RELEASE >= (7, 0)
"""Whether the kernel describes a control on which the device fails."""


@pytest.fixture
def usb():
    """Give a USB camera, plugged in."""
    with plugged_in() as usb:
        yield usb


@pytest.fixture
def camera(usb):
    """Give the capture queue of a USB camera."""
    with v4l2.Capture(usb.path) as camera:
        yield camera


@pytest.fixture
def images(allocate):
    """Give three images that the camera can be given to fill."""
    with contextlib.ExitStack() as stack:
        make = partial(dmabuf.Image.allocate, "YUYV", WIDTH, HEIGHT, allocate=allocate)
        yield [stack.enter_context(make()) for _ in range(3)]


def contents(frame: v4l2.Frame) -> bytes:
    """Return the bytes of a frame of one buffer, as the processor sees them."""
    (buffer,), (used,) = frame.buffers, frame.bytes_used
    with buffer.read() as memory:
        return bytes(memory[:used])


def take_all(frames: v4l2.Stream) -> None:
    """Take frames until that fails."""
    while True:
        with frames.frame(10):
            pass


class TestFrames:
    @pytest.mark.parametrize("imported", [False, True])
    def test_yuyv_has_the_cameras_pixels(self, camera, images, imported):
        format = camera.set_format("YUYV", WIDTH, HEIGHT)
        assert (format.width, format.height) == (WIDTH, HEIGHT)
        with camera.stream(images if imported else None) as frames:
            for number in range(4):
                with frames.frame(10) as frame, frame.image.read() as (pixels,):
                    assert pixels.shape == (HEIGHT, WIDTH, 2)
                    assert pixels.tobytes() == frame_bytes("YUYV", number)
                    assert frame.sequence == number

    def test_depth_is_an_array_of_words(self, camera):
        assert camera.set_format("Z16", WIDTH, HEIGHT).format is pixel_format("Z16")
        with camera.stream() as frames:
            for number in range(2):
                with frames.frame(10) as frame, frame.image.read() as (depth,):
                    assert (depth.shape, depth.dtype) == ((HEIGHT, WIDTH), "<u2")
                    assert depth.tobytes() == frame_bytes("Z16", number)

    def test_mjpeg_comes_with_its_own_length(self, camera):
        format = camera.set_format("MJPG", WIDTH, HEIGHT)
        assert (format.format, format.fourcc) == (None, "MJPG")
        with camera.stream() as frames:
            for number in range(3):
                with frames.frame(10) as frame:
                    assert contents(frame) == frame_bytes("MJPG", number)
                    with frame.data as data:
                        assert data == frame_bytes("MJPG", number)
                        assert data.readonly
                    with pytest.raises(ValueError, match="released"):
                        data[0]
                    with pytest.raises(ValueError, match="MJPG is not in dmabuf's table"):
                        assert frame.image

    def test_what_is_offered_can_be_asked_for_by_its_code(self, camera):
        offered = camera.formats()
        assert [about.fourcc for about in offered] == ["YUYV", "Z16", "MJPG"]
        for about in offered:
            (size,) = camera.frame_sizes(about.fourcc)
            assert (size.max_width, size.max_height) == (WIDTH, HEIGHT)
            assert camera.set_format(about.fourcc, WIDTH, HEIGHT).fourcc == about.fourcc

    @pytest.mark.parametrize("imported", [False, True])
    def test_pulling_the_cable_is_told_and_loses_nothing(self, usb, camera, images, imported):
        camera.set_format("YUYV", WIDTH, HEIGHT)
        with camera.stream(images if imported else None) as frames:
            with frames.frame(10) as frame, frame.image.read() as (pixels,):
                assert pixels.tobytes() == frame_bytes("YUYV", 0)
            held = frames.frame(10)
            usb.unplug()
            with pytest.raises(OSError, match=f"{usb.path}: .* the device has gone") as caught:
                take_all(frames)
            assert caught.value.errno == errno.ENODEV
            with held.image.read() as (pixels,):  # it is whole
                assert pixels.tobytes() == frame_bytes("YUYV", 1)
            with pytest.raises(OSError, match="the device has gone"):
                held.queue()
        with pytest.raises(OSError, match="the device has gone") as caught:
            camera.device.controls()
        assert caught.value.errno == errno.ENODEV


class TestControls:
    def test_are_those_of_the_camera(self, camera):
        found = {about.id: about for about in camera.device.controls()}
        for name, (*_, minimum, maximum, default) in SETTINGS.items():
            about = found[ControlId[name.upper()]]
            assert about[3:7] == (minimum, maximum, 1, default)
            assert (about.broken, about.readable, about.writable) == (False, True, True)
        device = camera.device
        assert device.get_control("brightness") == 0
        assert device.set_control("brightness", -7) == -7
        assert device.get_control(ControlId.BRIGHTNESS) == -7
        assert device.set_control("Gain", 1000) == 255

    @pytest.mark.parametrize(
        "stalled",
        [{"contrast"}, {"brightness"}, {"sharpness"}, {"exposure_absolute"}, {"gain", "contrast"}],
    )
    def test_a_stalled_control_leaves_the_others_usable(self, stalled):
        with plugged_in(stalled=frozenset(stalled)) as usb, v4l2.Device(usb.path) as device:
            found = {about.id: about for about in device.controls()}
            assert set(found) == {ControlId[name.upper()] for name in SETTINGS}
            for name in SETTINGS:
                number = ControlId[name.upper()]
                about = found[number]
                if name not in stalled:
                    assert not about.broken
                    assert device.set_control(about.key, 5) == device.get_control(number) == 5
                    continue
                assert (about.broken, about.readable, about.writable) == (True, False, False)
                assert about.type == (v4l2.ControlType.INTEGER if TELLS_NAMES else 0)
                for use in (device.get_control, lambda key: device.set_control(key, 5)):
                    for key in (about.key, number):
                        with pytest.raises(
                            OSError, match=f"control {about.key}: the device has failed"
                        ) as error:
                            use(key)
                        assert error.value.errno == errno.EIO

    def test_a_stalled_control_without_a_name_of_ours_is_listed_by_its_number(self, monkeypatch):
        """As a maker's own control is."""
        names = {one.name: one.value for one in ControlId if one is not ControlId.CONTRAST}
        monkeypatch.setattr(controls, "ControlId", enum.IntEnum("ControlId", names))
        with plugged_in(stalled=frozenset({"contrast"})) as usb, v4l2.Device(usb.path) as device:
            found = {about.id: about for about in device.controls()}
            assert set(found) == {ControlId[name.upper()] for name in SETTINGS}
            (broken,) = (about for about in found.values() if about.broken)
            assert broken.id == ControlId.CONTRAST
            assert TELLS_NAMES or broken.name == f"{ControlId.CONTRAST:#x}"

    def test_a_camera_on_which_all_fail_lists_them(self):
        with plugged_in(stalled=frozenset(SETTINGS)) as usb, v4l2.Device(usb.path) as device:
            assert all(about.broken for about in device.controls())
            assert len(device.controls()) == len(SETTINGS)

    def test_what_the_camera_lacks_is_told(self, camera):
        with pytest.raises(KeyError, match="has no control 'hue'; it has brightness, contrast"):
            camera.device.get_control("hue")


def test_the_camera_leaves_nothing_behind():
    for _ in range(2):
        with plugged_in() as usb:
            assert v4l2.inspect(usb.path).card == uvc_camera.NAME
