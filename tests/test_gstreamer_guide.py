"""The programs and pipelines of the guide to GStreamer run as they stand, on the test camera."""

from __future__ import annotations

import re
import select
import shlex
from pathlib import Path

import pytest
from helpers import cameras
from helpers.pipelines import Pipelines
from helpers.program import running

pytestmark = pytest.mark.needs("unixfd", "vivid")

GUIDE = (Path(__file__).parent.parent / "docs" / "gstreamer.md").read_text()
SOURCE, SINK = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
INTO_PYTHON, FROM_PYTHON = re.findall(r"```sh\ngst-launch-1.0 (.*?)```", GUIDE, re.DOTALL)
SECONDS = 60


@pytest.fixture
def pipelines(tmp_path: Path) -> Pipelines:
    return Pipelines(tmp_path)


@pytest.fixture
def here(tmp_path: Path):
    """Put this machine's camera and sockets of the test into the guide's words."""
    places = {
        "/dev/video0": str(cameras.find("vivid")),
        "/tmp/out.sock": str(tmp_path / "out.sock"),
        "/tmp/in.sock": str(tmp_path / "in.sock"),
        "videoconvert ! autovideosink": "fakesink num-buffers=3",  # nobody looks
    }
    return lambda text: re.sub("|".join(places), lambda found: places[found[0]], text)


def wait_for(path: Path) -> None:
    while not path.exists():
        select.select([], [], [], 0.05)


def test_the_guides_source_shows_a_pipelines_frames(pipelines, here, tmp_path):
    with pipelines.launch(*shlex.split(here(INTO_PYTHON))):
        wait_for(tmp_path / "out.sock")
        with running(here(SOURCE)) as program:
            lines = [program.stdout.readline().split() for _ in range(3)]
    stamps = [int(stamp) for stamp, _ in lines]
    assert stamps == sorted(set(stamps))
    assert all(0 < float(mean) < 255 for _, mean in lines)


def test_the_guides_sink_fills_a_pipeline(pipelines, here, tmp_path):
    with running(here(SINK)) as program:
        wait_for(tmp_path / "in.sock")
        with pipelines.launch(*shlex.split(here(FROM_PYTHON))) as pipeline:
            assert pipeline.wait(SECONDS) == 0
        assert program.poll() is None
