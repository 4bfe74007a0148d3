"""A signal handler that raises, as Python's own for Ctrl-C does, loses nothing that was made.

It comes at each point at which Python runs handlers, of each call that makes something. Afterwards
the process has the descriptors, and the kernel the buffers, that it had before.
"""

import ast
import contextlib
import fcntl
import gc
import inspect
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers import buffers, interrupt
from helpers.leaks import descriptors, kernel_buffers

import dmabuf
from dmabuf import Access, _ioctl, _libc, _log, _processes, devices, share, sw_sync
from dmabuf._fd import Descriptor
from dmabuf.interop import ffmpeg, gstreamer
from dmabuf.share._events import Events
from dmabuf.share._listening import Listener

PATH = f"/tmp/dmabuf-test-interrupted-{os.getpid()}"
ABSTRACT = f"\0dmabuf-test-interrupted-{os.getpid()}"
# A logger looks at the names of all modules, a call each.
PASSED_OVER = [_log._name, _log._words, _log._fields]

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
"""What was made, and never got to its caller, is closed as it is collected."""


class Maker(NamedTuple):
    """A call that makes something."""

    make: Callable[[Any], Any]
    given: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Gives what each call is told."""
    needs: tuple[str, ...] = ()
    goes_through: tuple[str, ...] = ()
    """The functions of `_ioctl` and `_libc` that add what they make to a list."""


def a_heap():
    return dmabuf.Heap("system")


def a_buffer():
    return buffers.allocate(8192)


@contextlib.contextmanager
def a_fence():
    with a_buffer() as buffer, buffer.export_fence(Access.READ) as fence:
        yield fence


@contextlib.contextmanager
def a_buffer_and_a_fence():
    with a_buffer() as buffer, buffer.export_fence(Access.READ) as fence:
        yield buffer, fence


@contextlib.contextmanager
def a_memfd():
    number = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(number, 8192)
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        yield number
    finally:
        os.close(number)


@contextlib.contextmanager
def a_socket():
    """Give a socket that listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(ABSTRACT)
        sock.listen()
        yield sock


@contextlib.contextmanager
def a_caller():
    """Give a listener to which somebody has connected."""
    with (
        a_socket() as sock,
        contextlib.closing(Listener(sock, 0o600)) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client,
    ):
        client.connect(ABSTRACT)
        yield listener


@contextlib.contextmanager
def an_image():
    """Give an image with two planes, in a buffer each."""
    with a_buffer() as luma, a_buffer() as chroma:
        yield dmabuf.Image([luma, chroma], "NV12", 64, 32)


@contextlib.contextmanager
def a_drm_frame():
    with an_image() as image, ffmpeg.descriptor(image) as described:
        yield described


def look_at_this_process(_) -> None:
    def look(folder):
        _processes.links(folder)
        _processes.pieces(folder, _processes.threads(folder))
        _processes.identity(folder)

    _processes.with_folder("self", look)


BUFFER, FENCE = ("exporter",), ("exporter", "export")
HEAP, UDMABUF, SW_SYNC = ("heap",), ("udmabuf",), ("sw_sync",)
TWO_PAGES = (4096, 4096), (0, 4096)
MAKERS = {
    "Heap": Maker(lambda _: dmabuf.Heap("system"), nullcontext, HEAP),
    "Heap.allocate": Maker(lambda it: it.allocate(1), a_heap, HEAP, ("dma_heap_alloc",)),
    "Heap.allocate named": Maker(lambda it: it.allocate(1, name="test"), a_heap, HEAP),
    "allocate": Maker(lambda _: dmabuf.allocate(1, name="test"), nullcontext, HEAP),
    "Image.allocate": Maker(lambda _: dmabuf.Image.allocate("R8", 16, 16), nullcontext, HEAP),
    "Pool": Maker(lambda _: dmabuf.Pool(2, 4096), nullcontext, HEAP),
    "udmabuf.allocate": Maker(
        lambda _: dmabuf.udmabuf.allocate(1, name="test"), nullcontext, UDMABUF, ("udmabuf_create",)
    ),
    "udmabuf.from_memfd": Maker(dmabuf.udmabuf.from_memfd, a_memfd, UDMABUF),
    "udmabuf.from_memfds": Maker(
        lambda it: dmabuf.udmabuf.from_memfds([(it, *piece) for piece in TWO_PAGES]),
        a_memfd,
        UDMABUF,
        ("udmabuf_create_list", "ioctl"),
    ),
    "Buffer.dup": Maker(lambda it: it.dup(), a_buffer, BUFFER),
    "Buffer.from_fd": Maker(dmabuf.Buffer.from_fd, a_buffer, BUFFER),
    "Buffer.from_fd of a number": Maker(
        lambda it: dmabuf.Buffer.from_fd(it.fileno()), a_buffer, BUFFER
    ),
    "Buffer.memory": Maker(lambda it: it.memory, a_buffer, BUFFER),
    "Buffer.array": Maker(lambda it: it.array(4), a_buffer, BUFFER),
    "Buffer.name": Maker(lambda it: setattr(it, "name", "test"), a_buffer, BUFFER),
    "Buffer.exporter": Maker(lambda it: it.exporter, a_buffer, BUFFER),
    "Buffer.export_fence": Maker(
        lambda it: it.export_fence(Access.READ), a_buffer, FENCE, ("dma_buf_export_sync_file",)
    ),
    "Buffer.import_fence": Maker(
        lambda it: it[0].import_fence(it[1], Access.READ), a_buffer_and_a_fence, FENCE
    ),
    "Fence.dup": Maker(lambda it: it.dup(), a_fence, FENCE),
    "Fence.from_fd": Maker(dmabuf.Fence.from_fd, a_fence, FENCE),
    "Fence.merge": Maker(lambda it: it.merge(it, it, it), a_fence, FENCE, ("sync_merge",)),
    "Timeline": Maker(lambda _: sw_sync.Timeline(), nullcontext, SW_SYNC),
    "Timeline.fence": Maker(
        lambda it: it.fence(1), sw_sync.Timeline, SW_SYNC, ("sw_sync_create_fence",)
    ),
    "from_process": Maker(
        lambda it: share.from_process(os.getpid(), it.fileno()), a_buffer, BUFFER, ("pidfd_getfd",)
    ),
    "from_process of a fence": Maker(
        lambda it: share.from_process(os.getpid(), it.fileno()), a_fence, FENCE
    ),
    "Publisher": Maker(lambda _: share.Publisher(PATH)),
    "Subscriber": Maker(lambda _: share.Subscriber(PATH), lambda: share.Publisher(PATH)),
    "gstreamer.Sink": Maker(lambda _: gstreamer.Sink(PATH)),
    "gstreamer.Source": Maker(lambda _: gstreamer.Source(PATH), lambda: gstreamer.Sink(PATH)),
    "ffmpeg.descriptor": Maker(ffmpeg.descriptor, an_image, BUFFER),
    "ffmpeg.image": Maker(lambda it: ffmpeg.image(it.address, 64, 32), a_drm_frame, BUFFER),
    "Events": Maker(lambda _: Events(), goes_through=("timerfd_create",)),
    "Listener": Maker(lambda _: Listener(PATH, 0o600)),
    "Listener of a socket": Maker(lambda it: Listener(it, 0o600), a_socket),
    "Listener.accept": Maker(lambda it: it.accept(), a_caller),
    "devices.watch": Maker(lambda _: devices.watch()),
    "usage.scan": Maker(lambda _: dmabuf.usage.scan(processes=[os.getpid()]), a_buffer, BUFFER),
    "processes": Maker(look_at_this_process),
}


