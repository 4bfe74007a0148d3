"""Every time-out is checked, in the same words, before anything is waited for."""

import ast
import contextlib
import inspect
import math
import os
from pathlib import Path

import pytest
from helpers import cameras, codecs, drm, screen
from helpers.compositor import Compositor

import dmabuf
from dmabuf import Access, devices, share
from dmabuf._arrivals import Arrivals
from dmabuf._owning import own
from dmabuf.devices import drm as drm_devices
from dmabuf.devices import v4l2
from dmabuf.devices.v4l2._frames import Frames
from dmabuf.interop import gstreamer, wayland

NOT_NUMBERS = ("x", b"1", [], 1j, object())
PATH = f"/tmp/dmabuf-test-timeouts-{os.getpid()}"


@contextlib.contextmanager
def a_fence():
    buffer = dmabuf.allocate(4096)
    with buffer, buffer.export_fence(Access.READ) as fence:
        yield fence


@contextlib.contextmanager
def a_display():
    with (
        devices.kms.Display(screen.path()) as display,
        screen.image(dmabuf.allocate) as image,
    ):
        yield display, image


@contextlib.contextmanager
def a_flip():
    with a_display() as (display, image):
        flip = display.show(image)
        assert flip.wait(60)
        yield flip


@contextlib.contextmanager
def a_syncobj():
    with drm_devices.Device(drm.node("timeline")) as gpu, drm_devices.Syncobj(gpu) as syncobj:
        yield syncobj


@contextlib.contextmanager
def a_reader(server, reader):
    with server(PATH), reader(PATH) as made:
        yield made


@contextlib.contextmanager
def a_listener():
    with cameras.camera() as camera, camera.device.events("brightness") as events:
        yield events


@contextlib.contextmanager
def a_coding():
    with v4l2.Encoder(v4l2.Encoder.find(codecs.CODED)) as encoder:
        encoder.set_format("NV12", codecs.WIDTH, codecs.HEIGHT, coded=codecs.CODED)
        with encoder.stream() as coding:
            yield coding


@contextlib.contextmanager
def a_window():
    with (
        Compositor(Path(PATH), {}) as compositor,
        wayland.Window(16, 16, display=compositor.path) as window,
        dmabuf.Image.allocate("XRGB8888", 16, 16) as image,
    ):
        yield window, image
    compositor.path.unlink(missing_ok=True)


WAITS = {
    "buffer.Buffer.wait": (
        ("heap",),
        lambda: dmabuf.allocate(4096),
        lambda it, timeout: it.wait(Access.READ, timeout),
    ),
    "fence.Fence.wait": (("heap", "export"), a_fence, lambda it, timeout: it.wait(timeout)),
    "waiting.wait_any": (
        ("heap",),
        lambda: dmabuf.allocate(4096),
        lambda it, timeout: dmabuf.wait_any([(it, Access.READ)], timeout),
    ),
    "pool.Pool.acquire": (
        ("heap",),
        lambda: dmabuf.Pool(1, 4096),
        lambda it, timeout: it.acquire(timeout).close(),
    ),
    "hotplug.Watch.next": (("vgem",), devices.watch, lambda it, timeout: it.next(timeout)),
    "flip.Flip.wait": (("heap", "display"), a_flip, lambda it, timeout: it.wait(timeout)),
    "display.Display.show": (
        ("heap", "display"),
        a_display,
        lambda it, timeout: it[0].show(it[1], timeout=timeout),
    ),
    "display.Display.capture": (
        ("heap", "display"),
        a_display,
        lambda it, timeout: it[0].capture(it[1], timeout=timeout),
    ),
    "stream.Stream.wait": (("vivid",), "camera", lambda it, timeout: it.wait(timeout)),
    "_frames.Frames.frame": (("vivid",), "camera", lambda it, timeout: it.frame(timeout)),
    "events.Events.next": (("vivid",), a_listener, lambda it, timeout: it.next(timeout)),
    "coding.Coding.wait": (("vicodec",), a_coding, lambda it, timeout: it.wait(timeout)),
    "coding.Coding.feed": (
        ("vicodec",),
        a_coding,
        lambda it, timeout: it.feed(b"", timeout=timeout),
    ),
    "coding.Coding.process": (
        ("vicodec",),
        a_coding,
        lambda it, timeout: list(it.process([b""], timeout)),
    ),
    "window.Window.next": (("heap",), a_window, lambda it, timeout: it[0].next(timeout)),
    "window.Window.show": (
        ("heap",),
        a_window,
        lambda it, timeout: it[0].show(it[1], timeout=timeout),
    ),
    "stream.OutputStream.queue": (("vivid",), "output", lambda it, timeout: it.queue((), timeout)),
    "syncobj.Syncobj.wait": (
        ("syncobj", "gpu"),
        a_syncobj,
        lambda it, timeout: it.wait(timeout=timeout),
    ),
    "syncobj.wait_all": (
        ("syncobj", "gpu"),
        a_syncobj,
        lambda it, timeout: drm_devices.wait_all([it], timeout),
    ),
    "syncobj.wait_any": (
        ("syncobj", "gpu"),
        a_syncobj,
        lambda it, timeout: drm_devices.wait_any([it], timeout),
    ),
    "publisher.Publisher.service": (
        (),
        lambda: share.Publisher(PATH),
        lambda it, timeout: it.service(timeout),
    ),
    "subscriber.Subscriber.frame": (
        (),
        lambda: a_reader(share.Publisher, share.Subscriber),
        lambda it, timeout: it.frame(timeout),
    ),
    "sink.Sink.wait": ((), lambda: gstreamer.Sink(PATH), lambda it, timeout: it.wait(timeout)),
    "sink.Sink.service": (
        (),
        lambda: gstreamer.Sink(PATH),
        lambda it, timeout: it.service(timeout),
    ),
    "source.Source.frame": (
        (),
        lambda: a_reader(gstreamer.Sink, gstreamer.Source),
        lambda it, timeout: it.frame(timeout),
    ),
}
"""By module and name: what the machine must have, what gives the object, and the call."""


