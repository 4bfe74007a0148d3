"""What the tests stand on: the machine's exporters, and the count of what must not leak."""

from __future__ import annotations

import contextlib
import gc
import socket
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from helpers import buffers, cameras, fences, screen, sockets
from helpers.features import (
    ABSENT,
    FEATURES,
    IN_OUR_MACHINE,
    KERNEL,
    SHARED,
    is_run_elsewhere,
    needs,
)
from helpers.leaks import descriptors, kernel_buffers
from helpers.publishing import Ring

import dmabuf
from dmabuf.cli import main
from dmabuf.devices.drm import Device, GemBuffer, Vgem
from dmabuf.devices.kms import Display
from dmabuf.devices.v4l2 import Capture, Output
from dmabuf.image import Image
from dmabuf.interop.egl import Context
from dmabuf.testing import PendingFence
from dmabuf.usage.leaks import LeakCheck


def pytest_configure(config: pytest.Config) -> None:
    names = ", ".join(FEATURES)
    config.addinivalue_line("markers", f"needs(*features): what the machine must have: {names}")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file of the whole suite in vain: emulated, that takes half a second each."""
    whole_suite = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return True if whole_suite and is_run_elsewhere(collection_path) else None


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> None:
    """Have a test's `gc.collect()` walk what the tests of its file have made, and no more."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let plugins that sum up see all objects again."""
    gc.unfreeze()


def needs_of(item: pytest.Function) -> set[str]:
    """Return what a test's marks name, and what the fixtures that it asks for need."""
    needed = {name for mark in item.iter_markers("needs") for name in mark.args}
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        needed.update(getattr(definitions[-1].func, "needs", ()))
    return needed


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, by name, what this stock kernel is known to lack; skip what another machine lacks.

    In the project's own virtual machine nothing is skipped: what is missing there and is not in the
    table fails in the test that needs it.
    """
    absent = {name for name, feature in FEATURES.items() if not feature.is_there()}
    kept, left_out = [], []
    for item in items:
        needed = needs_of(item)
        assert needed <= set(FEATURES), f"{item.nodeid} needs something unknown: {needed}"
        missing = needed & absent
        is_absent = bool(missing) and missing <= ABSENT.get(KERNEL, set())
        if IN_OUR_MACHINE and (is_absent or (SHARED and not needed)):
            left_out.append(item)
            continue
        if missing and not IN_OUR_MACHINE:
            cause = "; ".join(FEATURES[name].words for name in sorted(missing))
            item.add_marker(pytest.mark.skip(reason=f"this needs {cause}"))
        kept.append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what skips in the project's own virtual machine, however it does."""
    report = yield
    if IN_OUR_MACHINE and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"nothing is skipped in our own machine: {report.longrepr}"
    return report


@pytest.fixture(scope="module", autouse=True)
def open_before() -> LeakCheck:
    """Look at what is open before the tests of a file, for `nothing_leaks` to compare with."""
    with LeakCheck(ends=lambda frame: True) as check:
        return check


@pytest.fixture(autouse=True)
def nothing_leaks(open_before: LeakCheck) -> Iterator[None]:
    """Fail a test that leaves any descriptor, or a buffer of the whole kernel, behind.

    To count takes no time. If the counts differ, the leak check tells which buffers, fences and
    devices these are; where they were opened is told by DMABUF_TRACE=1 pytest --dmabuf-leak-check.
    """
    before = descriptors(), kernel_buffers()
    yield
    after = descriptors(), kernel_buffers()
    if after != before:
        gc.collect()
        after = descriptors(), kernel_buffers()
    if after != before:
        open_before.require_none()
    assert after == before, f"descriptors and kernel buffers: {before} before, {after} after"


@pytest.fixture(scope="session")
@needs("exporter")
def allocate() -> Callable[..., dmabuf.Buffer]:
    """Return a function that allocates (size, *, name): the system heap's, or vgem's without it."""
    return buffers.allocate


