"""V4L2 devices: what they say of themselves, their formats and their settings."""

import errno
import os

import numpy
import pytest
from helpers import cameras
from helpers.fences import is_open
from helpers.process import NOBODY, in_child

import dmabuf
from dmabuf.devices import v4l2
from dmabuf.image import FORMATS, fourcc_text, pixel_format

pytestmark = pytest.mark.needs("vivid")
CLOSED = "operation on a closed Device"
ALL = v4l2.Memory.MMAP | v4l2.Memory.USERPTR | v4l2.Memory.DMABUF


@pytest.fixture
def path():
    """Give the path of a single-planar camera."""
    return cameras.find("vivid")


@pytest.fixture
def device(path):
    """Give a single-planar camera, open."""
    with v4l2.Device(path) as device:
        yield device


@pytest.fixture
def planar():
    """Give the capture queue of a multi-planar camera."""
    with cameras.camera(multi_planar=True) as camera:
        yield camera


class TestInspect:
    @pytest.mark.parametrize("multi_planar", [False, True])
    @pytest.mark.parametrize("output", [False, True])
    def test_tells_the_kinds_of_devices(self, output, multi_planar):
        about = v4l2.inspect(cameras.find("vivid", output=output, multi_planar=multi_planar))
        assert (about.driver, about.card, about.m2m) == ("vivid", "vivid", False)
        assert about.bus == f"platform:vivid-00{int(multi_planar)}"
        assert (about.capture, about.output) == (not output, output)
        assert about.memory == ALL

    @pytest.mark.needs("vim2m")
    def test_tells_a_memory_to_memory_device(self):
        about = v4l2.inspect(cameras.find("vim2m"))
        assert (about.capture, about.output, about.m2m) == (True, True, True)
        assert about.memory == ALL

    def test_what_is_no_video_has_neither_direction(self):
        others = [about for about in cameras.nodes() if not (about.capture or about.output)]
        assert others
        assert {about.memory for about in others} == {v4l2.Memory(0)}

    def test_a_device_in_use_is_not_disturbed(self, camera):
        with camera.stream() as frames:
            assert v4l2.inspect(camera.device.path) == camera.device.info
            with frames.frame(10):
                pass

    @pytest.mark.needs("vimc")
    def test_tells_what_the_media_controller_sets_up(self):
        assert v4l2.inspect(cameras.find("vimc")).media_controller
        assert not v4l2.inspect(cameras.find("vivid")).media_controller

    def test_what_is_not_there_is_named(self):
        for make in (v4l2.inspect, v4l2.Device, v4l2.Capture, v4l2.Output):
            missing = "/dev/video987: no such V4L2 device; the kernel has: video0(, video[0-9]+)*$"
            with pytest.raises(FileNotFoundError, match=missing):
                make("/dev/video987")

    def test_what_is_no_video_device_is_named(self, tmp_path):
        file = tmp_path / "video0"
        file.touch()
        for path, kind in ((file, "no character device"), ("/dev/null", "mem")):
            with pytest.raises(OSError, match=f"{path} is not a V4L2 device but {kind}") as caught:
                v4l2.inspect(path)
            assert caught.value.errno == errno.ENOTTY

    @pytest.mark.needs("root")
    def test_a_device_of_others_says_how_to_get_it(self, path):
        with pytest.raises(PermissionError, match='SUBSYSTEM=="video4linux", GROUP="video"'):
            in_child(lambda: v4l2.inspect(path), user=NOBODY)


class TestFind:
    def test_the_first_that_streams_at_once(self):
        assert v4l2.Capture.find() == cameras.find("vivid")
        assert v4l2.Output.find() == cameras.find("vivid", output=True)

    def test_the_first_that_has_a_format(self):
        assert v4l2.Capture.find("NM12") == cameras.find("vivid", multi_planar=True)

    def test_what_no_device_has_is_named(self):
        with pytest.raises(OSError, match="there is no output device here for H264") as caught:
            v4l2.Output.find("H264")
        assert caught.value.errno == errno.ENODEV

    @pytest.mark.needs("root")
    @pytest.mark.parametrize("kind", [v4l2.Capture, v4l2.Encoder])
    def test_those_that_may_not_be_opened_are_said(self, kind):
        with pytest.raises(PermissionError, match="/dev/video"):
            in_child(kind.find, user=NOBODY)

    def test_what_is_no_format_is_refused(self):
        with pytest.raises(ValueError, match="no such format"):
            v4l2.Capture.find("no such format")


