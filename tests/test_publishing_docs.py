"""The programs of the guide to publishing run as they stand, on the kernel's test camera."""

from __future__ import annotations

import os
import re
import select
from pathlib import Path

import pytest
from helpers import cameras
from helpers.program import running

GUIDE = (Path(__file__).parent.parent / "docs" / "publishing.md").read_text()
SERVICE, VIEWER = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)[:2]
SECONDS = 60


@pytest.mark.needs("vivid")
def test_the_guides_viewer_shows_the_frames_of_its_service(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    places = {"/run/camera.sock": path, "/dev/video0": str(cameras.find("vivid"))}
    programs = []
    for program in (SERVICE, VIEWER):
        for shown, here in places.items():
            program = program.replace(shown, here)
        programs.append(program)
    with running(programs[0]) as service:
        while not os.path.exists(path):
            assert service.poll() is None
            select.select([], [], [], 0.05)
        with running(programs[1]) as viewer:
            assert viewer.stdout is not None
            lines = [viewer.stdout.readline().split() for _ in range(3)]
    numbers = [int(number) for number, _ in lines]
    assert numbers == sorted(set(numbers))