@pytest.fixture
def buffer(allocate: Callable[..., dmabuf.Buffer]) -> Iterator[dmabuf.Buffer]:
    """Give a buffer of two pages, closed at the end."""
    with allocate(8192) as buffer:
        yield buffer


@pytest.fixture
def other(allocate: Callable[..., dmabuf.Buffer]) -> Iterator[dmabuf.Buffer]:
    """Give a second buffer of two pages."""
    with allocate(8192) as buffer:
        yield buffer


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Return a path for a socket, where nothing is yet."""
    return str(tmp_path / "s")


@pytest.fixture(params=list(sockets.KINDS.values()), ids=list(sockets.KINDS))
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give the two ends of a Unix socket of each kind."""
    with sockets.socketpair(request.param) as pair:
        yield pair


@pytest.fixture(params=list(sockets.CONNECTED.values()), ids=list(sockets.CONNECTED))
def connected(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give the two ends of a Unix socket of each kind that has an end: no datagrams."""
    with sockets.socketpair(request.param) as pair:
        yield pair


@pytest.fixture(params=fences.SOURCES)
def source(request: pytest.FixtureRequest) -> Iterator[fences.Source]:
    """Give a source of pending fences: each that this machine has."""
    with request.param() as source:
        yield source


@pytest.fixture
def pending(source: fences.Source) -> Iterator[PendingFence]:
    """Give a fence that is active until `pending.signal()`."""
    pending = source.pending()
    with pending.fence:
        yield pending


@pytest.fixture
@needs("vgem")
def device() -> Iterator[Vgem]:
    """Give vgem; what is pending at the end signals."""
    with Vgem() as device:
        yield device


@pytest.fixture
def gem(buffer: dmabuf.Buffer, device: Vgem) -> Iterator[GemBuffer]:
    """Give the buffer as vgem has it."""
    with device.import_buffer(buffer) as gem:
        yield gem


@pytest.fixture
@needs("display")
def attached(buffer: dmabuf.Buffer) -> Iterator[str]:
    """Give the name of a device that the buffer is attached to: none is to its own exporter."""
    path = screen.path()
    with Device(path) as device, device.import_buffer(buffer):
        yield Path("/sys/class/drm", Path(path).name, "device").resolve().name


@pytest.fixture
@needs("display")
def display() -> Iterator[Display]:
    """Give the display that imports buffers; the screen is restored at the end."""
    with Display(screen.path()) as display:
        yield display


@pytest.fixture
def images(allocate: Callable[..., dmabuf.Buffer]) -> Iterator[tuple[Image, Image]]:
    """Give two images of the size of a display's mode."""
    with screen.image(allocate) as one, screen.image(allocate) as two:
        yield one, two


@pytest.fixture
@needs("vivid")
def camera() -> Iterator[Capture]:
    """Give the capture queue of a single-planar camera."""
    with cameras.camera() as camera:
        yield camera


@pytest.fixture
@needs("vivid")
def output() -> Iterator[Output]:
    """Give a single-planar output."""
    with Output(cameras.find("vivid", output=True)) as output:
        output.set_format("R8", cameras.WIDTH, cameras.HEIGHT)
        yield output


@pytest.fixture(scope="session")
@needs("egl")
def gl_library() -> None:
    """Have OpenGL's driver open what it keeps, before anything is counted."""
    from helpers import gl  # which few tests need, and the libraries behind it

    with Context():
        gl.delete_texture(gl.new_texture(4, 4))


@pytest.fixture
def context(gl_library: None) -> Iterator[Context]:
    """Give a context of OpenGL ES, which is current."""
    with Context() as context:
        yield context


@pytest.fixture
@needs("exporter")
def ring(allocate: Callable[..., dmabuf.Buffer]) -> Iterator[Ring]:
    """Give as many buffers as a publisher needs by its documentation: two in flight, the last one,
    one in quarantine, and a camera's two."""
    with contextlib.closing(Ring(allocate, 2 + 1 + 1 + 2)) as ring:
        yield ring


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs dmabuf-alloc in this process: its status, output and errors."""

    def run(*words: str) -> tuple[int, str, str]:
        return main(words), *capfd.readouterr()

    return run
