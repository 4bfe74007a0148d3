"""The programs of the guides run as they stand, and print what the guides say."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import cameras, uvc_camera, weston

DOCS = Path(__file__).parent.parent / "docs"
GUIDES = {
    "../README": 4,
    "index": 2,
    "cameras": 6,
    "codecs": 3,
    "opencv": 4,
    "display": 2,
    "fences": 4,
    "images": 2,
    "opengl": 3,
    "sharing": 4,
    "usage": 4,
    "vulkan": 1,
    "wayland": 1,
}
"""The guides whose programs all say what they print, and how many these are."""
NEEDS = {
    "../README": ("heap", "vivid", "opencv", "display"),
    "index": ("heap",),
    "cameras": ("vivid", "no vim2m"),
    "codecs": ("vicodec",),
    "opencv": ("vivid", "uvc camera", "opencv", "heap"),
    "display": ("display", "heap"),
    "images": ("heap", "opencv"),
    "opengl": ("egl", "moderngl", "heap", "export"),
    "vulkan": ("vulkan", "heap", "export"),
    "wayland": ("weston", "heap"),
}
"""What the programs of a guide need, if not heap, vgem and export."""
CAMERA = "/dev/video0"
"""The guides' camera: vivid's node, or a webcam's for MJPG."""

FINISHED = re.compile(r"```python\n(.*?)```\n\nIt prints `(.*?)`\.", re.DOTALL)
PROGRAMS = [
    pytest.param(
        *program,
        id=f"{Path(guide).name}-{number}",
        marks=pytest.mark.needs(*NEEDS.get(guide, ("heap", "vgem", "export"))),
    )
    for guide in GUIDES
    for number, program in enumerate(FINISHED.findall((DOCS / f"{guide}.md").read_text()), 1)
]


@contextmanager
def camera(program: str) -> Iterator[str]:
    """Give the node of the camera that a program needs."""
    if '"MJPG"' in program:
        with uvc_camera.plugged_in() as usb:
            yield usb.path
    else:
        yield cameras.find("vivid") if CAMERA in program else CAMERA


@contextmanager
def desktop(program: str, folder: Path) -> Iterator[dict[str, str]]:
    """Give the environment of a program, in a desktop session if it needs a window."""
    if "wayland" in program:
        with weston.weston(folder) as compositor:
            yield compositor.environment
    else:
        yield dict(os.environ)


@pytest.mark.parametrize(("guide", "count"), GUIDES.items())
def test_each_program_says_what_it_prints(guide, count):
    text = (DOCS / f"{guide}.md").read_text()
    assert len(FINISHED.findall(text)) == text.count("```python") == count


@pytest.mark.parametrize(("program", "prints"), PROGRAMS)
def test_a_program_prints_what_its_guide_says(program, prints, tmp_path):
    path = tmp_path / "program.py"
    command = [sys.executable, "-W", "error", str(path)]
    with camera(program + prints) as node, desktop(program, tmp_path) as environment:
        path.write_text(program.replace(CAMERA, node))
        run = subprocess.run(command, capture_output=True, text=True, timeout=110, env=environment)
    prints = prints.replace(CAMERA, node)
    assert run.stderr == ""
    assert run.stdout == prints + "\n"