def close(made) -> None:
    """Close what a call has made, if that is something to be closed."""
    if hasattr(made, "close"):
        made.close()


def there() -> tuple[int, int, bool]:
    """Return what may not be lost: descriptors, buffers of the kernel's, a socket's path."""
    gc.collect()
    return descriptors(), kernel_buffers(), os.path.exists(PATH)


@pytest.fixture(autouse=True)
def nothing_stands_beside_the_path():
    """Remove a lock that was left: the next publisher takes it over."""
    yield
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{PATH}.lock")


def interrupt_at_every_point(maker: Maker) -> None:
    """Check that nothing is lost, nor held, wherever a handler raises."""
    with maker.given() as given:
        close(maker.make(given))  # what is imported late, and kept
        before = there()
        for moment in interrupt.every_point(*PASSED_OVER, finalizers=True):
            made = None
            with (
                contextlib.suppress(interrupt.Interrupted),
                moment.runs(interrupt.raise_interrupted),
            ):
                made = maker.make(given)
            close(made)
            del made
            assert there() == before, moment.where
        if isinstance(given, Descriptor):
            os.close(given.detach())  # EBUSY if it was held


def makers(chosen: Callable[[Maker], object]) -> list[Any]:
    return [
        pytest.param(maker, id=name, marks=pytest.mark.needs(*maker.needs))
        for name, maker in MAKERS.items()
        if chosen(maker)
    ]


class TestAHandlerThatRaises:
    @pytest.mark.parametrize("maker", makers(lambda _: True))
    def test_at_any_point_loses_nothing(self, maker):
        interrupt_at_every_point(maker)

    @pytest.mark.parametrize("maker", makers(lambda maker: maker.goes_through))
    def test_at_any_point_loses_nothing_where_ioctls_are_logged(self, maker, monkeypatch):
        for module, name in _log._ISSUERS:
            logged = _log._Logged(getattr(module, name), lambda *_: None)
            monkeypatch.setattr(module, name, logged)
        interrupt_at_every_point(maker)

    @pytest.mark.needs("heap")
    def test_while_the_kernel_allocates_loses_no_buffer(self):
        """With a timer and Python's own handler, as Ctrl-C comes."""
        alarm = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        ctrl_c = signal.signal(signal.SIGINT, signal.default_int_handler)
        before = there()
        try:
            with dmabuf.Heap("system") as heap:
                for seconds in (0.0001, 0.001, 0.01, 0.1):
                    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
                        signal.setitimer(signal.ITIMER_REAL, seconds)
                        heap.allocate(64 << 20).close()
                        time.sleep(60)
                    gc.collect()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, alarm)
            signal.signal(signal.SIGINT, ctrl_c)
        assert there() == before


def test_every_function_that_makes_something_is_in_the_table():
    def functions(module) -> set[str]:
        return {
            name
            for name, function in vars(module).items()
            if inspect.isfunction(function)
            and function.__module__ == module.__name__
            and "made" in inspect.signature(function).parameters
        }

    by_others = {"make", "ioctl_into", "_keep"}
    tried = {name for maker in MAKERS.values() for name in maker.goes_through}
    assert tried == (functions(_ioctl) | functions(_libc)) - by_others


@pytest.mark.needs("outside")
def test_nothing_in_the_package_makes_a_descriptor_beside_its_owner():
    """A call of these returns a number, which a handler can come before anybody has."""
    makers = {"open", "eventfd", "memfd_create", "pidfd_open", "dup", "pipe", "pipe2"}
    package = Path(dmabuf.__file__).parent
    commands = {"cli", "testing/vm"}  # a command ends by Ctrl-C
    found = {
        f"{path.relative_to(package)}: os.{call.func.attr}"
        for path in package.rglob("*.py")
        if not commands & {*map(str, path.relative_to(package).parents)}
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and (call.func.value.id, call.func.attr) in {("os", name) for name in makers}
    }
    assert not found