@pytest.mark.parametrize(
    ("given", "call"),
    [
        pytest.param(given, call, id=name, marks=pytest.mark.needs(*features))
        for name, (features, given, call) in WAITS.items()
    ],
)
def test_what_is_no_time_is_refused(request, given, call):
    made = given() if callable(given) else request.getfixturevalue(given).stream(count=2)
    with made as it:
        for wrong in NOT_NUMBERS:
            words = f"timeout must be a number of seconds or None, not {type(wrong).__name__}"
            with pytest.raises(TypeError, match=words):
                call(it, wrong)
        with pytest.raises(
            ValueError, match="timeout must be a number of seconds or None, not nan"
        ):
            call(it, math.nan)


@pytest.mark.parametrize("kind", [share.Publisher, gstreamer.Sink])
@pytest.mark.parametrize("name", ["block", "hold_timeout"])
def test_a_time_that_nothing_can_take_is_refused(kind, name):
    for wrong in NOT_NUMBERS:
        words = f"{name} must be a number of seconds, not {type(wrong).__name__}"
        with pytest.raises(TypeError, match=words):
            kind(PATH, **{name: wrong})
    for wrong in (-1, math.inf, 10**400, math.nan):
        with pytest.raises(ValueError, match=f"{name} must be a number of seconds"):
            kind(PATH, **{name: wrong})


@pytest.mark.needs("heap")
@pytest.mark.parametrize("timeout", [0, -1, -math.inf, -(10**400), True])
def test_a_time_below_zero_has_passed(timeout):
    with dmabuf.Pool(1, 4096) as pool, pool.acquire(timeout), pytest.raises(TimeoutError):
        pool.acquire(0 if timeout is True else timeout)


class Idle(Arrivals):
    """What is said to have something, and has not."""

    def __init__(self):
        own(self, lambda made: made.append(os.eventfd(1, os.EFD_CLOEXEC)))

    def take(self):
        return None

    def _late(self, timeout):
        return TimeoutError("late")


class IdleFrames(Frames):
    def take(self):
        return None

    def wait(self, timeout=None):
        return True

    def _timed_out(self, timeout):
        return TimeoutError("late")


@pytest.mark.needs("outside")
@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_wait_that_finds_nothing_where_there_should_be_something_ends_in_time(timeout):
    with Idle() as events, pytest.raises(TimeoutError, match="late"):
        events.next(timeout)
    with pytest.raises(TimeoutError, match="late"):
        IdleFrames().frame(timeout)


INHERITED = {
    "_arrivals.Arrivals.next": {"events.Events.next", "hotplug.Watch.next"},
    "_capture.CapturedScreen.capture": {"display.Display.capture"},
    "_frames.Frames.wait": {"coding.Coding.wait", "stream.Stream.wait"},
}
"""What public classes have of those that are not public."""


@pytest.mark.needs("outside")
def test_every_function_with_a_time_out_is_in_the_table():
    package = Path(inspect.getfile(dmabuf)).parent
    found = set()
    for path in package.rglob("*.py"):
        folder = path.relative_to(package).parts[0]
        private = path.name.startswith("_") and path.stem not in (
            "_arrivals",
            "_capture",
            "_frames",
        )
        if folder in ("cli", "testing") or private:
            continue
        tree = ast.parse(path.read_text())
        owners = [("", tree)]
        owners += [(f"{node.name}.", node) for node in tree.body if isinstance(node, ast.ClassDef)]
        found |= {
            f"{path.stem}.{prefix}{node.name}"
            for prefix, owner in owners
            for node in owner.body
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            and not node.name.startswith("_")
            and "timeout" in {each.arg for each in (*node.args.args, *node.args.kwonlyargs)}
        }
    public = {name for one in found for name in INHERITED.get(one, {one})}
    assert public == set(WAITS)
