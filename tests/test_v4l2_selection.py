"""What a queue cuts out and where it puts it, its frame rates, and the timings of its signal."""

import errno

import pytest
from helpers import cameras

from dmabuf.devices import v4l2
from dmabuf.devices.v4l2 import SelectionTarget

pytestmark = pytest.mark.needs("vivid")
WHOLE = 0, 0, 720, 480  # of the timings that cameras.loop() sets
PART = 16, 32, 320, 240


@pytest.fixture(params=[False, True], ids=["single", "multi"])
def loop(request):
    with cameras.loop(multi_planar=request.param) as loop:
        for queue in loop:
            queue.set_format("R8", 720, 480)
        yield loop


class TestSelection:
    def test_of_an_input_is_all_of_its_picture(self, loop):
        _, camera = loop
        for target in (SelectionTarget.CROP_BOUNDS, SelectionTarget.CROP_DEFAULT):
            assert camera.selection(target) == WHOLE

    def test_is_set_and_read_back(self, loop):
        _, camera = loop
        assert camera.set_selection(SelectionTarget.CROP, v4l2.Rectangle(*PART)) == PART
        assert camera.selection(SelectionTarget.CROP) == PART
        assert camera.set_selection(SelectionTarget.CROP, WHOLE) == WHOLE

    def test_the_driver_takes_what_it_can(self, loop):
        _, camera = loop
        assert camera.set_selection(SelectionTarget.CROP, (700, 0, 9999, 480)) == WHOLE

    def test_of_an_output_is_where_the_frame_is_put(self, loop):
        output, _ = loop
        assert output.set_selection(SelectionTarget.COMPOSE, PART) == PART
        assert output.selection(SelectionTarget.COMPOSE) == PART
        output.set_selection(SelectionTarget.COMPOSE, WHOLE)

    def test_one_that_is_not_there_is_refused(self, loop):
        output, camera = loop
        for queue, target in (
            (camera, SelectionTarget.COMPOSE_PADDED),
            (output, SelectionTarget.NATIVE_SIZE),
            (camera, 999),
        ):
            with pytest.raises(OSError, match="can't read its selection") as caught:
                queue.selection(target)
            assert caught.value.errno == errno.EINVAL

    def test_a_webcam_has_none(self, camera):
        with pytest.raises(OSError, match="can't read its selection CROP"):
            camera.selection(SelectionTarget.CROP)

    @pytest.mark.parametrize("wrong", [(1 << 31, 0, 1, 1), (0, 0, -1, 1), (0, 0, 1, 1 << 32)])
    def test_what_the_kernel_can_not_be_told_is_refused(self, camera, wrong):
        with pytest.raises(ValueError, match="a rectangle"):
            camera.set_selection(SelectionTarget.CROP, wrong)
        with pytest.raises(TypeError, match="a whole number"):
            camera.set_selection(SelectionTarget.CROP, (0.5, 0, 1, 1))


class TestFrameRates:
    def test_of_a_size_are_listed(self, camera):
        rates = camera.frame_rates("R8", cameras.WIDTH, cameras.HEIGHT)
        assert v4l2.FrameRate(25.0, 25.0) in rates
        assert v4l2.FrameRate(cameras.FAST, cameras.FAST) in rates

    def test_of_a_size_that_is_not_there_are_none(self, camera):
        assert camera.frame_rates("R8", 1, 1) == []

    def test_of_an_output_are_not_told(self, output):
        assert output.frame_rates("R8", 720, 480) == []


class TestTimings:
    def test_of_the_signal_are_those_that_are_set(self, loop):
        _, camera = loop
        found = camera.device.query_dv_timings()
        assert found == camera.device.dv_timings()[1]
        camera.device.set_dv_timings(found)

    def test_without_a_signal_there_are_none(self):
        with cameras.loop() as (_, camera):
            mode = camera.device.get_control("dv_timings_signal_mode")
            menu = camera.device.menu("dv_timings_signal_mode")
            values = {name: value for value, name in menu.items()}
            try:
                for name, number in (
                    ("No Signal", errno.ENOLINK),
                    ("No Lock", errno.ENOLCK),
                    ("Out of Range", errno.ERANGE),
                ):
                    camera.device.set_control("dv_timings_signal_mode", values[name])
                    with pytest.raises(
                        OSError, match="can't query its input's timings: "
                    ) as caught:
                        camera.device.query_dv_timings()
                    assert caught.value.errno == number
            finally:
                camera.device.set_control("dv_timings_signal_mode", mode)

    def test_of_a_webcam_are_none(self, camera):
        with pytest.raises(OSError, match="its input is not digital") as caught:
            camera.device.query_dv_timings()
        assert caught.value.errno == errno.ENODATA
