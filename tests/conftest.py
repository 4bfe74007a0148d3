"""What the tests stand on: the machine's exporters, and the count of what must not leak."""

from __future__ import annotations

import contextlib
import gc
import glob
import os
import re
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers import drm, fences, screen, vgem
from helpers.drm import BUFINFO

import dmabuf
from dmabuf.devices.drm import GemBuffer, Vgem
from dmabuf.devices.kms import Display

CACHES = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
VM_CACHE = Path(os.environ.get("DMABUF_VM_CACHE") or Path(CACHES, "dmabuf-vm"))
INJECTED = "/sys/kernel/debug/failslab"

FEATURES: dict[str, tuple[Callable[[], bool], str]] = {
    "heap": (lambda: os.path.exists("/dev/dma_heap/system"), "the system heap"),
    "udmabuf": (lambda: os.path.exists("/dev/udmabuf"), "/dev/udmabuf"),
    "vgem": (lambda: vgem.node() is not None, "vgem (modprobe vgem)"),
    "bufinfo": (BUFINFO.exists, "debugfs, and root to read it"),
    "root": (lambda: os.geteuid() == 0, "root"),
    "outside": (lambda: not IN_OUR_MACHINE, "the machine that the virtual one runs on"),
    "stock kernel": (
        lambda: (VM_CACHE / "linux-6.12").is_dir(),
        "Linux 6.12 in the cache of scripts/vm (scripts/vm -- true)",
    ),
    "own machine": (lambda: IN_OUR_MACHINE, "our own virtual machine, which may be meddled with"),
    "no heap": (lambda: not os.path.exists("/sys/class/dma_heap"), "a kernel without heaps"),
    "no udmabuf": (
        lambda: not os.path.exists("/sys/class/misc/udmabuf"),
        "a kernel without udmabuf",
    ),
    "export": (lambda: RELEASE >= (6, 0), "Linux 6.0, which exports and imports fences"),
    "no export": (lambda: RELEASE < (6, 0), "a kernel before Linux 6.0"),
    "deadline": (lambda: RELEASE >= (6, 6), "Linux 6.6, whose fences take deadlines"),
    "no deadline": (lambda: RELEASE < (6, 6), "a kernel before Linux 6.6"),
    "sw_sync": (lambda: os.path.exists(dmabuf.sw_sync.PATH), "sw_sync (CONFIG_SW_SYNC), and root"),
    "no sw_sync": (lambda: not os.path.exists(dmabuf.sw_sync.PATH), "a kernel without sw_sync"),
    "vivid": (lambda: os.path.isdir("/sys/bus/platform/drivers/vivid"), "vivid (modprobe vivid)"),
    "vim2m": (lambda: os.path.isdir("/sys/bus/platform/drivers/vim2m"), "vim2m (modprobe vim2m)"),
    "gstreamer": (
        lambda: bool(glob.glob("/usr/lib/*/girepository-1.0/GstAllocators-1.0.typelib")),
        "GStreamer for the distribution's Python (see the Makefile)",
    ),
    "opencv": (lambda: find_spec("cv2") is not None, "OpenCV (opencv-python-headless)"),
    "torch": (
        lambda: find_spec("torch") is not None and (not IN_OUR_MACHINE or KERNEL == "6.12"),
        "PyTorch; in our own machine on Linux 6.12 alone, since its import takes a minute there",
    ),
    "v4l2-ctl": (lambda: shutil.which("v4l2-ctl") is not None, "v4l2-ctl (v4l-utils)"),
    "CMA heap": (
        lambda: any(info.contiguous for info in dmabuf.heaps()),
        "a heap of contiguous memory (CONFIG_DMABUF_HEAPS_CMA)",
    ),
    "injected failures": (
        lambda: os.path.exists("/proc/self/fail-nth") and os.path.exists(INJECTED),
        "allocations that fail when told to (CONFIG_FAILSLAB)",
    ),
    "device rules": (
        lambda: "\ndevices\t" in Path("/proc/cgroups").read_text(),
        "the devices controller of cgroups",
    ),
    "display": (lambda: has_display(), "a display that imports buffers, and that is nobody's"),
    "flips that wait": (
        lambda: RELEASE >= (5, 15),
        "Linux 5.15, where every display waits for those who write its images",
    ),
    "vkms": (lambda: drm.find("vkms") is not None, "vkms, a display without hardware"),
    "screendump": (
        lambda: "DMABUF_VM_SCREENDUMP" in os.environ,
        "our own virtual machine's screen (scripts/vm --display --out DIR)",
    ),
    "gpu": (lambda: drm.find("virtio_gpu") is not None, "a virtio GPU (scripts/vm --gpu)"),
    "syncobj": (lambda: drm.node("timeline") is not None, "a DRM driver with sync objects"),
    "second DRM driver": (
        lambda: len(list(Path("/dev/dri").glob("card*"))) > 1,
        "a DRM driver beside vgem",
    ),
}
# What the kernels of the project's virtual machine are known to lack.
RELEASE = tuple(map(int, re.match(r"(\d+)\.(\d+)", os.uname().release).groups()))
LAB = os.uname().release.endswith("-lab")  # the CONFIG_LOCALVERSION of scripts/lab-kernel.config
_OLD, _NEW = {"heap", "udmabuf"}, {"no heap", "no udmabuf"}
_STOCK = {"outside", "vkms", "sw_sync", "vim2m", "CMA heap", "injected failures"}
ABSENT = {
    "5.10": {*_OLD, *_STOCK, "syncobj", "flips that wait", "export", "deadline"},
    "6.1": {*_OLD, *_STOCK, "syncobj", "no export", "deadline"},
    "6.12": {*_NEW, *_STOCK, "no export", "no deadline"},
    "7.3": {*_NEW, *_STOCK, "no export", "no deadline"},
    "lab": {*_NEW, "outside", "no export", "no deadline", "no sw_sync", "device rules"},
}
KERNEL = "lab" if LAB else ".".join(map(str, RELEASE))
if KERNEL != "6.12" or find_spec("torch") is None:  # not every Python has a build of it
    ABSENT.setdefault(KERNEL, set()).add("torch")
