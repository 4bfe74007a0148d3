"""GStreamer's DmaBuf memory: ours handed in, and a camera's taken out."""

import json
import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("gstreamer", "vivid", "heap")

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found():
    """Return what the peer found; it needs the distribution's own Python, for GStreamer's."""
    names = Path("/sys/class/video4linux").glob("video*/name")
    camera = next(name for name in sorted(names) if name.read_text() == "vivid-000-vid-cap\n")
    node = f"/dev/{camera.parent.name}"
    command = ["/usr/bin/python3", HERE / "helpers" / "gstreamer_peer.py", node]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_our_buffer_goes_through_a_pipeline_without_a_copy(found):
    pipeline = found["pipeline"]
    assert pipeline["pushed"]
    assert pipeline["same"]
    assert pipeline["name"] == "ours"


def test_what_either_side_writes_the_other_reads(found):
    assert found["pipeline"]["read"]
    assert found["pipeline"]["written"]


def test_frames_of_v4l2src_are_buffers_that_the_processor_reads(found):
    frames = found["camera"]
    assert len(frames) == 3
    assert {frame["exporter"] for frame in frames} == {"videobuf2_vmalloc"}
    for frame in frames:
        assert frame["size"] >= 320 * 180 * 2
        assert frame["colours"] >= 8  # the test picture's bars
    assert len({frame["inode"] for frame in frames}) > 1
