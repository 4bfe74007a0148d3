"""The examples that draw by a GPU run as they stand, and their pictures have what they drew."""

import os
import runpy
import sys
from pathlib import Path

import numpy
import pytest
from helpers import cameras

pytestmark = [pytest.mark.needs("export"), pytest.mark.timeout(100)]

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(monkeypatch, name: str, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def pixels(path: Path) -> numpy.ndarray:
    from PIL import Image

    with Image.open(path) as picture:
        return numpy.asarray(picture.convert("RGB"))


BARS = [
    *([True, True, True], [True, True, False], [False, True, True], [False, True, False]),
    *([True, False, True], [True, False, False], [False, False, True], [False, False, False]),
]
"""Which colours of vivid's bars are bright: from white and yellow to blue and black."""


@pytest.mark.usefixtures("gl_library")
@pytest.mark.needs("egl", "moderngl", "heap", "vivid")
def test_a_camera_goes_through_a_shader(monkeypatch, capsys, tmp_path):
    picture = tmp_path / "shader.png"
    words = ("--frames", 3, "--camera", cameras.find("vivid"), picture)
    run(monkeypatch, "camera_through_shader.py", *words)
    out = capsys.readouterr().out
    assert "3 of YUYV 640x480" in out
    assert "llvmpipe" in out
    check_halves(pixels(picture))


@pytest.mark.usefixtures("gl_library")
@pytest.mark.needs("egl", "moderngl", "heap", "vivid", "display", "screendump")
def test_a_camera_goes_through_a_shader_to_a_display(monkeypatch, capsys, tmp_path):
    name = "through-shader.png"
    words = ("--display", "--frames", 5, "--figures", "--screendump", name)
    run(monkeypatch, "camera_through_shader.py", *words, "--camera", cameras.find("vivid"))
    out = capsys.readouterr().out
    assert f"{name}: ok" in out
    assert "frames per second" in out
    seen = pixels(Path(os.environ["DMABUF_VM_OUT"], name))
    check_halves(seen[:, :640])
    written = numpy.any(seen[:, 640:] < 128, axis=(1, 2)).astype(int)
    rows = numpy.count_nonzero(numpy.diff(written) > 0)
    assert rows >= len(out.splitlines()) - 2  # all but what the virtual machine said


def check_halves(seen: numpy.ndarray) -> None:
    """Assert that a picture is vivid's, and below that the negative."""
    height, width, _ = seen.shape
    middles = [width * bar // 16 for bar in range(1, 16, 2)]
    assert (seen[height // 2 - 2, middles] > 128).tolist() == BARS
    assert (seen[height - 2, middles] <= 128).tolist() == BARS


@pytest.mark.needs("vulkan", "heap", "vivid")
def test_a_camera_is_cropped_by_vulkan(monkeypatch, capsys, tmp_path):
    picture = tmp_path / "middle.png"
    words = ("--frames", 3, "--camera", cameras.find("vivid"), picture)
    run(monkeypatch, "camera_cropped_by_vulkan.py", *words)
    out = capsys.readouterr().out
    assert "vivid, XRGB8888" in out
    assert "llvmpipe" in out
    seen = pixels(picture)
    assert seen.shape[:2] == (180, 320)
    middle = (seen[-2, [40, 120, 200, 280]] > 128).tolist()
    assert middle == BARS[2:6]


@pytest.mark.usefixtures("gl_library")
def test_a_texture_becomes_an_image(monkeypatch, capsys, tmp_path):
    picture = tmp_path / "colours.png"
    run(monkeypatch, "texture_to_image.py", picture)
    assert "image  <dmabuf.Image ABGR8888 320x200" in capsys.readouterr().out
    seen = pixels(picture).astype(int)
    assert seen.shape == (200, 320, 3)
    across = (numpy.arange(320) + 0.5) / 320 * 255
    down = (numpy.arange(200) + 0.5) / 200 * 255
    assert abs(seen[..., 0] - across).max() <= 1
    assert abs(seen[..., 1] - down[:, None]).max() <= 1
    assert (seen[..., 2] == 64).all()