class TestDevice:
    def test_with_closes(self, path):
        with v4l2.Device(path) as device:
            number = device.fileno()
            assert device.path == path
            assert f"{path} vivid fd={number}" in repr(device)
            assert not os.get_inheritable(number)
        assert device.closed
        assert not is_open(number)
        assert f"{path} vivid [closed]" in repr(device)
        assert device.info.card == "vivid"

    @pytest.mark.parametrize(
        "use",
        [
            lambda device, camera: camera.format(),
            lambda device, camera: camera.formats(),
            lambda device, camera: camera.frame_sizes("R8"),
            lambda device, camera: camera.set_format("R8", 320, 180),
            lambda device, camera: camera.frame_rate(),
            lambda device, camera: camera.stream(),
            lambda device, camera: camera.__enter__(),
            lambda device, camera: device.inputs(),
            lambda device, camera: device.set_input(0),
            lambda device, camera: device.outputs(),
            lambda device, camera: device.set_output(0),
            lambda device, camera: device.dv_timings(),
            lambda device, camera: device.controls(),
            lambda device, camera: device.menu("OSD Text Mode"),
            lambda device, camera: device.get_control("OSD Text Mode"),
            lambda device, camera: device.set_control("OSD Text Mode", 2),
        ],
    )
    def test_a_closed_device_can_not_be_used(self, path, use):
        with v4l2.Device(path) as device:
            camera = device.capture
        with pytest.raises(ValueError, match=CLOSED):
            use(device, camera)

    def test_a_collected_device_warns_and_closes(self, path):
        camera = v4l2.Capture(path)
        number = camera.device.fileno()
        with pytest.warns(ResourceWarning, match=f"unclosed Device with descriptor {number}"):
            del camera
        assert not is_open(number)

    def test_a_queue_closes_the_device_that_it_opened(self, path, device):
        with v4l2.Capture(path) as camera:
            assert camera.device is not device
            assert camera.device.path in repr(camera)
        assert camera.device.closed
        camera.close()
        with device.capture as shared:
            assert shared.device is device
        assert not device.closed

    @pytest.mark.parametrize("output", [False, True])
    def test_the_direction_that_it_lacks_is_named(self, output):
        path = cameras.find("vivid", output=output)
        lacking, what = (v4l2.Capture, "capture") if output else (v4l2.Output, "output")
        with pytest.raises(OSError, match=rf"{path} \(vivid\) has no {what} queue") as caught:
            lacking(path)
        assert caught.value.errno == errno.ENODEV
        with v4l2.Device(path) as device, pytest.raises(OSError, match=f"no {what} queue"):
            getattr(device, what)


