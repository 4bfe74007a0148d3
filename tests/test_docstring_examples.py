"""The examples of the public classes run as they stand, with what they name."""

from __future__ import annotations

import ast
import contextlib
import os
import queue
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers import cameras, drm, screen, vgem
from helpers.docstrings import examples, public_modules

import dmabuf
from dmabuf import Access, share, sw_sync, usage
from dmabuf.devices import v4l2
from dmabuf.devices.drm import Syncobj, Vgem
from dmabuf.devices.kms import Display
from dmabuf.interop import egl, gstreamer

ELSEWHERE = {
    "share.Publisher": "docs/publishing.md",
    "share.Subscriber": "docs/publishing.md",
    "share.SharedFrame": "docs/publishing.md",
    "devices.Watch": "test_hotplug",
    **{f"devices.v4l2.{what}": "test_v4l2_events" for what in ("Event", "EventType", "Events")},
    **{f"devices.v4l2.{what}": "test_v4l2_codec" for what in ("Coding", "Decoder", "Encoder")},
    "interop.ffmpeg.Descriptor": "test_ffmpeg",
    "interop.gstreamer.Sink": "test_gstreamer_sink",
    "interop.gstreamer.Source": "test_gstreamer_unixfd",
    "interop.gstreamer.PipelineFrame": "test_gstreamer_unixfd",
    **dict.fromkeys(("interop.egl.Context", "interop.egl.EglImage"), "test_egl"),
    **{f"interop.wayland.{what}": "test_wayland" for what in ("Flip", "Window", "WindowEvent")},
    **{f"interop.vulkan.Vulkan{what}": "test_vulkan" for what in ("Buffer", "Image", "Semaphore")},
}
"""What never ends, or needs a GPU's driver or another process, and where that is run."""
ALL = ("heap", "udmabuf", "vgem", "export", "vivid", "display", "syncobj")
"""What the others need, all together: a kernel of ours that has one of them has all."""
MORE = {
    "HeapInfo": ("CMA heap",),
    "sw_sync.Timeline": ("sw_sync",),
    "testing.SwSyncSource": ("sw_sync",),
}

CLASSES = {
    f"{module.__name__}.{name}".removeprefix("dmabuf."): (module, getattr(module, name))
    for module in public_modules()
    for name in getattr(module, "__all__", ("Limits", "Timeline"))
    if isinstance(getattr(module, name, None), type)
}
MODULES = [dmabuf, os, pytest, select, socket, time, egl, gstreamer, share, sw_sync, usage, v4l2]

Given = dict[str, Callable[[contextlib.ExitStack], Any]]


def found(kind: str) -> Callable[[contextlib.ExitStack], Any]:
    """Return what finds the first device of a kind."""
    return lambda _: next(device for device in dmabuf.devices.find() if device.kind == kind)


def opened(make: Callable[[], Any]) -> Callable[[contextlib.ExitStack], Any]:
    """Return what opens something until the example has run."""
    return lambda stack: stack.enter_context(make())


def message(stack: contextlib.ExitStack, *, garbage: bool = False) -> socket.socket:
    """Return a socket with a message of one buffer, or with what is no message."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stack.enter_context(ours)
    stack.enter_context(theirs).setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    if garbage:
        ours.send(b"garbage")
    else:
        with dmabuf.allocate(4096) as buffer:
            buffer.send(ours)
    return theirs


def output(stack: contextlib.ExitStack) -> v4l2.Output:
    """Return a video output for frames of RGB."""
    output = stack.enter_context(v4l2.Output(cameras.find("vivid", output=True)))
    output.set_format("RGB888", 640, 360)
    return output


def frames(stack: contextlib.ExitStack) -> v4l2.Stream:
    """Return a running stream of a camera."""
    return stack.enter_context(stack.enter_context(cameras.camera()).stream())


def hdmi_camera(stack: contextlib.ExitStack) -> v4l2.Capture:
    """Return a camera that has a selection: vivid's webcam has none."""
    _, camera = stack.enter_context(cameras.loop())
    return camera


def changed_range(_: contextlib.ExitStack) -> v4l2.Event:
    """Return what tells that a control has other limits."""
    return v4l2.Event(v4l2.EventType.CONTROL, 0, v4l2.ControlChange.RANGE, 0, 0.0)


def memfd(stack: contextlib.ExitStack) -> int:
    """Return a memfd that takes no seals."""
    number = os.memfd_create("example")
    stack.callback(os.close, number)
    return number


def leak() -> None:
    """Leave a buffer open, which is closed as the exception goes on."""
    kept = []
    try:
        with usage.leak_check():
            kept.append(dmabuf.allocate(4096, name="ring-2"))
    finally:
        kept[0].close()


def leak_error(_: contextlib.ExitStack) -> usage.LeakError:
    """Return the error of a leak."""
    with pytest.raises(usage.LeakError) as caught:
        leak()
    return caught.value


@contextlib.contextmanager
def idle_fence() -> Iterator[dmabuf.Fence]:
    with dmabuf.allocate(4096) as buffer, buffer.export_fence(Access.READ) as fence:
        yield fence


