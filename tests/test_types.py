"""What type checkers make of the package: mypy reads a program that uses it."""

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.needs("outside")  # it asks no kernel

DEVICES = """
    from typing_extensions import assert_type

    import dmabuf
    from dmabuf.devices import DrmDevice, HeapDevice, UdmabufDevice, V4l2Device, find, watch
    from dmabuf.devices.drm import DrmInfo
    from dmabuf.devices.v4l2 import V4l2Info

    for device in find():
        assert_type(device.path, str)
        assert_type(device.usable, bool)
        if device.kind == "heap":
            assert_type(device, HeapDevice)
            assert_type(device.info, dmabuf.HeapInfo)
        elif device.kind == "udmabuf":
            assert_type(device, UdmabufDevice)
        elif device.kind == "drm":
            assert_type(device, DrmDevice)
            assert_type(device.info, DrmInfo)
        else:
            assert_type(device, V4l2Device)
            assert_type(device.info, V4l2Info | None)

    event = watch().next(1.0)
    if event.device is not None and event.device.kind == "drm":
        assert_type(event.device, DrmDevice)
    assert event.kind != "camera"
"""
IMAGES = """
    from typing import Any

    import numpy
    from typing_extensions import assert_type

    import dmabuf

    class Picture(dmabuf.Image):
        pass

    assert_type(Picture.allocate("NV12", 640, 480), Picture)
    dmabuf.Image.allocate("NV12", 640, 480, allocate=dmabuf.Heap().allocate)
    with dmabuf.Image.allocate("NV12", 640, 480) as image:
        assert_type(image, dmabuf.Image)
        with image.read() as planes:
            assert_type(planes, tuple[numpy.ndarray[Any, Any], ...])

    async def look() -> None:
        async with image.read() as planes:
            assert_type(planes, tuple[numpy.ndarray[Any, Any], ...])

    image.width = 7
"""


@pytest.fixture
def complaints(tmp_path):
    """Give a function that returns what mypy says of a program, without the lines' numbers."""

    def check(program: str) -> list[str]:
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(program))
        options = ["--config-file=", "--strict", "--follow-imports=silent", "--no-error-summary"]
        command = [sys.executable, "-m", "mypy", *options, str(path)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not run.stderr, run.stderr
        return [line.split(": ", 1)[1] for line in run.stdout.splitlines()]

    return check


def test_devices_are_told_apart_by_their_kind(complaints):
    (complaint,) = complaints(DEVICES)
    assert complaint.startswith("error: Non-overlapping equality check")


def test_images_and_scopes_are_what_they_say(complaints):
    (complaint,) = complaints(IMAGES)
    assert complaint.startswith('error: Property "width" defined in "Image" is read-only')