class TestFormats:
    def test_are_listed_with_the_drivers_words(self, camera):
        formats = {about.fourcc: about for about in camera.formats()}
        assert formats["XR24"].format is pixel_format("XRGB8888")
        assert formats["NV12"].format is pixel_format("NV12")
        assert formats["YUYV"].description == "YUYV 4:2:2"
        assert formats["HSV4"].format is None
        assert "Y16-BE" in formats
        assert not any(about.compressed for about in formats.values())
        assert "NM12" not in formats

    def test_a_multi_planar_device_has_those_with_a_buffer_a_plane(self, planar):
        formats = {about.fourcc: about.format for about in planar.formats()}
        assert formats["NM12"] is formats["NV12"] is pixel_format("NV12")

    def test_sizes_are_listed(self, camera):
        sizes = camera.frame_sizes("XRGB8888")
        assert v4l2.FrameSize(320, 320, 1, 180, 180, 1) in sizes
        with v4l2.Output(cameras.find("vivid", output=True)) as output:
            assert output.frame_sizes("XRGB8888") == []

    @pytest.mark.needs("vim2m")
    def test_ranges_of_sizes_are_listed(self):
        with v4l2.Capture(cameras.find("vim2m")) as camera:
            (size,) = camera.frame_sizes("RGB565")
        assert size.min_width < size.max_width
        assert size.min_height < size.max_height
        assert size.step_width > 0

    @pytest.mark.parametrize("spec", ["XRGB8888", "XR24", pixel_format("XRGB8888"), 0x34325258])
    def test_is_set_and_read_back(self, camera, spec):
        made = camera.set_format(spec, 640, 360)
        assert made.format is pixel_format("XRGB8888")
        assert (made.fourcc, made.width, made.height) == ("XR24", 640, 360)
        assert made.bytesperline == (640 * 4,)
        assert made.sizeimage[0] >= 640 * 360 * 4
        assert made.field is v4l2.Field.NONE
        assert made.colorspace is v4l2.Colorspace.SRGB
        for name in ("ycbcr_enc", "quantization", "xfer_func"):
            assert getattr(made, name).name == "DEFAULT"
        assert camera.format() == made

    def test_the_nearest_size_is_taken(self, camera):
        made = camera.set_format("NV12", 321, 181)
        assert (made.width, made.height) == (320, 180)
        assert made.bytesperline == (320,)

    def test_all_planes_in_one_buffer_are_preferred(self, planar):
        one = planar.set_format("NV12", 320, 180)
        assert (one.fourcc, len(one.sizeimage)) == ("NV12", 1)
        two = planar.set_format("NM12", 320, 180)
        assert (two.fourcc, two.bytesperline) == ("NM12", (320, 320))
        assert two.format is one.format
        assert two.sizeimage[0] >= 320 * 180
        assert two.sizeimage[1] >= 320 * 90

    def test_what_the_table_lacks_is_set_by_its_code(self, camera):
        for spec in ("HSV4", 0x34565348):
            made = camera.set_format(spec, 320, 180)
            assert (made.format, made.fourcc) == (None, "HSV4")

    def test_what_the_device_lacks_is_refused_with_what_it_has(self, camera):
        before = camera.format()
        for spec in ("MJPG", "NM12", "P010", 0x47504A4D):
            with pytest.raises(dmabuf.RefusedError, match=r"has no format .* YUYV") as caught:
                camera.set_format(spec, 320, 180)
            assert caught.value.errno == errno.EINVAL
        assert camera.format() == before

    def test_what_is_no_format_is_refused(self, camera):
        for spec, error in (("nonsense", ValueError), (None, TypeError), (1.5, TypeError)):
            with pytest.raises(error, match="format"):
                camera.set_format(spec, 320, 180)
            with pytest.raises(error, match="format"):
                camera.frame_sizes(spec)

    @pytest.mark.parametrize(
        ("spec", "fourcc"),
        [
            *(("I420", "YU12"), ("RG24", "BGR3"), ("BG24", "RGB3"), ("AR24", "AR24")),
            *(("R8", "GREY"), ("Y16-BE", "Y16-BE"), ("XR15-BE", "XR15-BE"), ("HSV4", "HSV4")),
            *(("RG16", "RG16"), ("BA12", "BA12"), ("RGB565", "RGBP"), ("BGRA4444", "GA12")),
            *(("Y16", "Y16"), ("Y16 ", "Y16"), ("Y14", None), ("BGR4", "BGR4")),
        ],
    )
    def test_is_asked_for_by_any_name_of_it(self, camera, spec, fourcc):
        offered = {about.fourcc for about in camera.formats()}
        if fourcc in offered:
            assert camera.frame_sizes(spec)
            assert camera.set_format(spec, 320, 180).fourcc == fourcc
        else:
            with pytest.raises(dmabuf.RefusedError, match="has no format"):
                camera.set_format(spec, 320, 180)

    @pytest.mark.parametrize("multi_planar", [False, True])
    def test_what_a_device_offers_can_be_asked_for(self, multi_planar):
        with cameras.camera(multi_planar=multi_planar) as camera:
            for about in camera.formats():
                assert camera.frame_sizes(about.fourcc)
                made = camera.set_format(about.fourcc, 320, 180)
                assert (made.fourcc, made.format) == (about.fourcc, about.format)

    def test_each_of_the_table_is_taken_by_its_names_and_codes(self, camera):
        offered = {about.fourcc for about in camera.formats()}
        for name, entry in FORMATS.items():
            if entry.v4l2 is None or fourcc_text(entry.v4l2)[1:-1].rstrip() not in offered:
                continue
            for spec in (name, entry, entry.v4l2):
                assert camera.set_format(spec, 320, 180).format is entry

    @pytest.mark.parametrize("size", [(-1, 180), (320, -180), (1 << 32, 180), (320, 10**30)])
    def test_a_size_that_can_not_be_is_refused(self, camera, size):
        before = camera.format()
        with pytest.raises(ValueError, match=f"0 to 4294967295 columns and rows.*{size[0]}x"):
            camera.set_format("R8", *size)
        with pytest.raises(TypeError):
            camera.set_format("R8", 320.5, 180)
        assert camera.format() == before

    def test_a_size_may_be_of_numpy(self, camera):
        made = camera.set_format("R8", numpy.int16(320), numpy.uint64(180))
        assert (made.width, made.height) == (320, 180)