IN_OUR_MACHINE = "DMABUF_VM" in os.environ


def has_display() -> bool:
    """Whether there is a display that buffers of others can be shown on."""
    with contextlib.suppress(OSError), Display():
        return True
    return False


def pytest_configure(config: pytest.Config) -> None:
    names = ", ".join(FEATURES)
    config.addinivalue_line("markers", f"needs(*features): what the machine must have: {names}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, by name, what this stock kernel is known to lack; skip what another machine lacks.

    In the project's own virtual machine nothing is skipped: what is missing there and is not in the
    table fails in the test that needs it.
    """
    absent = {feature for feature, (there, _) in FEATURES.items() if not there()}
    kept, left_out = [], []
    for item in items:
        needed = {feature for mark in item.iter_markers("needs") for feature in mark.args}
        assert needed <= set(FEATURES), f"{item.nodeid} needs something unknown: {needed}"
        missing = needed & absent
        if IN_OUR_MACHINE and missing and missing <= ABSENT.get(KERNEL, set()):
            left_out.append(item)
            continue
        if missing and not IN_OUR_MACHINE:
            cause = ", ".join(FEATURES[feature][1] for feature in sorted(missing))
            item.add_marker(pytest.mark.skip(reason=f"this machine lacks {cause}"))
        kept.append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


def kernel_buffers() -> int:
    """Return how many dma-bufs exist in the whole kernel; 0 where only root may know."""
    try:
        return int(re.search(r"Total (\d+) objects", BUFINFO.read_text(errors="replace"))[1])
    except (PermissionError, FileNotFoundError):
        return 0


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Fail a test that leaves a descriptor or a kernel buffer behind."""
    before = descriptors(), kernel_buffers()
    yield
    after = descriptors(), kernel_buffers()
    if after != before:
        gc.collect()
        after = descriptors(), kernel_buffers()
    assert after == before, f"descriptors and kernel buffers: {before} before, {after} after"


@pytest.fixture(scope="session")
def allocate() -> Callable[..., dmabuf.Buffer]:
    """Return a function that allocates (size, *, name): the system heap's, or vgem's without it."""
    if not FEATURES["heap"][0]():
        return vgem.allocate

    def from_system(size: int, *, name: str | None = None) -> dmabuf.Buffer:
        with dmabuf.Heap("system") as heap:
            return heap.allocate(size, name=name)

    return from_system


@pytest.fixture
def buffer(allocate: Callable[..., dmabuf.Buffer]) -> Iterator[dmabuf.Buffer]:
    """Give a buffer of two pages, closed at the end."""
    with allocate(8192) as buffer:
        yield buffer


@pytest.fixture(params=fences.SOURCES)
def source(
    request: pytest.FixtureRequest, allocate: Callable[..., dmabuf.Buffer]
) -> Iterator[fences.Source]:
    """Give a source of pending fences: each that this machine has."""
    with contextlib.closing(request.param(allocate)) as source:
        yield source


@pytest.fixture
def pending(source: fences.Source) -> Iterator[fences.Pending]:
    """Give a fence that is active until `pending.signal()`."""
    pending = source.pending()
    with pending.fence:
        yield pending


@pytest.fixture
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
def display() -> Iterator[Display]:
    """Give the display that imports buffers; the screen is restored at the end."""
    with Display(screen.path()) as display:
        yield display
