"""The colours that a device states are those in which its pictures are shown.

vivid draws eight bars of pure colours, and makes them into Y'CbCr or RGB as its controls tell it.
"""

import pytest
from helpers import cameras

from dmabuf.devices import v4l2
from dmabuf.image import ColorEncoding, ColorRange

pytestmark = pytest.mark.needs("vivid")

# White, yellow, cyan, green, magenta, red, blue, black.
BARS = [(r, g, b) for g in (255, 0) for r in (255, 0) for b in (255, 0)]
"""Red, green and blue of the pattern "100% Colorbar"."""
SETTINGS = ("test_pattern", "colorspace", "y_cbcr_encoding", "quantization")


@pytest.fixture
def camera():
    """Give a camera that shows the bars, and nothing else."""
    with cameras.camera() as camera:
        device = camera.device
        before = {name: device.get_control(name) for name in SETTINGS}
        choose(device, "test_pattern", "100% Colorbar")
        yield camera
        for name, value in before.items():
            device.set_control(name, value)


def choose(device: v4l2.Device, control: str, entry: str) -> None:
    """Set a menu by the name of an entry."""
    (value,) = (value for value, name in device.menu(control).items() if name == entry)
    device.set_control(control, value)


def show(camera: v4l2.Capture, name: str) -> tuple[v4l2.Format, list[tuple[int, int, int]]]:
    """Return the format, and the colour in the middle of each bar as it is shown."""
    format = camera.set_format(name, cameras.WIDTH, cameras.HEIGHT)
    with camera.stream() as frames, frames.frame(10) as frame:
        image = frame.image
        assert image.color_encoding is format.color_encoding
        assert image.color_range is format.color_range
        rgb = image.to_rgb()
    middle, width = rgb[cameras.HEIGHT // 2], cameras.WIDTH // 8
    return format, [tuple(middle[width * n + width // 2].tolist()) for n in range(8)]


def assert_near(shown, expected) -> None:
    """Fail if a colour is off by more than vivid's rounding and ours may be."""
    off = [
        max(abs(a - b) for a, b in zip(*pair, strict=True))
        for pair in zip(shown, expected, strict=True)
    ]
    assert max(off) <= 5, (shown, expected)


@pytest.mark.parametrize("quantization", ["Default", "Full Range", "Limited Range"])
@pytest.mark.parametrize(
    ("entry", "encoding"),
    [
        ("ITU-R 601", ColorEncoding.BT601),
        ("Rec. 709", ColorEncoding.BT709),
        ("xvYCC 601", ColorEncoding.BT601),
        ("xvYCC 709", ColorEncoding.BT709),
        ("BT.2020", ColorEncoding.BT2020),
        ("SMPTE 240M", ColorEncoding.SMPTE240M),
    ],
)
def test_each_encoding_and_range_is_shown_right(camera, entry, encoding, quantization):
    choose(camera.device, "y_cbcr_encoding", entry)
    choose(camera.device, "quantization", quantization)
    for name in ("YUYV", "NV16"):
        format, bars = show(camera, name)
        assert format.color_encoding is encoding
        full = quantization == "Full Range" and not entry.startswith("xv")
        assert format.color_range is (ColorRange.FULL if full else ColorRange.LIMITED)
        assert_near(bars, BARS)


@pytest.mark.parametrize(
    ("entry", "colorspace", "encoding"),
    [
        ("SMPTE 170M", v4l2.Colorspace.SMPTE170M, ColorEncoding.BT601),
        ("Rec. 709", v4l2.Colorspace.REC709, ColorEncoding.BT709),
        ("sRGB", v4l2.Colorspace.SRGB, ColorEncoding.BT601),
        ("BT.2020", v4l2.Colorspace.BT2020, ColorEncoding.BT2020),
        ("SMPTE 240M", v4l2.Colorspace.SMPTE240M, ColorEncoding.SMPTE240M),
    ],
)
def test_a_colorspace_has_its_own_encoding(camera, entry, colorspace, encoding):
    choose(camera.device, "colorspace", entry)
    format, bars = show(camera, "YUYV")
    assert format.colorspace is colorspace
    assert format.ycbcr_enc is v4l2.YCbCrEncoding.DEFAULT
    assert (format.color_encoding, format.color_range) == (encoding, ColorRange.LIMITED)
    assert_near(bars, BARS)


@pytest.mark.parametrize("quantization", ["Default", "Full Range", "Limited Range"])
def test_rgb_is_shown_in_the_range_that_is_stated(camera, quantization):
    choose(camera.device, "quantization", quantization)
    format, bars = show(camera, "XRGB8888")
    assert format.color_encoding is None
    limited = quantization == "Limited Range"
    assert format.color_range is (ColorRange.LIMITED if limited else ColorRange.FULL)
    assert_near(bars, BARS)


def test_grey_is_full_range_unless_another_is_stated(camera):
    format, bars = show(camera, "R8")
    assert (format.color_encoding, format.color_range) == (None, None)
    assert_near([bars[0], bars[7]], [BARS[0], BARS[7]])
    choose(camera.device, "quantization", "Limited Range")
    format, bars = show(camera, "R8")
    assert format.color_range is ColorRange.LIMITED
    assert_near([bars[0], bars[7]], [BARS[0], BARS[7]])