class TestSettings:
    def test_inputs_and_outputs_are_listed_and_chosen(self, device):
        names = [name.split()[0] for name in device.inputs()]
        assert names == ["Webcam", "TV", "S-Video", "HDMI"]
        assert device.outputs() == []
        for wrong in (4, -1, 1 << 40):
            with pytest.raises(OSError, match="VIDIOC_S_INPUT") as caught:
                device.set_input(wrong)
            assert caught.value.errno == errno.EINVAL
        with v4l2.Device(cameras.find("vivid", output=True)) as output:
            assert [name.split()[0] for name in output.outputs()] == ["S-Video", "HDMI"]
            for wrong in (2, -1, 1 << 40):
                with pytest.raises(OSError, match="VIDIOC_S_OUTPUT") as caught:
                    output.set_output(wrong)
                assert caught.value.errno == errno.EINVAL

    def test_timings_decide_the_size(self, device):
        assert device.dv_timings() == []  # a webcam has none
        device.set_input(3)
        timings = device.dv_timings()[1]
        assert timings[:3] == (720, 480, False)
        assert timings.frame_rate == pytest.approx(60 / 1.001)
        device.set_dv_timings(timings)
        assert device.capture.format()[2:4] == (720, 480)
        device.set_input(0)
        with pytest.raises(OSError, match="VIDIOC_S_DV_TIMINGS") as caught:
            device.set_dv_timings(timings)
        assert caught.value.errno == errno.ENODATA

    def test_the_nearest_frame_rate_is_taken(self, camera):
        for asked, made in ((25, 25.0), (29.97, 30.0), (60.0, 60.0)):
            assert camera.set_frame_rate(asked) == pytest.approx(made)
            assert camera.frame_rate() == pytest.approx(made)

    @pytest.mark.parametrize("rate", [1e-9, 1 / 7, 4e9, 59.94, numpy.float32(25), True])
    def test_any_frame_rate_may_be_asked_for(self, camera, rate):
        made = camera.set_frame_rate(rate)
        assert made == pytest.approx(camera.frame_rate())
        assert 0.5 < made <= 120

    @pytest.mark.parametrize("rate", [0, -1.0, 1e-10, 1e10, float("inf"), float("nan"), 10**400])
    def test_what_is_no_frame_rate_is_refused(self, camera, rate):
        before = camera.frame_rate()
        with pytest.raises(ValueError, match="a frame rate is a number of frames per second above"):
            camera.set_frame_rate(rate)
        assert camera.frame_rate() == before

    def test_what_is_no_number_is_refused(self, camera):
        with pytest.raises(TypeError, match="a frame rate is a number of frames per second, not"):
            camera.set_frame_rate("30")
        with pytest.raises(TypeError, match="height must be a whole number, not float"):
            camera.set_format("R8", 320, 180.5)
