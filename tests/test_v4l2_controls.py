"""Controls of V4L2 devices: each kind of vivid's is found, read, tried and set."""

import errno
import re
import subprocess

import numpy
import pytest
from helpers import cameras
from helpers.features import RELEASE

from dmabuf.devices import v4l2
from dmabuf.devices.v4l2 import ControlFlag, ControlId, ControlType

pytestmark = pytest.mark.needs("vivid")


KINDS = {
    "button": ControlType.BUTTON,
    "boolean": ControlType.BOOLEAN,
    "integer_32_bits": ControlType.INTEGER,
    "integer_64_bits": ControlType.INTEGER64,
    "menu": ControlType.MENU,
    "string": ControlType.STRING,
    "bitmask": ControlType.BITMASK,
    "integer_menu": ControlType.INTEGER_MENU,
}
"""Keys of those controls of vivid's that every kernel has, one of each kind."""


@pytest.fixture
def device():
    """Give a camera, open. What has a default has it again at the end."""
    with v4l2.Device(cameras.find("vivid")) as device:
        yield device
        for key in ("brightness", *KINDS):
            if key not in ("button", "string"):
                device.set_control(key, control(device, key).default)
        device.set_control("string", "  ")


def control(device: v4l2.Device, key: str) -> v4l2.Control | None:
    """Return a control; None if the device has none of this key."""
    return next((about for about in device.controls() if about.key == key), None)


class TestListing:
    def test_each_kind_is_told(self, device):
        types = {about.key: about.type for about in device.controls()}
        assert KINDS.items() <= types.items()
        assert ControlType.CTRL_CLASS not in types.values()

    def test_limits_are_told(self, device):
        brightness = control(device, "brightness")
        assert (brightness.id, brightness.name) == (ControlId.BRIGHTNESS, "Brightness")
        assert brightness[3:7] == (0, 255, 1, 128)
        assert ControlFlag.SLIDER in brightness.flags  # newer kernels have others too
        assert control(device, "integer_64_bits")[3:5] == (-(2**63), 2**63 - 1)
        assert control(device, "bitmask").maximum == 0x80402010
        assert control(device, "bitmask").default == 0x80002000

    def test_keys_are_those_of_v4l2_ctl(self, device):
        keys = {about.name: about.key for about in device.controls()}
        assert keys["Gain, Automatic"] == "gain_automatic"
        assert keys["Integer 32 Bits"] == "integer_32_bits"
        assert keys["Y'CbCr Encoding"] == "y_cbcr_encoding"

    @pytest.mark.needs("v4l2-ctl")
    def test_v4l2_ctl_lists_the_same_keys(self, device):
        words = ["v4l2-ctl", "-d", device.path, "--list-ctrls"]
        listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        theirs = dict(re.findall(r"^ *(\w+) 0x([0-9a-f]{8}) \(", listed, re.MULTILINE))
        ours = {about.key: f"{about.id:08x}" for about in device.controls()}
        assert theirs == {key: ours.get(key) for key in theirs}
        assert set(KINDS) <= set(theirs)

    def test_only_what_can_be_read_is_said_to_be_readable(self, device):
        for about in device.controls():
            if about.readable:
                device.get_control(about.id)
            else:
                with pytest.raises(PermissionError, match=f"read its control {about.key}: it can"):
                    device.get_control(about.id)
        assert not control(device, "button").readable
        assert control(device, "button").writable

    def test_menus_are_listed(self, device):
        assert device.menu("OSD Text Mode") == {0: "All", 1: "Counters Only", 2: "None"}
        assert device.menu("menu") == {1: "Menu Item 1", 3: "Menu Item 3", 4: "Menu Item 4"}
        assert device.menu("integer_menu").items() >= {5: 8, 6: 13, 7: 21, 8: 42}.items()
        assert device.menu("brightness") == {}

    @pytest.mark.parametrize("name", ["No Such Thing", 1, -5, 0x980001, 1 << 31, 1 << 40])
    def test_what_is_not_there_is_refused_with_what_is(self, device, name):
        for use in (
            device.menu,
            device.get_control,
            lambda name: device.set_control(name, 0),
            lambda name: device.try_control(name, 0),
        ):
            with pytest.raises(KeyError, match=f"no control {name!r}.*brightness"):
                use(name)


