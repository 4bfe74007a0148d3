"""What tests need of the machine, by name, and what the project's own kernels are known to lack."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TypeVar

import dmabuf
from dmabuf.devices.kms import Display
from helpers import drm, uvc_camera, vfio, vgem
from helpers.buffers import has_heap
from helpers.drm import BUFINFO
from helpers.leaks import IN_OUR_MACHINE
from helpers.pipelines import has_unixfd

CACHES = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
VM_CACHE = Path(os.environ.get("DMABUF_VM_CACHE") or Path(CACHES, "dmabuf-vm"))
INJECTED = "/sys/kernel/debug/failslab"
RELEASE = tuple(map(int, re.match(r"(\d+)\.(\d+)", os.uname().release).groups()))
LAB = os.uname().release.endswith("-lab")  # the CONFIG_LOCALVERSION of scripts/lab-kernel.config
KERNEL = "lab" if LAB else ".".join(map(str, RELEASE))

USERLAND = os.environ.get("DMABUF_VM_USERLAND")

_Function = TypeVar("_Function", bound=Callable[..., object])


class Feature(NamedTuple):
    """Whether the machine has it, and what to call it where it has not."""

    is_there: Callable[[], bool]
    words: str


def _has_exporter() -> bool:
    return has_heap() or vgem.node() is not None


def _has_udmabuf() -> bool:
    return os.access("/dev/udmabuf", os.R_OK | os.W_OK)


def _has_video(driver: str) -> bool:
    """Whether this process may open a node of a V4L2 test driver."""
    nodes = glob.glob(f"/sys/bus/platform/drivers/{driver}/*/video4linux/video*")
    return any(os.access(f"/dev/{os.path.basename(node)}", os.R_OK | os.W_OK) for node in nodes)


def _has_display() -> bool:
    """Whether there is a display that buffers of others can be shown on."""
    with contextlib.suppress(OSError), Display():
        return True
    return False


def _has_device_rules() -> bool:
    with contextlib.suppress(FileNotFoundError):
        return "\ndevices\t" in Path("/proc/cgroups").read_text()
    return False


FEATURES = {
    "exporter": Feature(_has_exporter, "an exporter: the system heap, or vgem (modprobe vgem)"),
    "heap": Feature(has_heap, "the system heap (CONFIG_DMABUF_HEAPS_SYSTEM), or access to it"),
    "udmabuf": Feature(_has_udmabuf, "/dev/udmabuf (modprobe udmabuf), or access to it"),
    "no vgem": Feature(lambda: not os.path.isdir("/sys/module/vgem"), "a kernel without vgem"),
    "vgem": Feature(lambda: vgem.node() is not None, "vgem (modprobe vgem), or access to it"),
    "bufinfo": Feature(
        lambda: os.access(BUFINFO, os.R_OK), "/sys/kernel/debug/dma_buf, or root to read it"
    ),
    "root": Feature(lambda: os.geteuid() == 0, "root"),
    "32 bits": Feature(lambda: sys.maxsize < 1 << 32, "a Python of 32 bits"),
    "outside": Feature(lambda: not IN_OUR_MACHINE, "the machine that the virtual one runs on"),
    "stock kernel": Feature(
        lambda: (VM_CACHE / "linux-6.12").is_dir(),
        "Linux 6.12 in the cache of scripts/vm (scripts/vm -- true)",
    ),
    "own machine": Feature(
        lambda: IN_OUR_MACHINE, "our own virtual machine, which may be meddled with"
    ),
    "no heap": Feature(lambda: not os.path.exists("/sys/class/dma_heap"), "a kernel without heaps"),
    "no udmabuf": Feature(
        lambda: not os.path.exists("/sys/class/misc/udmabuf"), "a kernel without udmabuf"
    ),
    "export": Feature(lambda: RELEASE >= (6, 0), "Linux 6.0, which exports and imports fences"),
    "no export": Feature(lambda: RELEASE < (6, 0), "a kernel before Linux 6.0"),
    "poll trap": Feature(
        lambda: RELEASE < (5, 16), "a kernel before Linux 5.16, whose polls keep no buffer"
    ),
    "deadline": Feature(lambda: RELEASE >= (6, 6), "Linux 6.6, whose fences take deadlines"),
    "no deadline": Feature(lambda: RELEASE < (6, 6), "a kernel before Linux 6.6"),
    "passrights": Feature(
        lambda: RELEASE >= (6, 16), "Linux 6.16, where a socket can refuse descriptors"
    ),
    "huge pages": Feature(
        lambda: os.path.isdir("/sys/kernel/mm/hugepages"), "huge pages (CONFIG_HUGETLBFS)"
    ),
    "BPF iterator": Feature(
        lambda: RELEASE >= (6, 16) and os.path.exists("/sys/kernel/btf/vmlinux"),
        "Linux 6.16, whose BPF programs can go through all buffers (CONFIG_DEBUG_INFO_BTF)",
    ),
    "sw_sync": Feature(
        lambda: os.access(dmabuf.sw_sync.PATH, os.R_OK | os.W_OK),
        "sw_sync (CONFIG_SW_SYNC), and root",
    ),
    "no sw_sync": Feature(
        lambda: not os.path.exists(dmabuf.sw_sync.PATH), "a kernel without sw_sync"
    ),
    "vivid": Feature(lambda: _has_video("vivid"), "vivid (modprobe vivid), or access to it"),
    "no vim2m": Feature(
        lambda: not _has_video("vim2m"), "no vim2m, which would be the first V4L2 device"
    ),
    "vim2m": Feature(lambda: _has_video("vim2m"), "vim2m (modprobe vim2m), or access to it"),
    "vicodec": Feature(
        lambda: _has_video("vicodec"), "vicodec (modprobe vicodec), or access to it"
    ),
    "vimc": Feature(lambda: _has_video("vimc"), "vimc (modprobe vimc), or access to it"),
    "visl": Feature(lambda: _has_video("visl"), "visl (modprobe visl), or access to it"),
    "libcamera": Feature(
        lambda: find_spec("libcamera") is not None,
        "libcamera's Python bindings (python3-libcamera)",
    ),
    "no libcamera": Feature(
        lambda: find_spec("libcamera") is None, "a Python without libcamera's bindings"
    ),
    "ffmpeg": Feature(
        lambda: bool(glob.glob("/usr/lib/*/libavutil.so.59")),
        "libavutil of FFmpeg 7 (libavutil59)",
    ),
    "pipewire": Feature(
        lambda: (
            bool(glob.glob("/usr/lib/*/gstreamer-1.0/libgstpipewire.so"))
            and shutil.which("pw-link") is not None
        ),
        "PipeWire, and GStreamer's elements for it (pipewire, gstreamer1.0-pipewire)",
    ),
    "vfio": Feature(
        lambda: RELEASE >= (6, 19) and vfio.device() is not None,
        "Linux 6.19, and a PCI device to take memory of (scripts/vm --vfio)",
    ),
    "uvc camera": Feature(
        lambda: uvc_camera.DRIVER.is_dir() and os.access(uvc_camera.PORT / "attach", os.W_OK),
        "a virtual host controller for a camera (modprobe vhci_hcd; modprobe uvcvideo), and root",
    ),
    "gstreamer": Feature(
        lambda: bool(glob.glob("/usr/lib/*/girepository-1.0/GstAllocators-1.0.typelib")),
        "GStreamer for the distribution's Python (see the Makefile)",
    ),
    "unixfd": Feature(
        has_unixfd, "GStreamer from 1.24 on, with its unixfd plugin (gstreamer1.0-plugins-bad)"
    ),
    "egl": Feature(
        lambda: bool(glob.glob("/usr/lib/*/libEGL.so.1")) and find_spec("OpenGL") is not None,
        "EGL with a driver that imports dma-bufs (libegl1), and PyOpenGL",
    ),
    "vulkan": Feature(
        lambda: bool(glob.glob("/usr/lib/*/libvulkan.so.1")) and find_spec("vulkan") is not None,
        "Vulkan with a driver that imports dma-bufs (libvulkan1), and the package vulkan of PyPI",
    ),
    "weston": Feature(
        lambda: shutil.which("weston-screenshooter") is not None,
        "weston with its tools, a Wayland compositor (weston)",
    ),
    "moderngl": Feature(lambda: find_spec("moderngl") is not None, "moderngl"),
    "opencv": Feature(lambda: find_spec("cv2") is not None, "OpenCV (opencv-python-headless)"),
    "torch": Feature(
        lambda: find_spec("torch") is not None and (not IN_OUR_MACHINE or LAB),
        "PyTorch; in our own machine on the lab kernel alone: emulated, its import takes a minute",
    ),
    "zsh": Feature(lambda: shutil.which("zsh") is not None, "zsh"),
    "fish": Feature(lambda: shutil.which("fish") is not None, "fish"),
    "groff": Feature(lambda: shutil.which("groff") is not None, "groff"),
    "graphviz": Feature(lambda: shutil.which("dot") is not None, "Graphviz (graphviz)"),
    "zenoh": Feature(lambda: find_spec("zenoh") is not None, "Zenoh (eclipse-zenoh)"),
    "v4l2-ctl": Feature(lambda: shutil.which("v4l2-ctl") is not None, "v4l2-ctl (v4l-utils)"),
    "CMA heap": Feature(
        lambda: any(info.contiguous for info in dmabuf.heaps()),
        "a heap of contiguous memory (CONFIG_DMABUF_HEAPS_CMA)",
    ),
    "injected failures": Feature(
        lambda: os.path.exists("/proc/self/fail-nth") and os.path.exists(INJECTED),
        "allocations that fail when told to (CONFIG_FAILSLAB)",
    ),
    "device rules": Feature(_has_device_rules, "the devices controller of cgroups"),
    "display": Feature(_has_display, "a display that imports buffers, and that is nobody's"),
    "flips that wait": Feature(
        lambda: RELEASE >= (5, 15),
        "Linux 5.15, where every display waits for those who write its images",
    ),
    "vkms": Feature(lambda: drm.find("vkms") is not None, "vkms, a display without hardware"),
    "screendump": Feature(
        lambda: "DMABUF_VM_SCREENDUMP" in os.environ,
        "our own virtual machine's screen (scripts/vm --display --out DIR)",
    ),
    "gpu": Feature(lambda: drm.find("virtio_gpu") is not None, "a virtio GPU (scripts/vm --gpu)"),
    "syncobj": Feature(lambda: drm.node("timeline") is not None, "a DRM driver with sync objects"),
    "second DRM driver": Feature(
        lambda: len(list(Path("/dev/dri").glob("card*"))) > 1, "a DRM driver beside vgem"
    ),
}

# What the kernels of the project's virtual machine are known to lack.
_OLD, _NEW = {"heap", "udmabuf"}, {"no heap", "no udmabuf"}
_STOCK = {"outside", "unixfd", "vkms", "sw_sync", "vim2m", "CMA heap", "injected failures"}
_STOCK |= {"no vgem", "egl", "moderngl", "vulkan", "weston", "vicodec", "vimc", "visl"}
_STOCK |= {"libcamera", "ffmpeg", "pipewire", "32 bits"}
ABSENT = {
    "5.10": {*_OLD, *_STOCK, "syncobj", "flips that wait", "export", "deadline"},
    "6.1": {*_OLD, *_STOCK, "syncobj", "no export", "deadline"},
    "6.12": {*_NEW, *_STOCK, "no export", "no deadline"},
    "7.3": {*_NEW, *_STOCK, "no export", "no deadline"},
    "lab": {
        *(*_NEW, "outside", "unixfd", "no export", "no deadline", "no sw_sync", "device rules"),
        *("uvc camera", "no vgem", "no vim2m", "egl", "moderngl", "vulkan", "weston"),
        *("libcamera", "ffmpeg", "pipewire", "32 bits"),
    },
}
if RELEASE < (6, 16):
    ABSENT.setdefault(KERNEL, set()).update(("passrights", "BPF iterator"))
if RELEASE < (6, 19):
    ABSENT.setdefault(KERNEL, set()).add("vfio")
if RELEASE >= (5, 16):
    ABSENT.setdefault(KERNEL, set()).add("poll trap")
if not LAB or find_spec("torch") is None:  # not every Python has a build of it
    ABSENT.setdefault(KERNEL, set()).add("torch")
# The virtual machine has the machine's own programs.
for program, feature in (("zsh", "zsh"), ("fish", "fish"), ("groff", "groff"), ("dot", "graphviz")):
    if shutil.which(program) is None:
        ABSENT.setdefault(KERNEL, set()).add(feature)

# Emulated, the whole suite takes longer than anybody waits. So `make test` runs each test once:
# what needs nothing of the machine stays outside, these files go to one kernel, and all others to
# a second beside it.
SHARED = "DMABUF_TEST_SHARED" in os.environ and not USERLAND
FIRST, SECOND = "6.12", "7.3"
OF_FIRST = (
    *("test_cli*", "test_examples*", "test_guides", "test_log", "test_memory", "test_notebook"),
    *("test_odd_machines", "test_plugin", "test_rgb", "test_usage*", "test_v4l2*", "test_uvc"),
)
OUTSIDE = 'pytestmark = pytest.mark.needs("outside")'


def is_run_elsewhere(file: Path) -> bool:
    """Whether a file of tests has its turn on another kernel, or outside of our own machine."""
    if not IN_OUR_MACHINE or not fnmatch(file.name, "test_*.py"):
        return False
    if OUTSIDE in file.read_text():
        return True
    is_of_first = any(fnmatch(file.stem, name) for name in OF_FIRST)
    return SHARED and (SECOND if is_of_first else FIRST) == KERNEL


# scripts/vm --userland
_USERLANDS = {
    "media": {"unixfd", "libcamera", "ffmpeg", "pipewire"},
    "gpu": {"egl", "moderngl", "vulkan"},
    "desktop": {"weston"},
    "i386": {"32 bits"},
    "arm64": {"no heap"},
}
ABSENT.setdefault(KERNEL, set()).difference_update(_USERLANDS.get(USERLAND, ()))
if USERLAND:  # which doesn't show the machine's own cache
    ABSENT.setdefault(KERNEL, set()).add("stock kernel")
if USERLAND == "media":
    ABSENT.setdefault(KERNEL, set()).add("no libcamera")
if USERLAND in ("i386", "arm64", "python3.13", "python3.14"):
    ABSENT.setdefault(KERNEL, set()).update({"gstreamer", "opencv", "zenoh"})
if USERLAND == "arm64":
    ABSENT.setdefault(KERNEL, set()).add("heap")  # DMABUF_HEAPS is not set


def needs(*features: str) -> Callable[[_Function], _Function]:
    """Say what a fixture needs: each test that asks for the fixture needs it too."""

    def mark(fixture: _Function) -> _Function:
        fixture.__dict__["needs"] = features
        return fixture

    return mark
