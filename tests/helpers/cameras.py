"""vivid, the kernel's own test camera and video output, and vim2m, its memory-to-memory device."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from dmabuf.devices import v4l2
from dmabuf.devices.v4l2._ring import SlotState
from dmabuf.image import Image

SYSFS = Path("/sys/class/video4linux")
DRIVER = Path("/sys/bus/platform/drivers/vivid")
FAST = 60.0
"""Frames a second: the tests wait for few of them, and not for long."""
WIDTH, HEIGHT = 320, 180
_CONNECTED = "Is Connected To"


def nodes() -> list[v4l2.V4l2Info]:
    """Return what each V4L2 node says of itself, in the order of their numbers."""
    names = sorted((path.name for path in SYSFS.glob("video*")), key=lambda name: int(name[5:]))
    return [v4l2.inspect(f"/dev/{name}") for name in names]


def find(driver: str, *, output: bool = False, multi_planar: bool = False) -> str | None:
    """Return the path of a driver's first node of a kind; None without it."""
    for about in nodes():
        wanted = about.output if output else about.capture
        if about.driver == driver and wanted and about.multi_planar == multi_planar:
            return about.path
    return None


@contextlib.contextmanager
def camera(*, multi_planar: bool = False) -> Iterator[v4l2.Capture]:
    """Give vivid's webcam, whose pictures are all alike."""
    with v4l2.Capture(find("vivid", multi_planar=multi_planar)) as camera:
        camera.device.set_input(0)
        camera.device.set_control("OSD Text Mode", 2)
        camera.set_format("R8", WIDTH, HEIGHT)
        camera.set_frame_rate(FAST)
        yield camera


@contextlib.contextmanager
def loop(*, multi_planar: bool = False) -> Iterator[tuple[v4l2.Output, v4l2.Capture]]:
    """Give vivid's HDMI output and the HDMI input that it is connected to, byte for byte."""
    with (
        v4l2.Capture(find("vivid", multi_planar=multi_planar)) as camera,
        v4l2.Output(find("vivid", output=True, multi_planar=multi_planar)) as output,
    ):
        inputs, outputs = camera.device.inputs(), output.device.outputs()
        camera.device.set_input(inputs.index(_hdmi(inputs)))
        output.device.set_output(outputs.index(_hdmi(outputs)))
        for device in (camera.device, output.device):
            # A small format leaves vivid's crop small, and the next picture scaled: only timings
            # that differ from the last ones make it whole.
            other, wanted = device.dv_timings()[:2]
            device.set_dv_timings(other)
            device.set_dv_timings(wanted)
        camera.device.set_control("OSD Text Mode", 2)
        connect(output, camera)
        yield output, camera


def connect(output: v4l2.Output, camera: v4l2.Capture) -> None:
    """Connect the HDMI input to the HDMI output, unless it is.

    Linux 7.3's vivid forgets a new connection now and then, in a work queue of its own.
    """
    name, value = _connection(camera.device, _hdmi(output.device.outputs()))
    for _ in range(100):
        if camera.device.get_control(name) == value:
            return
        camera.device.set_control(name, value)
        time.sleep(0.05)
    raise AssertionError(f"vivid forgets again and again that {name} is {value}")


def _hdmi(names: list[str]) -> str:
    return next(name for name in names if name.startswith("HDMI"))


def _connection(device: v4l2.Device, output: str) -> tuple[str, int]:
    """Return the control that connects the input to an output, and its value."""
    for control in device.controls():
        if control.name.startswith("HDMI") and control.name.endswith(_CONNECTED):
            # "HDMI 000-0" is "Output HDMI 000-0" in the menu.
            menu = device.menu(control.name)
            return control.name, next(value for value in menu if menu[value].endswith(output))
    return "Loop Video", 1  # before Linux 6.12


def planes(image: Image) -> list[bytes]:
    """Return the bytes of each plane, as the processor sees them."""
    with image.read() as arrays:
        return [array.tobytes() for array in arrays]


def queued(frames: v4l2.Stream) -> int:
    """Return how many buffers of a stream the device has."""
    return frames._ring.count(SlotState.QUEUED)


@contextlib.contextmanager
def unplugged() -> Iterator[None]:
    """Have all of vivid's devices gone in the block; their numbers change if they are open."""
    unplug()
    try:
        yield
    finally:
        plug_in()


def unplug() -> None:
    """Unbind vivid's driver from all of its devices."""
    for about in nodes():
        if about.driver == "vivid" and about.capture:
            with v4l2.Device(about.path) as device:
                for control in device.controls():
                    # Linux 6.12 never frees an output for others whose input goes connected to it.
                    if control.name.endswith(_CONNECTED):
                        device.set_control(control.name, 0)
    (DRIVER / "unbind").write_text("vivid.0")


def plug_in() -> None:
    """Bind vivid's driver again."""
    (DRIVER / "bind").write_text("vivid.0")