class TestNumbers:
    @pytest.mark.parametrize("name", ["Brightness", "brightness", ControlId.BRIGHTNESS, 0x980900])
    def test_are_set_by_name_key_and_id(self, device, name):
        assert device.set_control(name, 7) == 7
        assert device.get_control("brightness") == 7
        assert device.set_control(name, numpy.int16(128)) == 128

    def test_are_clamped_to_what_is_returned(self, device):
        assert device.try_control("brightness", 1000) == 255
        assert device.get_control("brightness") == 128
        assert device.set_control("brightness", 1000) == device.get_control("brightness") == 255
        assert device.set_control("brightness", -3) == device.get_control("brightness") == 0

    @pytest.mark.parametrize(
        ("key", "values"),
        [
            ("boolean", (0, 1)),
            ("integer_32_bits", (-(2**31), 0, 2**31 - 1)),
            ("integer_64_bits", (-(2**63), -1, 2**63 - 1)),
            ("bitmask", (0, 0x80002000, 0x00402010)),
            ("menu", (1, 3, 4)),
            ("integer_menu", (5, 8)),
        ],
    )
    def test_of_each_kind_come_back(self, device, key, values):
        for value in values:
            assert device.set_control(key, value) == value
            assert device.get_control(key) == value

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            *(("integer_32_bits", 2**31), ("integer_64_bits", 2**63), ("bitmask", -1)),
            *(("bitmask", 2**32), ("boolean", 10**30), ("button", 2**31)),
        ],
    )
    def test_beyond_what_the_kind_can_hold_are_refused(self, device, key, value):
        for use in (device.set_control, device.try_control):
            with pytest.raises(ValueError, match=f"{key} can't hold {value}"):
                use(key, value)

    @pytest.mark.parametrize("value", ["7", 1.5, None, [1]])
    def test_are_whole(self, device, value):
        with pytest.raises(TypeError, match=r"brightness .*whole numbers"):
            device.set_control("brightness", value)

    def test_a_menu_refuses_others_with_those_that_it_has(self, device):
        items = "1 .Menu Item 1., 3 .Menu Item 3., 4 .Menu Item 4."
        for value in (0, 2, 5):
            with pytest.raises(OSError, match=f"control menu: its values are {items}") as caught:
                device.set_control("menu", value)
            assert caught.value.errno in (errno.ERANGE, errno.EINVAL)
        assert device.get_control("menu") == 3

    def test_a_button_is_pressed(self, device):
        assert device.set_control("button", 1) is None
        with pytest.raises(PermissionError, match="can't read its control button"):
            device.get_control("button")

    def test_a_read_only_one_says_so(self, device):
        about = next(about for about in device.controls() if not about.writable)
        with pytest.raises(PermissionError, match=f"set its control {about.key}: it is read-only"):
            device.set_control(about.key, 0)


class TestOthers:
    def test_texts_come_back(self, device):
        about = control(device, "string")
        assert (about.minimum, about.maximum) == (2, 4)
        for text in ("ab", "abcd", "é1"):
            assert device.set_control("string", text) == text
            assert device.get_control("string") == text
        assert device.try_control("string", "xy") == "xy"
        assert device.get_control("string") == "é1"
        for wrong in ("a", "abcde", "a\0b", "éééé"):
            with pytest.raises(ValueError, match="string is a text of 2 to 4 bytes"):
                device.set_control("string", wrong)
        with pytest.raises(TypeError, match="string is set to a text, not to int"):
            device.set_control("string", 5)

    def test_arrays_have_their_shapes(self, device):
        arrays = [about for about in device.controls() if about.dims]
        kinds = {about.type for about in arrays}
        assert {ControlType.U8, ControlType.U16, ControlType.U32} <= kinds
        for about in arrays:
            value = device.get_control(about.id)
            dynamic = ControlFlag.DYNAMIC_ARRAY in about.flags
            assert value.shape == ((about.elems,) if dynamic else about.dims)
            assert value.itemsize == about.elem_size
            assert (value == about.default).all()
            changed = numpy.arange(value.size).reshape(value.shape) % 2 + about.minimum
            assert (device.set_control(about.id, changed) == changed).all()
            assert (device.get_control(about.id) == changed).all()
            over = numpy.full(value.shape, about.maximum) + 1
            if about.maximum < numpy.iinfo(value.dtype).max:
                assert (device.try_control(about.id, over) == about.maximum).all()
            else:
                with pytest.raises(ValueError, match=f"{about.key} has elements from"):
                    device.try_control(about.id, over)
            device.set_control(about.id, value)
            for wrong in (value[..., None], value.tobytes(), value.astype("f4")):
                with pytest.raises((ValueError, TypeError), match=about.key):
                    device.set_control(about.id, wrong)

    def test_a_dynamic_array_grows_and_shrinks(self, device):
        about = control(device, "u32_dynamic_array")
        if RELEASE < (6, 0):
            assert about is None
            return
        assert about.dims == (100,)
        for values in ([10, 20, 30], list(range(10, 90)), [50]):
            assert device.set_control(about.key, values).tolist() == values
            assert device.get_control(about.key).tolist() == values
        for wrong in ([], [10] * 101):
            with pytest.raises(ValueError, match=r"has the shape at most \(100,\)"):
                device.set_control(about.key, wrong)

    def test_areas_are_tuples(self, device):
        about = next((one for one in device.controls() if one.type is ControlType.AREA), None)
        if about is None:
            assert RELEASE < (6, 1)
            return
        assert device.get_control(about.key) == (1000, 2000)
        assert device.set_control(about.key, (3, 4)) == device.get_control(about.key) == (3, 4)
        device.set_control(about.key, (1000, 2000))
        for wrong in ((1,), (1, 2, 3), (-1, 2)):
            with pytest.raises(ValueError, match="area is set to a tuple"):
                device.set_control(about.key, wrong)

    def test_rectangles_are_tuples(self, device):
        about = next((one for one in device.controls() if one.type is ControlType.RECT), None)
        if about is None:
            assert RELEASE < (7, 0)
            return
        value = device.get_control(about.key)
        assert len(value) == 4
        assert device.set_control(about.key, value) == value