@contextlib.contextmanager
def signalled_syncobj() -> Iterator[Syncobj]:
    with dmabuf.devices.drm.Device(drm.node("timeline")) as gpu, Syncobj(gpu) as syncobj:
        syncobj.signal(1)
        yield syncobj


def hdmi_input(stack: contextlib.ExitStack) -> v4l2.Device:
    """Return a device whose input has timings."""
    device = stack.enter_context(v4l2.Device(cameras.find("vivid")))
    before = device.inputs()
    device.set_input(next(number for number, name in enumerate(before) if name[:4] == "HDMI"))
    stack.callback(device.set_input, 0)
    return device


GIVEN: Given = {
    "another_gpu": opened(lambda: dmabuf.devices.drm.Device(drm.node("timeline"))),
    "before": lambda _: usage.scan(),
    "buffer": opened(lambda: dmabuf.allocate(4 << 20)),
    "camera": opened(cameras.camera),
    "device": opened(lambda: v4l2.Device(cameras.find("vivid"))),
    "display": opened(lambda: Display(screen.path())),
    "error": leak_error,
    "event": lambda _: dmabuf.devices.Event("change", "drm", "/dev/dri/card0", None),
    "fd": lambda _: os.open("/dev/null", os.O_RDONLY),
    "fence": opened(idle_fence),
    "frames": frames,
    "image": opened(lambda: dmabuf.Image.allocate("XRGB8888", *screen.SIZE)),
    "is_viewer": lambda _: True,
    "layout": lambda _: dmabuf.image.FORMATS["NV12"].planes[0],
    "memfd": memfd,
    "output": output,
    "publisher": opened(lambda: share.Publisher("@dmabuf-example")),
    "queue": lambda _: queue.Queue(),
    "run_the_leaky_pipeline": lambda _: leak,
    "sink": opened(lambda: gstreamer.Sink("sink.sock")),
    "sock": message,
    "syncobj": opened(signalled_syncobj),
    "vgem": opened(Vgem),
}
NV12 = {"image": opened(lambda: dmabuf.Image.allocate("NV12", 640, 480))}
OF_CLASS: dict[str, Given] = {
    "devices.DrmDevice": {"device": found("drm")},
    "devices.HeapDevice": {"device": found("heap")},
    "devices.Node": {"device": found("drm")},
    "devices.UdmabufDevice": {"device": found("udmabuf")},
    "devices.V4l2Device": {"device": found("v4l2")},
    "devices.v4l2.ControlChange": {"event": changed_range},
    "devices.v4l2.Rectangle": {"camera": hdmi_camera},
    "devices.v4l2.SelectionTarget": {"camera": hdmi_camera},
    "devices.v4l2.Timings": {"device": hdmi_input},
    "image.ImageScope": NV12,
    "image.Plane": {**NV12, "device": opened(Vgem)},
    "share.MessageError": {"sock": lambda stack: message(stack, garbage=True)},
}
"""What is another thing in the example of a class than in the others."""


def of_this_machine(example: str, name: str) -> str:
    """Return the example of a class with the nodes that this machine has."""
    here = {
        "/dev/video0": cameras.find("vivid"),
        "/dev/video1": cameras.find("vivid", output=True),
        "/dev/dri/card0": screen.path(),
        "/dev/dri/renderD128": drm.node("timeline") if name.endswith("Syncobj") else vgem.node(),
    }
    return re.sub("|".join(here), lambda place: here[place[0]], example)


def names_used(tree: ast.Module) -> set[str]:
    """Return the names that an example uses and does not set itself."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return {node.id for node in names} - {
        node.id for node in names if isinstance(node.ctx, ast.Store)
    }


def close_all(values: list[object]) -> None:
    """Close what an example has opened and, as the caller's own, left so."""
    for value in values:
        if isinstance(value, list):
            close_all(value)
        elif type(value).__module__.startswith("dmabuf.") and hasattr(value, "close"):
            value.close()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.needs(*ALL, *MORE.get(name, ())))
        for name in sorted(CLASSES.keys() - ELSEWHERE)
    ],
)
def test_the_example_of_a_class_runs(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    home, kind = CLASSES[name]
    public = getattr(home, "__all__", ())
    known: dict[str, Any] = {"Access": Access, **vars(home)}
    known |= {name: getattr(home, name) for name in public}
    known |= {module.__name__.rpartition(".")[2]: module for module in MODULES}
    makers = GIVEN | OF_CLASS.get(name, {})
    with contextlib.ExitStack() as stack:
        stack.enter_context(dmabuf.allocate(4096))  # what `usage` finds
        for example in examples(kind.__doc__):
            tree = ast.parse(of_this_machine(example, name))
            for thing in sorted(names_used(tree) & makers.keys()):
                known[thing] = makers.pop(thing)(stack)
            before = set(map(id, known.values()))
            exec(compile(tree, name, "exec"), known)
            close_all([value for value in known.values() if id(value) not in before])
