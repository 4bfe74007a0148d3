"""Uses of the package that leave nothing behind, and what they take: for ioctls that fail.

Each function whose name begins with an article or a number gives what others take.
"""

import fcntl
import os
from contextlib import ExitStack, contextmanager

import pytest

import dmabuf
from dmabuf import Access, _ioctl
from dmabuf.devices import kms, v4l2
from dmabuf.devices.drm import Device, Syncobj, Vgem
from dmabuf.devices.v4l2 import SelectionTarget, _controls_ioctl
from dmabuf.sw_sync import Timeline
from helpers import buffers, cameras, codecs, drm, screen, vgem

SIZE = 64 << 10
SOON = 1.0
"""Seconds: more than anything takes here, which a device that fails may never end."""
LONG = 30.0
"""More than a device that works ever takes, on however busy a machine."""


def a_heap():
    return dmabuf.Heap("system")


@contextmanager
def a_memfd():
    number = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(number, SIZE)
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        yield number
    finally:
        os.close(number)


@contextmanager
def two_fences():
    with Timeline() as one, Timeline() as other, one.fence(1) as first, other.fence(1) as second:
        yield first, second


@contextmanager
def eight_fences():
    with ExitStack() as stack:
        timelines = [stack.enter_context(Timeline()) for _ in range(8)]
        yield [stack.enter_context(timeline.fence(1)) for timeline in timelines]


@contextmanager
def a_merged_fence():
    with two_fences() as (first, second), first & second as merged:
        yield merged


@contextmanager
def a_buffer_and_a_fence():
    with buffers.allocate(SIZE) as buffer, Timeline() as timeline, timeline.fence(1) as fence:
        yield buffer, fence


@contextmanager
def a_path_and_a_buffer():
    with buffers.allocate(SIZE) as buffer:
        yield vgem.node(), buffer


@contextmanager
def a_gpu():
    with Device(drm.node("timeline")) as device:
        yield device


@contextmanager
def a_syncobj():
    with a_gpu() as device, Syncobj(device) as syncobj:
        yield syncobj


@contextmanager
def syncobjs_and_a_fence():
    with (
        a_syncobj() as one,
        Syncobj(one.device) as other,
        Timeline() as timeline,
        timeline.fence(0) as fence,
    ):
        yield one, other, fence


@contextmanager
def a_display(*, atomic=True):
    with (
        kms.Display(screen.path(), atomic=atomic) as display,
        screen.image(buffers.allocate) as image,
    ):
        assert display.show(image).wait(LONG)
        yield display, image


@contextmanager
def a_cameras_path():
    with cameras.camera() as camera:
        yield camera.device.path


@contextmanager
def a_taken_camera():
    """Give a camera whose buffers another descriptor has."""
    with cameras.camera() as camera, camera.stream(count=2):
        yield camera.device.path


def an_output():
    return v4l2.Output(cameras.find("vivid", output=True))


@contextmanager
def an_hdmi_input():
    with cameras.loop() as (_, camera):
        yield camera


@contextmanager
def an_encoder():
    with v4l2.Encoder(v4l2.Encoder.find(codecs.CODED)) as encoder:
        format = encoder.set_format("NV12", codecs.WIDTH, codecs.HEIGHT, coded=codecs.CODED)
        yield encoder, codecs.pictures(1, format)


@contextmanager
def a_decoder():
    packets = codecs.encoded(1)[1]
    with v4l2.Decoder(v4l2.Decoder.find(codecs.CODED)) as decoder:
        decoder.set_format(codecs.CODED, codecs.WIDTH, codecs.HEIGHT)
        yield decoder, packets[0].data


def access(given):
    buffer, _ = given
    with buffer.dup() as other, other.read_write() as memory:
        memory[0] = 1


def signal(timeline):
    with timeline.fence(1):
        timeline.advance()


def merge(fences):
    fences[0].merge(*fences[1:], name="all").close()


def exchange_fences(given):
    buffer, fence = given
    buffer.import_fence(fence, Access.READ)
    buffer.export_fence(Access.READ_WRITE).close()


def hold_by_a_fence(given):
    path, buffer = given
    with Vgem(path) as device, device.import_buffer(buffer) as gem:
        device.attach_fence(gem, Access.WRITE).signal()


def make_dumb(device):
    with device.create_dumb(64, 64, 32) as dumb:
        dumb.export().close()


def export_and_import(syncobj):
    with syncobj.export() as file, Syncobj.from_fd(syncobj.device, file):
        pass


def pass_on(given):
    one, other, fence = given
    one.import_fence(fence)
    one.transfer(other)
    other.export_fence().close()
    one.reset()
    one.signal()
    assert one.wait(timeout=0)


def reach_points(given):
    one, other, _ = given
    for syncobj in (one, other):
        syncobj.signal(syncobj.point + 1)
    assert one.wait(one.point, 0)
    one.event(one.point).close()


def open_a_display(path):
    kms.Display(path).close()


def show(given):
    display, image = given
    with screen.image(buffers.allocate) as other:
        assert display.show(other, timeout=SOON).wait(SOON)
    for _ in range(2):  # the framebuffer of the other goes once it is off the screen
        assert display.show(image, timeout=SOON).wait(SOON)


def set_a_mode(given):
    display, image = given
    mode = next(mode for mode in display.connector.modes if mode.size == screen.SIZE)
    name = "one" if display.mode.name == "other" else "other"
    assert display.show(image, mode=mode._replace(name=name), timeout=SOON).wait(SOON)


def negotiate(camera):
    [*_, size] = camera.frame_sizes("R8")
    camera.frame_rates("R8", size.min_width, size.min_height)
    camera.set_format("R8", cameras.WIDTH, cameras.HEIGHT)
    camera.set_frame_rate(cameras.FAST)
    assert camera.format().width == cameras.WIDTH
    camera.frame_rate()


def stream(path):
    with v4l2.Capture(path) as camera, camera.stream(count=2) as frames:
        frames.frame(SOON).queue()


def choose_an_input(camera):
    device = camera.device
    device.set_input(device.inputs().index("HDMI 000-0"))
    timings = device.dv_timings()[1]
    device.set_dv_timings(timings)
    assert device.query_dv_timings()


def choose_an_output(output):
    output.device.set_output(len(output.device.outputs()) - 1)


def control(camera):
    device = camera.device
    device.controls()
    device.menu("test_pattern")
    value = device.get_control("brightness")
    device.try_control("brightness", value)
    device.set_control("brightness", value)


def crop(camera):
    whole = camera.selection(SelectionTarget.CROP_DEFAULT)
    assert camera.set_selection(SelectionTarget.CROP, whole) == whole


def await_a_change(camera):
    with camera.device.events("brightness") as events:
        camera.device.set_control("brightness", camera.device.get_control("brightness") ^ 1)
        assert events.next(SOON)


def encode(given):
    encoder, pictures = given
    with encoder.stream(count=2) as coding:
        assert len([codecs.packet(frame) for frame in coding.process(pictures, SOON)]) == 1


def decode(given):
    decoder, data = given
    with decoder.stream(count=2) as coding:
        for frame in coding.process([data], SOON):
            frame.queue()


@contextmanager
def a_camera_that_knows_one_query():
    """Give a camera as USB's are up to Linux 6.12: to it, the newer query is no ioctl at all."""
    nobodys = _ioctl.request(_ioctl.READ | _ioctl.WRITE, "V", 255, 232)
    with cameras.camera() as camera, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_controls_ioctl, "VIDIOC_QUERY_EXT_CTRL", nobodys)
        yield camera
