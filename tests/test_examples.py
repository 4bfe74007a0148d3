"""The programs that users copy: those in examples/ run as they stand."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import cameras, codecs, drm, screen, uvc_camera

ROOT = Path(__file__).parent.parent


@pytest.mark.needs("heap", "vgem")
def test_handover_shows_each_frame_after_it_was_drawn(monkeypatch, capsys, tmp_path):
    from PIL import Image

    picture = tmp_path / "timeline.png"
    monkeypatch.setattr(sys, "argv", ["handover.py", str(picture)])
    runpy.run_path(str(ROOT / "examples" / "handover.py"), run_name="__main__")
    producer, consumer, *_ = capsys.readouterr().out.splitlines()
    for frame in "012":
        drawn = producer.index(frame)
        queued, shown = (place.start() for place in re.finditer(frame, consumer))
        assert drawn <= queued < shown
        assert "#" not in producer[shown + 1 : shown + 4]
    with Image.open(picture) as image:
        colours = {colour for _, colour in image.getcolors(1000)}
    assert {(0xC2, 0x41, 0x0C), (0x03, 0x69, 0xA1), (0xCB, 0xD5, 0xE1)} <= colours


@pytest.mark.needs("no heap", "no udmabuf")
def test_handover_without_an_exporter_ends_in_one_line():
    command = [sys.executable, str(ROOT / "examples" / "handover.py")]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("handover.py: no exporter could allocate 1048576 bytes: system")
    assert answer.stderr.count("\n") == 1


@pytest.mark.needs("heap", "vivid", "display", "screendump")
def test_camera_to_display_shows_what_the_camera_sees(monkeypatch, capsys):
    from PIL import Image

    script = ROOT / "examples" / "camera_to_display.py"
    wanted = ["--frames", "6", "--screendump", "camera.png"]
    monkeypatch.setattr(sys, "argv", [script.name, "--display", screen.path(), *wanted])
    runpy.run_path(str(script), run_name="__main__")
    out = capsys.readouterr().out
    for line in ("camera   /dev/video", "display  /dev/dri/card", "frames   6 of", "copies   none"):
        assert line in out
    assert out.count("attached to 0000:") == 4
    with Image.open(Path(os.environ["DMABUF_VM_OUT"], "camera.png")) as shot:
        width, height = shot.size
        bars = [shot.getpixel((width * bar // 16, height - 2)) for bar in range(1, 16, 2)]
    white, yellow, cyan, green, magenta, red, blue, black = ([c > 64 for c in bar] for bar in bars)
    assert white == [True] * 3
    assert black == [False] * 3
    assert [yellow, cyan, green] == [[True, True, False], [False, True, True], [False, True, False]]
    assert [magenta, red, blue] == [[True, False, True], [True, False, False], [False, False, True]]


@pytest.mark.needs("heap", "vivid", "display", "vicodec")
def test_a_cameras_frames_are_encoded_decoded_and_shown(monkeypatch, capsys):
    script = ROOT / "examples" / "camera_coded.py"
    words = ["--frames", "6", "--coded", codecs.CODED, "--camera", cameras.find("vivid")]
    monkeypatch.setattr(sys, "argv", [script.name, "--display", screen.path(), *words])
    runpy.run_path(str(script), run_name="__main__")
    camera, devices, frames, coded = capsys.readouterr().out.splitlines()
    assert camera.startswith("camera   /dev/video")
    assert devices.endswith(codecs.CODED)
    assert frames.startswith("frames   6 of ")
    assert 0 < float(coded.rpartition(" ")[2].removesuffix("%")) < 100


@pytest.mark.needs("heap", "vkms")
def test_a_display_is_captured(monkeypatch, capsys, tmp_path):
    from PIL import Image

    path, script = tmp_path / "screen.png", ROOT / "examples" / "screen_capture.py"
    monkeypatch.setattr(sys, "argv", [script.name, "--display", drm.find("vkms"), str(path)])
    runpy.run_path(str(script), run_name="__main__")
    assert ", vkms, " in capsys.readouterr().out
    with Image.open(path) as picture:
        width, height = picture.size
        corners = [picture.getpixel((x, y)) for x in (0, width - 1) for y in (0, height - 1)]
    assert corners == [(0, 0, 64), (0, 254, 64), (254, 0, 64), (254, 254, 64)]


@pytest.mark.needs("uvc camera")
def test_a_webcams_jpeg_frames_become_pictures(monkeypatch, capsys, tmp_path):
    from PIL import Image

    path = tmp_path / "webcam.png"
    script = ROOT / "examples" / "webcam_jpeg.py"
    with uvc_camera.plugged_in() as usb:
        words = ["--camera", usb.path, "--frames", "2", str(path)]
        monkeypatch.setattr(sys, "argv", [script.name, *words])
        runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.startswith("frame 0: ")
    with Image.open(path) as picture:
        assert picture.size == (uvc_camera.WIDTH, uvc_camera.HEIGHT)
        color = picture.getpixel((80, 60))
    wanted = uvc_camera.jpeg_color(1)
    assert all(abs(one - other) <= 3 for one, other in zip(color, wanted, strict=True))
