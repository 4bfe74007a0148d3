"""The pytest plugin `dmabuf`: leak checks, and the devices that a test needs.

It does nothing until an option, a mark or a fixture asks for it. docs/testing.md is its manual; `-p
no:dmabuf` disables it. Needs pytest: `pip install dmabuf[testing]`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    import dmabuf
    from dmabuf.devices.kms import Display
    from dmabuf.devices.v4l2 import Capture
    from dmabuf.testing.fences import PendingFence

_WORDS = ("heap", "udmabuf", "vgem", "debugfs", "camera", "display")
_MARKS = """\
dmabuf_leak_check(enabled=True, *, trace=False, children=False): fail the test if it leaves \
dma-bufs, fences or devices open; False: not under --dmabuf-leak-check either."""
# What runs tests, and is no news to who reads where a buffer was allocated.
_RUNNERS = ("_pytest", "pluggy", "unittest", "asyncio", "anyio", "trio")

_Opened = TypeVar("_Opened")
_pardon = pytest.StashKey[Callable[[], AbstractContextManager[None]]]()
_unfinished = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("dmabuf", "Linux dma-buf")
    group.addoption(
        "--dmabuf-leak-check",
        action="store_true",
        help="fail each test that leaves dma-bufs, fences or devices open; DMABUF_TRACE=1 in the "
        "environment tells where they were opened",
    )
    group.addoption(
        "--dmabuf-require",
        action="append",
        choices=_WORDS,
        default=[],
        help="fail the tests that would be skipped since the machine lacks this; repeatable",
    )
    group.addoption(
        "--dmabuf-vm",
        metavar="KERNEL",
        help="run all of it under this kernel, in a virtual machine: 5.10, 6.1, 6.12, 7.3, native "
        "or the path of a bzImage; see dmabuf-vm --help",
    )
    parser.addini(
        "dmabuf_vm_options",
        type="args",
        help="further options of dmabuf-vm for --dmabuf-vm, such as --module vivid",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    config.addinivalue_line("markers", _MARKS)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Run this command again in a virtual machine, where that is asked for."""
    kernel = config.getoption("dmabuf_vm")
    if kernel is None or "DMABUF_VM" in os.environ:  # it is this machine
        return None
    machine = [sys.executable, "-m", "dmabuf.testing.vm", "--kernel", kernel]
    options = config.getini("dmabuf_vm_options")
    command = [sys.executable, "-m", "pytest", *map(str, config.invocation_params.args)]
    return subprocess.run([*machine, *options, "--", *command]).returncode


@pytest.fixture(autouse=True)
def _dmabuf_leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    """Look for leaks where that is asked for, from before the test's own fixtures to after them."""
    item = request.node
    options = _check_options(item)
    if options is None:
        yield
        return
    from dmabuf.usage.leaks import LeakCheck

    with LeakCheck(ends=_runner_frames(), **options) as check:
        item.stash[_unfinished] = False
        item.config.stash[_pardon] = check.pardon
        try:
            yield
        finally:
            del item.config.stash[_pardon]
        # What a test that failed has open is in its traceback, and no news.
        if not item.stash[_unfinished]:
            check.require_none()


def _check_options(item: pytest.Item) -> dict[str, bool] | None:
    """Return the options of an item's leak check; None where none is wanted."""
    mark = item.get_closest_marker("dmabuf_leak_check")
    if mark is None:
        return {} if item.config.getoption("dmabuf_leak_check") else None

    def read(
        enabled: bool = True, *, trace: bool = False, children: bool = False
    ) -> dict[str, bool] | None:
        return {"trace": trace, "children": children} if enabled else None

    try:
        return read(*mark.args, **mark.kwargs)
    except TypeError:
        raise pytest.UsageError(f"{item.nodeid}: the mark is {_MARKS}") from None


def _runner_frames() -> Callable[[FrameType], bool]:
    """Return a function that tells whether a frame is of what runs the tests."""
    files = [getattr(sys.modules.get(name), "__file__", None) for name in _RUNNERS]
    folders = tuple(os.path.dirname(file) + os.sep for file in files if file)
    return lambda frame: frame.f_code.co_filename.startswith(folders)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, None, None]:
    """Note that a test did not come to its end."""
    if call.when != "teardown" and call.excinfo is not None:
        item.stash[_unfinished] = True
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, None, None]:
    """Count what a fixture of wider scope opens as open before: it may outlive the test."""
    pardon = request.config.stash.get(_pardon, None)
    if pardon is None or fixturedef.scope == "function":
        yield
        return
    with pardon():
        yield


def _open(request: pytest.FixtureRequest, opener: Callable[[], _Opened], *words: str) -> _Opened:
    """Return what a function opens, which needs one of several things.

    Where it can't, and where one of them is required and missing, the test fails if one is
    required, and is skipped otherwise.
    """
    required = [word for word in words if word in request.config.getoption("dmabuf_require")]
    word = ""
    try:
        if required:
            from dmabuf.testing._machine import ATTEMPTS

            for word in required:
                ATTEMPTS[word]()
        return opener()
    except OSError as error:
        from dmabuf.errors import message_of

        cause = message_of(error)
    if required:
        pytest.fail(f"--dmabuf-require {word}: {cause}", pytrace=False)
    pytest.skip(cause)


@pytest.fixture
def dmabuf_heap(request: pytest.FixtureRequest) -> Iterator[dmabuf.Heap]:
    """Give the system heap, or else another heap that the CPU may access."""
    from dmabuf.testing._machine import open_heap

    with _open(request, open_heap, "heap") as heap:
        yield heap


@pytest.fixture
def dmabuf_buffer(request: pytest.FixtureRequest) -> Iterator[Callable[..., dmabuf.Buffer]]:
    """Give a function (size=4096, name=None) that allocates; the buffers are closed after the test.

    They come from the best exporter of the machine: a heap, udmabuf or vgem.
    """
    from dmabuf.testing.fences import allocate_here

    _open(request, lambda: allocate_here(4096), "heap", "udmabuf", "vgem").close()
    with ExitStack() as stack:

        def allocate(size: int = 4096, name: str | None = None) -> dmabuf.Buffer:
            return stack.enter_context(allocate_here(size, name=name))

        yield allocate


@pytest.fixture
def dmabuf_fence(request: pytest.FixtureRequest) -> Iterator[PendingFence]:
    """Give a pending fence, `.fence`, which `.signal()` signals: of vgem or a software timeline.

    A fence of vgem expires after 10 seconds. It is signalled and closed after the test.
    """
    from dmabuf.testing.fences import open_source

    with _open(request, open_source, "vgem", "debugfs") as source:
        pending = source.pending()
        with pending.fence:
            yield pending


@pytest.fixture
def dmabuf_camera(request: pytest.FixtureRequest) -> Iterator[Capture]:
    """Give a camera of the test driver vivid, set to small pictures."""
    from dmabuf.testing._machine import open_camera

    with _open(request, open_camera, "camera") as camera:
        yield camera


@pytest.fixture
def dmabuf_display(request: pytest.FixtureRequest) -> Iterator[Display]:
    """Give a display that imports buffers; its previous picture is restored after the test."""
    from dmabuf.testing._machine import open_display

    with _open(request, open_display, "display") as display:
        yield display
